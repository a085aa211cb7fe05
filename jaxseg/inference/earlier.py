"""What earlier calls of predict left in the output folder: kept, made again, refused or told; imports no JAX."""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from jaxseg.data.identity import hash_bytes, read_file
from jaxseg.data.images import size_of
from jaxseg.data.listing import named
from jaxseg.errors import UserError
from jaxseg.inference import contours
from jaxseg.inference.inputs import ENDINGS, InputImage
from jaxseg.report.figures import is_png, is_whole, maker_of_png, photograph_of_png

log = logging.getLogger("jaxseg.predict")

OUTLINES = ("geojson", "labelme", "svg")
"""Products that are outlines, a file for each image."""


class Record(Protocol):
    """A file with an entry for each image."""

    def holds(self, image: InputImage) -> bool:
        """Returns whether there is a complete entry of an image."""

    def tell(self) -> None:
        """Warns of what was found and kept in the file."""


def refuse_to_overwrite(images: Iterable[InputImage]) -> None:
    """Checks that no file that would be written exists already.

    Raises:
      UserError: a file exists; the message names the first.
    """
    for image in images:
        for path in image.products.values():
            if path.exists():
                raise UserError(
                    f"{path}: is there already; --overwrite replaces it, --skip-existing keeps it and goes on with the "
                    "other images, or give another --output"
                )


def refuse_other_names(images: Sequence[InputImage]) -> None:
    """Checks that no result lies there under another name than its image's results have now.

    Results keep the ending of their image's name only while another image has the same name without it. An image that
    was added or taken away since would leave the earlier results, corrected masks among them, as those of no image.

    Raises:
      UserError: there is such a result; the message names the first.
    """
    names = {image.name for image in images}
    for image in images:
        without_ending = Path(image.relative).with_suffix("").as_posix()
        for other in {without_ending, image.relative} - names:
            if (path := image.result("mask", other)).exists():
                raise UserError(
                    f"{path}: is a result by an earlier name of {image.relative}, as names have their endings only "
                    f"where two images need them to differ; rename it to {image.mask.name} if it is of that image "
                    "(and its line in predictions.csv), or take it away"
                )


def tell_of_leftovers(images: Iterable[InputImage], common: Iterable[Path]) -> None:
    """Warns of results of earlier calls that this one does not write: they show the masks that it replaces.

    Args:
      images: the images whose masks are written.
      common: files about all images that this call does not write.
    """
    left = [path for path in common if path.exists()]
    for image in images:
        others = [image.result(product) for product in ENDINGS if product not in image.products]
        left += [path for path in others if path.exists()]
    if left:
        log.warning(
            "%d files of an earlier call show the masks that are replaced now, and stay, as %s; make them again with "
            "the same flags as then, or take them away",
            len(left),
            left[0],
        )


def tell_of_a_mixture(images: Iterable[InputImage], names: Iterable[str], table: Path, maker: str) -> None:
    """Warns of masks of other images beside those of this call that another model or other options made.

    Args:
      images: the images of this call.
      names: what results are called in the table.
      table: the table of the output folder, which keeps the lines of earlier calls.
      maker: `maker_of` the model and options in use.
    """
    own = {image.name for image in images}
    masks = {name: table.parent / f"{name}{ENDINGS['mask']}" for name in names if name not in own}
    others = [name for name, path in masks.items() if maker_of_png(path) not in ("", maker)]
    if others:
        log.warning(
            "%s holds lines of %d masks by another model, checkpoint or threshold, of images that this call does not "
            "segment (%s); give another --output to keep them apart",
            table,
            len(others),
            named(others),
        )


def without_finished(
    images: Iterable[InputImage], maker: str, records: Sequence[Record] = (), simplify: float = 0
) -> list[InputImage]:
    """Returns the images and files that an earlier call did not write, and tells what is kept although it looks wrong.

    Args:
      images: all images.
      maker: `maker_of` the model and options in use.
      records: files that are to have an entry of every image.
      simplify: largest error of the outlines that are asked for, pixels.

    Raises:
      UserError: a file was made by another model or with other options, so that the folder would hold a mixture; or a
        file that is no picture has the name of one.
    """
    left: list[InputImage] = []
    kept = _Kept()
    damaged: list[Path] = []
    for image in images:
        there = {product for product, path in image.products.items() if path.exists()}
        cut = {product for product in there if not is_whole(image.products[product])}
        for product in cut:
            _refuse_foreign(image.products[product])
        damaged += [image.products[product] for product in cut]
        there -= cut
        unfit = "mask" in there and _has_another_size(image)
        if "mask" in there:
            kept.note_changes(image, there)
        pictures = {product: image.products[product] for product in there if product not in OUTLINES}
        makers = {product: maker_of_png(path) for product, path in pictures.items()}
        for product, found in makers.items():
            # A mask that was edited by hand has lost its mark, and is kept.
            if found not in ("", maker):
                raise UserError(
                    f"{pictures[product]}: was made by another model, checkpoint or threshold than asked for; "
                    "give another --output, or --overwrite instead of --skip-existing"
                )
        drawn = [image.products[product] for product in there if product in OUTLINES]
        kept.note_outlines(drawn, contours.mark(makers.get("mask", maker), simplify))
        missing = {product: path for product, path in image.products.items() if product not in there}
        held = [record.holds(image) for record in records]
        if missing or unfit or not all(held):
            left.append(dataclasses.replace(image, products=missing))
    if damaged:
        log.warning("%d files there are damaged, and are written again, as %s", len(damaged), damaged[0])
    kept.tell()
    for record in records:
        record.tell()
    return left


def _refuse_foreign(path: Path) -> None:
    """Refuses to write over a file that is no damaged PNG file, but something that nothing here can read."""
    if path.is_dir() or (path.suffix.lower() == ".png" and path.stat().st_size and not is_png(path)):
        raise UserError(f"{path}: is no picture that can be read; take it away, or give another --output")


def _has_another_size(image: InputImage) -> bool:
    """Tells whether a mask has another size than its image."""
    try:
        return size_of(image.mask) != size_of(image.source)
    except UserError:  # told where the image is read
        return False


class _Kept:
    """What `--skip-existing` keeps although it may be of another photograph, of another mask, or made otherwise."""

    def __init__(self) -> None:
        self._changed: list[str] = []
        self._older: list[str] = []
        self._otherwise: list[str] = []

    def note_changes(self, image: InputImage, there: Iterable[str]) -> None:
        """Notes an image that is not the one that its mask shows, and files that are older than the mask.

        Args:
          image: an image whose mask is there.
          there: the products that are there.
        """
        if _is_of_another_photograph(image):
            self._changed.append(image.source.name)
        made = image.mask.stat().st_mtime
        paths = [image.products[product] for product in there]
        self._older += [path.name for path in paths if path.stat().st_mtime < made]

    def note_outlines(self, paths: Iterable[Path], expected: str) -> None:
        """Notes files of outlines that were made otherwise than asked for.

        Args:
          paths: the files.
          expected: the mark that they would have.
        """
        self._otherwise += [path.name for path in paths if contours.mark_of(path) not in ("", expected)]

    def tell(self) -> None:
        """Warns of all that was noted."""
        if self._older:
            log.warning(
                "%d files are older than the masks that they show, and are kept all the same (%s); take them away to "
                "have them made again",
                len(self._older),
                named(self._older),
            )
        if self._otherwise:
            log.warning(
                "%d files of outlines are of another mask, or simplified otherwise than asked for, and are kept all "
                "the same (%s); take them away to have them made again",
                len(self._otherwise),
                named(self._otherwise),
            )
        if self._changed:
            log.warning(
                "%d images have changed since their masks were made, which are kept all the same (%s); --overwrite "
                "makes them again",
                len(self._changed),
                named(self._changed),
            )


def _is_of_another_photograph(image: InputImage) -> bool:
    """Tells whether an image is another file than its mask was made of; where the mask does not tell, by its time."""
    if not (shown := photograph_of_png(image.mask)):
        return image.source.stat().st_mtime > image.mask.stat().st_mtime
    try:
        return hash_bytes(read_file(image.source)) != shown
    except UserError:  # told where the image is read
        return False
