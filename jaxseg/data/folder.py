"""A folder with images/ and masks/ as a data set: the user's own pictures.

Masks are pictures, or outlines in COCO and labelme JSON files (`jaxseg.data.outlines`).
"""

import contextlib
import dataclasses
import hashlib
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from jaxseg.config import DataConfig
from jaxseg.config.datasets import NAMES, nearest
from jaxseg.data import outlines
from jaxseg.data.examples import Example, Examples
from jaxseg.data.groups import read_groups
from jaxseg.data.identity import read_file, stamp_of
from jaxseg.data.images import decode_image, lesion_colour
from jaxseg.data.listing import MASK_SUFFIXES, SPLIT_NAMES, list_images, named, refuse_empty
from jaxseg.data.masks import MaskRule
from jaxseg.data.outlines import Outlines
from jaxseg.data.pairs import Pair, check_sizes, oriented
from jaxseg.errors import UserError

SIDES = ("train", "validation")
"""Folders that a data set folder may hold instead of images/ and masks/, each with images/ and masks/ of its own."""

ALSO = {"images": (), "masks": (outlines.SUFFIX,)}
"""Endings of the files that each of the two folders may hold besides pictures."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Mask:
    """A mask that lies in masks/, as a file or in one.

    Attributes:
      name: what it is called, without ending.
      file: its file.
      outlines: what is drawn, where the file holds outlines.
      names_image: whether the name is its image's, as in COCO files; other masks are called like their images.
      drawn_on: name of the image that labelme's file says it was drawn on, without folders and ending; else "".
    """

    name: str
    file: Path
    outlines: Outlines | None = None
    names_image: bool = False
    drawn_on: str = ""

    @property
    def shown(self) -> str:
        """What a message calls it."""
        return self.file.name if self.outlines is None else f"{self.file.name}: {self.name}"


def has_own_validation(folder: str) -> bool:
    """Returns whether a data set folder holds train/ and validation/ instead of images/ and masks/."""
    root = Path(folder).expanduser()
    return all((root / side).is_dir() for side in SIDES) and not (root / "images").is_dir()


def open_folder(config: DataConfig, split: str = "all") -> Examples:
    """Opens a folder of pairs; reads the headers of its files but decodes none.

    Args:
      config: the folder, and how its masks and groups are to be read.
      split: "all"; "train" or "validation" of a folder that has its own validation images.

    Returns:
      The pairs ordered by path; groups are "". A name is the path below images/ without its ending, in Unicode's
      composed form (NFC); in a folder with its own validation images it begins with "train/" or "validation/".

    Raises:
      UserError: no such folder, no images/ or masks/ in it, no images, an image without a mask or with two, an
        unreadable file, an image and a mask of different sizes, or a mask of which the EXIF orientation is unclear.
    """
    folder = config.name
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(
            f"--data {folder}: neither a known data set ({', '.join(NAMES)}) nor a folder (looked for "
            f"{root.absolute()}){'; it is a file: unpack an archive first' if root.is_file() else nearest(folder)}"
        )
    files, label = _pairs_of(root, split)
    pairs = oriented(files.values(), config.mask_orientation)
    names = tuple(files)
    rule = MaskRule(config.mask_lesion, config.mask_invert)
    if config.mask_lesion:
        _tell_of_outlines(pairs)

    def load_mask(index: int) -> np.ndarray:
        return pairs[index].load_mask(rule)

    def load(index: int) -> Example:
        image, mask = decode_image(pairs[index].image), load_mask(index)
        check_sizes(pairs[index], image.shape[:2], mask.shape[:2])
        return Example(image, mask)

    def stamp(index: int) -> str:
        pair = pairs[index]
        # Which label means lesion depends on all files of outlines.
        drawn = f"; label {label!r}" if pair.outlines else ""
        return f"{stamp_of((pair.image, pair.mask))}; {rule}; {pair.orientation}{drawn}"

    def lesion_colour_at(index: int) -> tuple[int, int, int] | None:
        return None if pairs[index].outlines else lesion_colour(pairs[index].mask)

    return Examples(
        str(root.resolve()),
        split,
        names,
        ("",) * len(names),
        load,
        _version(files.values()),
        kept_together=read_groups(config.groups, names) if config.groups else (),
        load_mask=load_mask,
        read_image=lambda index: read_file(pairs[index].image),
        lesion_colour=None if config.decides_masks else lesion_colour_at,
        stamp=stamp,
    )


def _pairs_of(root: Path, split: str) -> tuple[dict[str, Pair], str]:
    """Returns image and mask by name of the wanted side or sides of a set, and the label of drawn lesions."""
    if has_own_validation(str(root)):
        label = _label_of_lesions([root / side / "masks" for side in SIDES], tell=split != "validation")
        sides = SIDES if split == "all" else (split,)
        found = {f"{side}/{name}": pair for side in sides for name, pair in _pairs_in(root / side, label).items()}
    else:
        label = _label_of_lesions([root / "masks"])
        found = _pairs_in(root, label)
        _tell_of_subfolders(root)
    if split != "validation":  # told once, not of each side
        _tell_of_other_folders(root)
    return found, label


def _tell_of_outlines(pairs: Iterable[Pair]) -> None:
    """Warns where the user names what is lesion in masks, and some masks are outlines, which have labels."""
    if drawn := sorted({pair.mask.name for pair in pairs if pair.outlines}):
        _log.warning(
            "--data.mask-lesion: says nothing of %d files of outlines (%s), in which the label of lesions is %r",
            len(drawn),
            named(drawn),
            outlines.LESION,
        )


def _pairs_in(root: Path, label: str) -> dict[str, Pair]:
    """Returns image and mask by name, of a folder that holds images/ and masks/; `label` is that of drawn lesions."""
    images, masks = _files_in(root, "images"), _files_in(root, "masks")
    return _pairs(_by_name(images, root / "images"), masks, root, label)


def _tell_of_other_folders(root: Path) -> None:
    """Logs which folders beside the images hold images of their own, as test/images."""
    used = SIDES if has_own_validation(str(root)) else ()
    others = sorted(path.name for path in root.iterdir() if path.name not in used and (path / "images").is_dir())
    if others:
        _log.warning(
            "%s: left out %s, with images/ of their own; --data %s opens one of them",
            root,
            " and ".join(f"{name}/" for name in others),
            root / others[0],
        )


def _tell_of_subfolders(root: Path) -> None:
    """Warns where images/ is divided as other tools divide it: the parts, such as test images, are no split here."""
    parts = sorted(
        path.name for path in (root / "images").iterdir() if path.is_dir() and path.name.lower() in SPLIT_NAMES
    )
    if parts:
        _log.warning(
            "%s: images/%s %s here: all of images/ is trained on and validated on; for your own split make train/ and "
            "validation/, with images/ and masks/ in each, and keep test images elsewhere",
            root,
            "/, images/".join(parts) + "/",
            "are not separate splits" if len(parts) > 1 else "is not a separate split",
        )


def _files_in(root: Path, part: str) -> tuple[Path, ...]:
    """Returns the image files in images/ or masks/, and logs what is left out."""
    folder = root / part
    if not folder.is_dir():
        raise UserError(
            f"{root}: has no folder {part}/ in it; a data set folder holds images/ and masks/, or train/ and "
            f"validation/ with images/ and masks/ in each{_parent_of(root)}"
        )
    listing = list_images(folder, also=ALSO[part])
    if lost := [path for path in listing.images if not path.exists()]:
        raise UserError(f"{lost[0]}: a link to a file that is not there; mend it, or take it out")
    if part == "images":
        refuse_empty(listing, str(folder))
    if sentence := listing.sentence():
        _log.warning("%s", sentence)
    return listing.images


def _parent_of(root: Path) -> str:
    is_part = root.name in ("images", "masks") and (root.parent / "images").is_dir()
    return f"; give {root.parent}" if is_part else ""


def _name(path: Path, folder: Path) -> str:
    """Returns a file's path in a folder without its ending, in the one form that Unicode calls composed."""
    # macOS writes "é" as two characters: without this, an image and its mask from two machines would not pair up.
    return unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())


def _by_name(images: Sequence[Path], folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in images:
        name = _name(path, folder)
        if name in found:
            raise UserError(f"{path}: there is also {found[name].name}; keep one image of each name")
        found[name] = path
    return found


def _pairs(images: Mapping[str, Path], masks: Sequence[Path], root: Path, label: str = "") -> dict[str, Pair]:
    """Finds the mask of each image, and warns of masks that have none."""
    owned: dict[str, _Mask] = {}
    orphans = []
    cut: dict[str, str] = {}
    for mask in _masks_in(masks, root / "masks", label):
        if mask.names_image:
            owner, folder = _named_image(mask.name, images)
            if owner is not None:
                cut.setdefault(folder, f"{mask.name} for {owner}")
        else:
            owner = _owner(mask.name, images)
        if owner is None:
            orphans.append(mask.shown)
        elif owner in owned:
            raise UserError(_told_twice(images[owner], owned[owner], mask))
        else:
            owned[owner] = mask
    _refuse_masks_among_images(owned, images, root)
    if missing := [name for name in images if name not in owned]:
        count = f" (and {len(missing) - 1} more images)" if len(missing) > 1 else ""
        raise UserError(
            f"{images[missing[0]]}: no mask in {root / 'masks'}{count}; name it {missing[0]}.png or "
            f"{missing[0]}_mask.png, or take the image out"
        )
    if len(cut) > 1:
        _log.warning(
            "%s: outlines name images in %d folders that are not below images/, and are matched without these: %s",
            root / "masks",
            len(cut),
            named(cut.values()),
        )
    _tell_of_other_images(owned, images, root)
    if orphans:
        _log.warning("%s: ignored masks without an image: %d, as %s", root / "masks", len(orphans), named(orphans))
    return {name: Pair(images[name], owned[name].file, owned[name].outlines) for name in images}


def _told_twice(image: Path, first: _Mask, second: _Mask) -> str:
    """Returns what is wrong with an image that has two masks."""
    if first.file == second.file:
        return f"{first.file}: names the image {image.name} twice, as {first.name} and {second.name}; keep one of them"
    return f"{second.file}: {image.name} has also the mask {first.file.name}; keep one of them"


def _tell_of_other_images(owned: Mapping[str, _Mask], images: Mapping[str, Path], root: Path) -> None:
    """Warns of outlines that were drawn on another image of the set than the one that their file is called like."""
    files = {PurePosixPath(name).name: path for name, path in images.items()}
    elsewhere = [
        f"{mask.file.name} on {files[mask.drawn_on].name}"
        for owner, mask in owned.items()
        if mask.drawn_on in files and mask.drawn_on != PurePosixPath(owner).name
    ]
    if elsewhere:
        _log.warning(
            "%s: %d labelme files are called like one image, but were drawn on another, as their imagePath says (%s); "
            "their outlines are taken for the image that they are called like",
            root / "masks",
            len(elsewhere),
            named(elsewhere),
        )


def _refuse_masks_among_images(owned: Mapping[str, _Mask], images: Mapping[str, Path], root: Path) -> None:
    """Refuses a mask that also lies among the images: it went to its own copy, and its image has none."""
    for name in owned:
        bare = [name[: -len(suffix)] for suffix in MASK_SUFFIXES if name.lower().endswith(suffix)]
        if image := next((path for path in bare if path in images and path not in owned), None):
            raise UserError(
                f"{images[image]}: its mask {owned[name].file.name} went to {images[name].name}, which lies in "
                f"{root / 'images'} as well; if that is the mask again, take it out of there"
            )


def _masks_in(files: Iterable[Path], folder: Path, label: str) -> Iterator[_Mask]:
    """Yields the masks in files; of a COCO file, one for each of its images."""
    for path in files:
        if path.suffix.lower() != outlines.SUFFIX:
            yield _Mask(_name(path, folder), path)
            continue
        try:
            file = outlines.open_outlines(path)
            found = file.outlines(label)
        except outlines.NoOutlinesError as error:
            _log.warning("left out: %s", error)
            continue
        for image, drawn in found.items():
            name = _without_ending(image) if image else _name(path, folder)
            yield _Mask(name, path, drawn, bool(image), _without_ending(file.image) if file.image else "")


def _label_of_lesions(folders: Sequence[Path], *, tell: bool = True) -> str:
    """Returns the label that means lesion in all files of outlines; "" where each file's only label does.

    Args:
      folders: those of the masks, of both sides of a set.
      tell: whether to warn where labels differ.
    """
    files: dict[str, list[str]] = {}
    listed = [list_images(folder, also=ALSO["masks"]).images for folder in folders if folder.is_dir()]
    for path in (path for paths in listed for path in paths if path.suffix.lower() == outlines.SUFFIX):
        with contextlib.suppress(outlines.NoOutlinesError):  # told where it is read
            for label in sorted(outlines.open_outlines(path).labels, key=str):
                files.setdefault(label, []).append(path.name)
    has_lesion = outlines.LESION in files
    others = {label: found for label, found in files.items() if label != outlines.LESION}
    if tell and others and len(files) > 1:
        _log.warning(
            "%s: the outlines have the labels %s; %s",
            " and ".join(map(str, folders)),
            ", ".join(f"{label!r} ({named(found)})" for label, found in files.items()),
            f"only {outlines.LESION!r} is taken for lesion"
            if has_lesion
            else f"a file's only label is taken for lesion, whatever it is; call lesions {outlines.LESION!r}",
        )
    return outlines.LESION if has_lesion else ""


def _without_ending(name: str) -> str:
    """Returns an image's name, as a file of outlines gives it, without its ending and composed, as `_name` does."""
    return unicodedata.normalize("NFC", PurePosixPath(name).with_suffix("").as_posix())


def _owner(mask_name: str, images: Mapping[str, Path]) -> str | None:
    """Returns the image that a mask belongs to; an image of the same name goes before one without the suffix."""
    bare = [mask_name[: -len(suffix)] for suffix in MASK_SUFFIXES if mask_name.lower().endswith(suffix)]
    return next((name for name in [mask_name, *bare] if name in images), None)


def _named_image(name: str, images: Mapping[str, Path]) -> tuple[str | None, str]:
    """Returns the image that a COCO file names, and the folders above it that lead to images/, as COCO files may."""
    parts = name.split("/")
    for start in range(len(parts)):
        if (rest := "/".join(parts[start:])) in images:
            return rest, "/".join(parts[:start])
    return None, ""


def _version(pairs: Iterable[Pair]) -> str:
    """Returns a hash of the files' sizes in bytes: it tells edited files without reading them."""
    sizes = ",".join(str(path.stat().st_size) for pair in pairs for path in (pair.image, pair.mask))
    return hashlib.sha256(sizes.encode()).hexdigest()[:16]
