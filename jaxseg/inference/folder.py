"""Segments the images of a folder: reads ahead, predicts in batches, writes behind."""

import dataclasses
import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from jaxseg.data.images import decode_image
from jaxseg.data.pipeline import read_ahead
from jaxseg.errors import RunError, UserError
from jaxseg.inference.inputs import InputImage
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter, resize_probability
from jaxseg.inference.threshold import describe_masks
from jaxseg.report.figures import save_png
from jaxseg.report.overlays import overlay
from jaxseg.system.progress_bar import progress

log = logging.getLogger("jaxseg.predict")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An image in memory.

    Attributes:
      files: where it comes from and where results go.
      size: its height and width, pixels.
      pixels: uint8 [H, W, 3], or None where no overlay needs them.
    """

    files: InputImage
    size: tuple[int, int]
    pixels: np.ndarray | None


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


def predict(segmenter: Segmenter, prediction: Prediction, images: Sequence[InputImage]) -> list[str]:
    """Segments images and writes their products.

    Threads decode ahead of the device and write behind it, a bounded number of images each.

    Args:
      segmenter: the model.
      prediction: how probabilities become masks.
      images: what to read and what to write.

    Returns:
      One line per image that could not be read.

    Raises:
      RunError: a product cannot be written.
    """
    failures: list[str] = []
    maker = maker_of(segmenter, prediction)

    def load(files: InputImage) -> tuple[Loaded, np.ndarray] | str:
        try:
            pixels = decode_image(files.source)
        except UserError as error:
            return str(error)
        # Only an overlay needs the pixels again: large photographs of a whole batch would fill the memory.
        kept = pixels if "overlay" in files.products else None
        return Loaded(files, pixels.shape[:2], kept), segmenter.resize(pixels)

    def readable(results: Iterable[tuple[Loaded, np.ndarray] | str]) -> Iterator[tuple[Loaded, np.ndarray]]:
        for result in results:
            if isinstance(result, str):
                failures.append(result)
            else:
                yield result

    workers = segmenter.config.data.workers
    loaded = read_ahead(load, images, workers)
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for image, probability in progress(segmenter.stream(readable(loaded)), "segmenting", len(images)):
            waiting.append(pool.submit(write, image, probability, prediction, maker))
            if len(waiting) > 2 * workers:
                waiting.popleft().result()
        for future in waiting:
            future.result()
    return failures


def write(loaded: Loaded, probability: np.ndarray, prediction: Prediction, maker: str = "") -> None:
    """Writes an image's products.

    Args:
      loaded: the image.
      probability: float32 [S, S].
      prediction: how probabilities become masks.
      maker: mark to leave in the files, from `maker_of`; empty for none.

    Raises:
      RunError: a file cannot be written.
    """
    probability = resize_probability(probability, loaded.size)
    mask = prediction.mask(probability)
    pictures = {
        "mask": lambda: mask.astype(np.uint8) * np.uint8(255),
        "overlay": lambda: overlay(loaded.pixels, mask),
        "probability": lambda: np.rint(probability * 255).astype(np.uint8),
    }
    for product, path in loaded.files.products.items():
        try:
            save_png(pictures[product](), path, maker)
        except OSError as error:
            raise RunError(
                f"{path}: cannot be written ({error.strerror or error}); masks written before are kept, and "
                "--skip-existing goes on after them"
            ) from error
