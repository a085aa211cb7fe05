"""Segments the images of a folder: reads ahead, predicts in batches, writes behind."""

import dataclasses
import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from jaxseg.data.colours import NEAR
from jaxseg.data.depth import TOLD
from jaxseg.data.identity import hash_bytes, read_file
from jaxseg.data.images import decode_image, decode_mask, header_of
from jaxseg.data.listing import named
from jaxseg.data.pipeline import read_ahead
from jaxseg.errors import RunError, UserError
from jaxseg.inference import contours
from jaxseg.inference.coco import CocoFile
from jaxseg.inference.contours import trace
from jaxseg.inference.inputs import InputImage
from jaxseg.inference.masks import Prediction
from jaxseg.inference.measurements import measure
from jaxseg.inference.segmenter import Segmenter, resize_probability
from jaxseg.inference.table import GrowingFile, Table
from jaxseg.inference.threshold import describe_masks
from jaxseg.inference.trust import Trust, trust_of
from jaxseg.report.figures import maker_of_png, save_png
from jaxseg.report.overlays import overlay
from jaxseg.system.files import LONGEST_NAME, write_text
from jaxseg.system.progress_bar import progress

log = logging.getLogger("jaxseg.predict")

_DARKEST = 32
"""Least value, of 255, that a photograph's bright pixels have; masks of 0 and 1 and lost bits stay below."""

_BLACK_AND_WHITE = 0.95
"""Share of a mask's pixels that are black or white; between them lie soft edges, and what JPEG makes of hard ones."""

_GLINTS = 0.001
"""Share of the pixels that may be brighter in a photograph that is all but black."""


@dataclasses.dataclass(frozen=True)
class LoadedImage:
    """An image in memory.

    Attributes:
      files: where it comes from and where results go.
      size: its height and width, pixels.
      pixels: uint8 [H, W, 3], or None where nothing needs them.
      photograph: hash of its file, which the mask is marked with; empty where no mask is written.
    """

    files: InputImage
    size: tuple[int, int]
    pixels: np.ndarray | None
    photograph: str = ""


@dataclasses.dataclass(frozen=True)
class Extras:
    """What is wanted besides the files of each image.

    Attributes:
      table: where every image gets a line; None for no table.
      measure: whether the lines hold measurements too.
      pixels_per_mm: the images' scale, for measurements in millimetres; None where it is not known.
      coco: where the outlines of every image are collected; None for no such file.
      simplify: largest error of outlines, pixels.
    """

    table: Table | None = None
    measure: bool = False
    pixels_per_mm: float | None = None
    coco: CocoFile | None = None
    simplify: float = 0

    @property
    def records(self) -> list[GrowingFile]:
        """The files that get an entry of every image."""
        return [record for record in (self.table, self.coco) if record]


def maker_of(segmenter: Segmenter, prediction: Prediction) -> str:
    """Returns a short hash of all that decides a mask: the runs, wherever they lie, their steps, and the options.

    Args:
      segmenter: the model.
      prediction: how probabilities become masks.
    """
    how = describe_masks(segmenter, prediction)
    how["ensemble"] = [(member["run"], member["step"]) for member in how["ensemble"]]
    del how["threshold_chosen_on"]  # the threshold itself counts, not where it comes from
    return hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:16]


def predict(
    segmenter: Segmenter, prediction: Prediction, images: Sequence[InputImage], extras: Extras = Extras()
) -> list[str]:
    """Segments images and writes their products.

    Threads decode ahead of the device and write behind it, a bounded number of images each.

    Args:
      segmenter: the model.
      prediction: how probabilities become masks.
      images: what to read and what to write.
      extras: what is wanted besides the images' own files.

    Returns:
      One line per image that could not be read.

    Raises:
      RunError: a file cannot be written.
    """
    maker, trust = maker_of(segmenter, prediction), trust_of(segmenter)
    reader, workers = _Reader(segmenter, extras), segmenter.config.data.workers
    loaded = _readable(read_ahead(reader.load, images, workers), reader.failures)
    waiting: deque[Future] = deque()

    def finish(future: Future) -> None:
        try:
            future.result()
        except UserError as error:
            reader.failures.append(str(error))

    try:
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            for image, probability in progress(segmenter.stream(loaded), "segmenting", len(images)):
                waiting.append(pool.submit(write, image, probability, prediction, maker, trust, extras))
                if len(waiting) > 2 * workers:
                    finish(waiting.popleft())
            for future in waiting:
                finish(future)
    finally:  # also where the call is interrupted, or a disk is full
        for record in extras.records:
            record.save()
    reader.tell()
    return reader.failures


class _Reader:
    """Reads images, in several threads, and notes what a user should hear of them.

    Attributes:
      failures: one line per image that could not be read.
      animated: names of the files that hold several pictures.
      deep: names of the files of more than 8 bits.
      dark: names of the photographs that show next to nothing.
      masks: names of the files that are black and white alone, as masks are.
    """

    def __init__(self, segmenter: Segmenter, extras: Extras):
        self._segmenter, self._measure = segmenter, extras.measure
        self.failures: list[str] = []
        self.animated: list[str] = []
        self.deep: list[str] = []
        self.dark: list[str] = []
        self.masks: list[str] = []

    def load(self, files: InputImage) -> tuple[LoadedImage, np.ndarray] | str:
        """Returns an image and what the network takes of it, or why it cannot be read."""
        if any(len(os.fsencode(path.name)) > LONGEST_NAME for path in files.products.values()):
            return f"{files.source}: its name is too long for the names of its results; rename it"
        try:
            pixels = decode_image(files.source)
            header = header_of(files.source)
        except UserError as error:
            return str(error)
        if header.pictures > 1:
            self.animated.append(files.source.name)
        if header.is_deep:
            self.deep.append(files.source.name)
        if _is_dark(pixels):
            self.dark.append(files.source.name)
        elif _is_black_and_white(pixels):
            self.masks.append(files.source.name)
        # Few products need the pixels again: large photographs of a whole batch would fill the memory.
        kept = pixels if "overlay" in files.products or self._measure else None
        photograph = hash_bytes(read_file(files.source)) if "mask" in files.products else ""
        return LoadedImage(files, pixels.shape[:2], kept, photograph), self._segmenter.resize(pixels)

    def tell(self) -> None:
        """Logs which files hold several pictures or more than 8 bits, and which show next to nothing or are masks."""
        if self.animated:
            log.warning(
                "%d images hold several pictures (frames or pages), of which the first is segmented: %s",
                len(self.animated),
                named(sorted(self.animated)),
            )
        if self.deep:
            log.info(TOLD, len(self.deep), named(sorted(self.deep)))
        if self.dark:
            log.warning(
                "%d images are all but black, with no value above %d of 255 (specks aside), so their masks mean "
                "little: %s",
                len(self.dark),
                _DARKEST - 1,
                named(sorted(self.dark)),
            )
        if self.masks:
            log.warning(
                "%d images are black and white, as masks are, and are segmented as photographs all the same (%s); keep "
                "masks in a folder of their own, outside of --input",
                len(self.masks),
                named(sorted(self.masks)),
            )


def _is_black_and_white(pixels: np.ndarray) -> bool:
    """Tells whether a picture is a mask rather than a photograph: grey, and nearly all of it black or white."""
    some = pixels[::2, ::2].astype(np.int16)
    grey = some[..., 0]
    ends = np.count_nonzero((grey <= NEAR) | (grey >= 255 - NEAR))
    return bool(np.ptp(some, axis=-1).max() <= NEAR and ends >= _BLACK_AND_WHITE * grey.size)


def _is_dark(pixels: np.ndarray) -> bool:
    """Tells whether a photograph shows next to nothing; a few pixels of a broken sensor, or a glint, are no light."""
    some = pixels[::4, ::4].max(axis=-1)  # a sixteenth of a large photograph says as much
    return bool(np.count_nonzero(some >= _DARKEST) <= _GLINTS * some.size)


def _readable(
    results: Iterable[tuple[LoadedImage, np.ndarray] | str], failures: list[str]
) -> Iterator[tuple[LoadedImage, np.ndarray]]:
    """Yields the images that could be read, and adds the others' lines to the failures."""
    for result in results:
        if isinstance(result, str):
            failures.append(result)
        else:
            yield result


def write(
    loaded: LoadedImage,
    probability: np.ndarray,
    prediction: Prediction,
    maker: str,
    trust: Trust,
    extras: Extras = Extras(),
) -> None:
    """Writes an image's products, and its line in the table.

    A mask that is there already is kept, and is the one that is drawn and measured.

    Args:
      loaded: the image.
      probability: float32 [S, S].
      prediction: how probabilities become masks.
      maker: mark to leave in the files, from `maker_of`; empty for none.
      trust: reads trust and uncertainty from the probabilities.
      extras: what is wanted besides the image's own files.

    Raises:
      UserError: a mask that is to be kept cannot be read.
      RunError: a file cannot be written.
    """
    files = loaded.files
    native = resize_probability(probability, loaded.size)
    new = "mask" in files.products
    mask = prediction.mask(native) if new else _kept_mask(files, loaded.size)
    pictures = {
        "mask": lambda: mask.astype(np.uint8) * np.uint8(255),
        "overlay": lambda: overlay(loaded.pixels, mask),
        "probability": lambda: np.rint(native * 255).astype(np.uint8),
        "uncertainty": lambda: np.rint(trust.uncertainty(native) * 255).astype(np.uint8),
    }
    parts = trace(mask, extras.simplify) if extras.coco or not pictures.keys() >= files.products.keys() else []
    made_by = contours.mark(maker if new else maker_of_png(files.mask), extras.simplify)
    outlines = {
        "geojson": lambda _: json.dumps(contours.geojson(parts, files.name, loaded.size, made_by)),
        "labelme": lambda path: json.dumps(contours.labelme(parts, files.source, path, loaded.size, made_by), indent=2),
        "svg": lambda _: contours.svg(parts, files.name, loaded.size, made_by),
    }
    for product, path in files.products.items():
        try:
            if product in pictures:
                save_png(pictures[product](), path, maker, loaded.photograph if product == "mask" else "")
            else:
                write_text(path, outlines[product](path))
        except OSError as error:
            raise RunError(
                f"{path}: cannot be written ({error.strerror or error}); masks written before are kept, and "
                "--skip-existing goes on after them"
            ) from error
    if extras.coco:
        extras.coco.add(files, parts, mask, made_by)
    if extras.table:
        values = measure(mask, loaded.pixels, extras.pixels_per_mm).as_row() if extras.measure else {}
        extras.table.add(files, trust.score(probability, prediction), values)


def _kept_mask(files: InputImage, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask of an image that is there already, bool [H, W]."""
    mask = decode_mask(files.mask)[..., 0].astype(bool)
    if mask.shape != size:
        raise UserError(
            f"{files.mask}: has {mask.shape[1]}x{mask.shape[0]} pixels, but {files.source} has {size[1]}x{size[0]}; "
            "take the mask away"
        )
    return mask
