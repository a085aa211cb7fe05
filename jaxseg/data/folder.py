"""A folder with images/ and masks/ as a data set: the user's own pictures."""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from jaxseg.data.examples import Example, Examples
from jaxseg.data.images import SUFFIXES, decode_image, decode_mask, size_of
from jaxseg.errors import UserError, refuse_unreadable, suggestion

MASK_SUFFIXES = ("_segmentation", "_lesion", "_mask")
"""What a mask's name may add to its image's, in lower or upper case."""

_log = logging.getLogger(__name__)


def open_folder(folder: str, known: Iterable[str] = ()) -> Examples:
    """Opens a folder of pairs; reads the headers of its files but decodes none.

    Args:
      folder: path of the folder that holds images/ and masks/.
      known: names of data sets that could have been meant instead.

    Returns:
      All pairs, as the split "all", ordered by name; groups are "".

    Raises:
      UserError: no such folder, no images/ or masks/ in it, no images, an image without a mask or with two, an
        unreadable file, or an image and a mask of different sizes.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(
            f"--data {folder}: neither a known data set ({', '.join(known)}) nor a folder (looked for "
            f"{root.absolute()}){suggestion(folder, known)}"
        )
    images, masks = _files_in(root, "images"), _files_in(root, "masks")
    if not images:
        raise UserError(f"{root / 'images'}: no images in there (files that end in {' '.join(SUFFIXES)})")
    pairs = _pairs(_by_stem(images), masks, root)
    for image, mask in pairs.values():
        _check_sizes(image, size_of(image), mask, size_of(mask))
    names = tuple(pairs)

    def load(index: int) -> Example:
        image_path, mask_path = pairs[names[index]]
        image, mask = decode_image(image_path), decode_mask(mask_path)
        _check_sizes(image_path, image.shape[:2], mask_path, mask.shape[:2])
        return Example(image, mask)

    return Examples(str(root.resolve()), "all", names, ("",) * len(names), load, _version(pairs.values()))


def _files_in(root: Path, part: str) -> list[Path]:
    folder = root / part
    if not folder.is_dir():
        raise UserError(f"{root}: has no folder {part}/ in it; a data set folder holds images/ and masks/")
    # Hidden files are left out: the Mac's companion files ("._a.jpg") look like images.
    try:
        entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    except OSError as error:
        refuse_unreadable(error)
    if lost := [path for path in entries if path.is_symlink() and not path.exists()]:
        raise UserError(f"{lost[0]}: a link to a file that is not there; mend it, or take it out")
    files = [path for path in entries if path.is_file()]
    kept = [path for path in files if path.suffix.lower() in SUFFIXES]
    if ignored := len(files) - len(kept):
        _log.warning("%s: ignored files that do not end in %s: %d", folder, " ".join(SUFFIXES), ignored)
    return kept


def _by_stem(images: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in images:
        if path.stem in found:
            raise UserError(f"{path}: there is also {found[path.stem].name}; keep one image of each name")
        found[path.stem] = path
    return found


def _pairs(images: Mapping[str, Path], masks: list[Path], root: Path) -> dict[str, tuple[Path, Path]]:
    """Finds the mask of each image, and warns of masks that have none."""
    owned: dict[str, Path] = {}
    orphans = []
    for mask in masks:
        owner = _owner(mask.stem, images)
        if owner is None:
            orphans.append(mask.name)
        elif owner in owned:
            raise UserError(f"{mask}: {images[owner].name} has also the mask {owned[owner].name}; keep one of them")
        else:
            owned[owner] = mask
    if missing := [path for stem, path in images.items() if stem not in owned]:
        count = f" (and {len(missing) - 1} more images)" if len(missing) > 1 else ""
        raise UserError(
            f"{missing[0]}: no mask in {root / 'masks'}{count}; name it {missing[0].stem}.png or "
            f"{missing[0].stem}_mask.png, or take the image out"
        )
    if orphans:
        _log.warning("%s: ignored masks without an image: %d, as %s", root / "masks", len(orphans), orphans[0])
    return {stem: (path, owned[stem]) for stem, path in images.items()}


def _owner(mask_stem: str, images: Mapping[str, Path]) -> str | None:
    """Returns the image that a mask belongs to; an image of the very same name goes before one without the suffix."""
    bare = [mask_stem[: -len(suffix)] for suffix in MASK_SUFFIXES if mask_stem.lower().endswith(suffix)]
    return next((stem for stem in [mask_stem, *bare] if stem in images), None)


def _check_sizes(image: Path, size: tuple[int, int], mask: Path, mask_size: tuple[int, int]) -> None:
    if size != mask_size:
        raise UserError(
            f"{image}: {size[1]}x{size[0]} pixels, but its mask {mask} has {mask_size[1]}x{mask_size[0]}; save both "
            "at the same size"
        )


def _version(pairs: Iterable[tuple[Path, Path]]) -> str:
    """Returns a hash of the files' sizes in bytes: it tells edited files without reading them."""
    sizes = ",".join(str(path.stat().st_size) for pair in pairs for path in pair)
    return hashlib.sha256(sizes.encode()).hexdigest()[:16]
