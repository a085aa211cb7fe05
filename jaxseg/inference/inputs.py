"""The images that predict is given, and the files that it will write for each; imports no JAX."""

import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxseg.data.images import decode_mask
from jaxseg.data.listing import MASK_SUFFIXES, SUFFIXES, Listing, list_images, named, refuse_empty
from jaxseg.errors import UserError
from jaxseg.report.figures import maker_of_png

log = logging.getLogger("jaxseg.predict")


ENDINGS = {
    "mask": "_mask.png",
    "overlay": "_overlay.png",
    "probability": "_probability.png",
    "uncertainty": "_uncertainty.png",
    "geojson": "_contour.geojson",
    "labelme": "_contour.json",
    "svg": "_contour.svg",
}
"""What the name of each product's file adds to that of its image."""


_OF_RESULTS = ("config.json", "predictions.csv")
"""Files that tell a folder of a run, or of results of predict."""


@dataclasses.dataclass(frozen=True)
class InputImage:
    """One image to segment.

    Attributes:
      source: the image's file.
      products: the files to write, by product, one of `ENDINGS`.
      name: what results are called: the mask's path below the output folder, without "_mask.png".
      mask: the mask's file, also where it is there already and not to be written.
      relative: the image's path below the input folder.
    """

    source: Path
    products: Mapping[str, Path]
    name: str
    mask: Path
    relative: str

    def result(self, product: str, name: str | None = None) -> Path:
        """Returns where a product is, or would be.

        Args:
          product: one of `ENDINGS`.
          name: what its results would be called; default: what they are called.
        """
        return self.mask.with_name(Path(name or self.name).name + ENDINGS[product])

    @functools.cached_property
    def mask_area(self) -> int | None:
        """Lesion pixels of the mask that is there; None where none can be read."""
        try:
            return int(np.count_nonzero(decode_mask(self.mask)))
        except UserError:
            return None


def folder_to_lock(source: Path, output: Path) -> Path:
    """Returns the folder that predict writes into: `output`, or its parent where it is the one file to write.

    Args:
      source: what `--input` names.
      output: what `--output` names.
    """
    return output.parent if _is_one_file(source, output) else output


def common_file(source: Path, output: Path, name: str) -> Path:
    """Returns the path of a file about all images of a folder: in `output`, or beside it where it is one mask's file.

    Args:
      source: what `--input` names.
      output: what `--output` names.
      name: the file's name, such as "predictions.csv"; beside a mask, the mask's name comes before it.
    """
    return output.with_name(f"{output.stem}_{name}") if _is_one_file(source, output) else output / name


def _is_one_file(source: Path, output: Path) -> bool:
    """Tells whether `output` names the mask of a single image, not a folder."""
    return source.is_file() and output.suffix.lower() in SUFFIXES and not output.is_dir()


def find_images(source: Path, output: Path, products: Sequence[str] = ("mask",)) -> list[InputImage]:
    """Lists the images to segment, sorted, and the files to write for each; logs what is left out.

    The layout of subfolders is kept, and links to folders are followed. Of a data set's folder only images/ is taken.
    Images that differ only in their ending keep it in the names of their results.

    Args:
      source: an image, or a folder of images.
      output: folder for the results; for a single image also a file that ends in .png.
      products: kinds of results to write, among `ENDINGS`.

    Returns:
      At least one image.

    Raises:
      UserError: there is no such file or folder, no image in it, or `output` cannot hold the results.
    """
    if source.is_file():
        return [_one_image(source, output, products)]
    source = _folder_of_images(source, output)
    masks: list[Path] = []
    results: list[Path] = []

    def is_no_input(folder: Path) -> bool:
        """Tells of the results of an earlier call, and of the masks of a data set below the input."""
        if folder.name.lower() == "masks" and _has_images_beside(folder):
            masks.append(folder)
            return True
        if folder.resolve() == output.resolve():
            results.append(folder)
            return True
        return False

    listing = _without_own(list_images(source, is_no_input), source)
    if sentence := listing.sentence():
        log.warning("%s", sentence)
    if masks:
        log.warning("%s: left out the masks of %d data sets in there, as %s", source, len(masks), masks[0])
    for folder in results:
        _tell_of_photographs_among_results(folder)
    _tell_of_names_of_masks(listing.images)
    refuse_empty(listing, f"--input {source}")
    below = [name.relative_to(source).as_posix() for name in _names_of(listing.images)]
    return [
        InputImage(
            path,
            _results(output / name, products),
            name,
            _results(output / name, ("mask",))["mask"],
            path.relative_to(source).as_posix(),
        )
        for path, name in zip(listing.images, below, strict=True)
    ]


def _folder_of_images(source: Path, output: Path) -> Path:
    """Returns where a folder's images are, of a data set its images/; refuses an output that cannot hold the masks."""
    if not source.is_dir():
        raise UserError(f"--input {source}: no such file or folder")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file; give a folder for the masks")
    if output.suffix.lower() in SUFFIXES and not output.exists():
        raise UserError(f"--output {output}: is named like one image, but --input is a folder; give a folder for masks")
    if (source / "images").is_dir() and (source / "masks").is_dir():
        log.info("%s is a data set: the images in its images/ are segmented, not its masks", source)
        _tell_of_images_beside(source, output)
        source /= "images"
    if output.resolve() == source.resolve():
        raise UserError(f"--output {output} is the input folder; give another, so that masks and images stay apart")
    return source


def _has_images_beside(masks: Path) -> bool:
    """Tells whether a folder of masks lies beside images/, in whatever case the two are spelt."""
    return any(path.name.lower() == "images" and path.is_dir() for path in masks.parent.iterdir())


def _tell_of_photographs_among_results(output: Path) -> None:
    """Warns of pictures in the output folder that predict did not make: as it lies in the input, they are left out."""
    found = [path for path in list_images(output).images if not path.name.endswith(tuple(ENDINGS.values()))]
    if found:
        log.warning(
            "%s: left out %d pictures in the output folder (%s); give another --output to segment them too",
            output,
            len(found),
            named(path.relative_to(output).as_posix() for path in found),
        )


def _tell_of_names_of_masks(images: Sequence[Path]) -> None:
    """Warns of pictures that are named like masks of others beside them: they are segmented as photographs."""
    stems = {path.with_suffix("") for path in images}
    masks = [
        path
        for path in images
        for suffix in MASK_SUFFIXES
        if path.stem.lower().endswith(suffix) and path.with_name(path.stem[: -len(suffix)]) in stems
    ]
    if masks:
        log.warning(
            "%d pictures are named like masks of others, and are segmented as photographs all the same (%s); keep "
            "masks in a folder of their own, outside of --input",
            len(masks),
            named(path.name for path in masks),
        )


def _names_of(images: Sequence[Path]) -> list[Path]:
    """Returns what results are called after: the images' paths, without their endings where these do not tell."""
    # "a.jpg" and "a.png" would both be "a", and then "a.jpg.png" would be "a.jpg", which is taken. On Windows and macOS
    # "A_mask.png" would be the same file as "a_mask.png".
    bare = [_without_ending(path) for path in images]
    taken = Counter(str(path).casefold() for path in (*images, *bare))
    return [path if taken[str(name).casefold()] > 1 else name for path, name in zip(images, bare, strict=True)]


def _tell_of_images_beside(dataset: Path, output: Path) -> None:
    """Warns of photographs in a data set's folder that are not in its images/; masks and results are none."""

    def is_apart(folder: Path) -> bool:
        if folder == dataset / "images" or folder.name.lower().startswith("masks"):
            return True
        return folder.resolve() == output.resolve() or any((folder / name).exists() for name in _OF_RESULTS)

    try:
        found = list_images(dataset, is_apart).images
    except UserError as error:  # of a folder that is not asked for
        log.warning("%s", error)
        return
    if beside := [path.relative_to(dataset).as_posix() for path in found if not _is_own(path)]:
        log.warning(
            "%s: left out %d images that are not in its images/ (%s); their folder can be an --input of its own",
            dataset,
            len(beside),
            named(beside),
        )


def _without_own(listing: Listing, source: Path) -> Listing:
    """Leaves out pictures that predict made, and logs how many."""
    own = [path for path in listing.images if _is_own(path)]
    if not own:
        return listing
    log.warning("%s: left out %d pictures that predict made, as %s", source, len(own), own[0].relative_to(source))
    left_out = set(own)
    return dataclasses.replace(listing, images=tuple(path for path in listing.images if path not in left_out))


def _is_own(path: Path) -> bool:
    """Tells whether a picture is a result of predict, which a folder of images may hold beside them."""
    return path.name.endswith(tuple(ENDINGS.values())) and maker_of_png(path) != ""


def _without_ending(path: Path) -> Path:
    return path.with_suffix("")


def _results(stem: Path, products: Iterable[str]) -> dict[str, Path]:
    """Returns the files of an image's products: `stem` with "_mask.png" and so on."""
    return {product: stem.with_name(stem.name + ENDINGS[product]) for product in products}


def _one_image(source: Path, output: Path, products: Iterable[str]) -> InputImage:
    """Returns the files to write for a single image."""
    if not _is_one_file(source, output):
        if output.exists() and not output.is_dir():
            raise UserError(f"--output {output} is a file; give a folder for the masks, or a name that ends in .png")
        stem = output / source.stem
        return InputImage(source, _results(stem, products), stem.name, _results(stem, ("mask",))["mask"], source.name)
    if output.suffix.lower() != ".png":
        raise UserError(f"--output {output}: masks are PNG files; give {output.with_suffix('.png')}, or a folder")
    if output.resolve() == source.resolve():
        raise UserError(f"--output {output} is the input image; give another file, or a folder for the mask")
    files = {**_results(output.with_suffix(""), products), "mask": output}
    return InputImage(source, files, output.stem, output, source.name)
