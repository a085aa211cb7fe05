"""Segments the images of a folder: reads ahead, predicts in batches, writes behind."""

import dataclasses
import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxseg.data.images import decode_image
from jaxseg.data.listing import SUFFIXES
from jaxseg.data.pipeline import read_ahead
from jaxseg.errors import RunError, UserError, refuse_unreadable
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter, resize_probability
from jaxseg.report.figures import save_png
from jaxseg.report.overlays import overlay
from jaxseg.system.progress_bar import progress

log = logging.getLogger("jaxseg.predict")


@dataclasses.dataclass(frozen=True)
class Job:
    """One image to segment.

    Attributes:
      source: the image's file.
      target: where results go, to be completed by "_mask.png" and the like.
    """

    source: Path
    target: Path

    def path(self, product: str) -> Path:
        """Returns the file of a product: "mask", "overlay" or "probability"."""
        return self.target.with_name(f"{self.target.name}_{product}.png")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An image that was read.

    Attributes:
      job: where it is from and where results go.
      size: its height and width, pixels.
      image: uint8 [H, W, 3], or None where nobody will look at it.
    """

    job: Job
    size: tuple[int, int]
    image: np.ndarray | None


def find_images(source: Path, output: Path) -> list[Job]:
    """Lists the images to segment, sorted, and where their masks go.

    A folder's subfolders are kept; hidden files and folders are left out, such as a Mac's companion files. Images that
    differ in their suffix alone keep it in the mask's name.

    Raises:
      UserError: there is no such file or folder, no image in it, or output is a file or the input folder itself.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file; give a folder for the masks")
    if source.is_file():
        return [Job(source, output / source.stem)]
    if not source.is_dir():
        raise UserError(f"--input {source}: no such file or folder")
    if output.resolve() == source.resolve():
        raise UserError(f"--output {output} is the input folder; give another, so that masks and images stay apart")
    found = []
    for folder, subfolders, names in os.walk(source, onerror=refuse_unreadable):
        # The masks of an earlier call are no images.
        subfolders[:] = [s for s in subfolders if s[0] != "." and (Path(folder) / s).resolve() != output.resolve()]
        images = (Path(folder, n) for n in names if n[0] != "." and Path(n).suffix.lower() in SUFFIXES)
        # A link to nowhere is told like an image that cannot be read; a pipe would be waited for for ever.
        found += [path for path in images if path.is_file() or not path.exists()]
    if not found:
        raise UserError(f"--input {source}: no image in it; looked for {', '.join(SUFFIXES)}")
    found.sort()
    # "a.jpg" and "a.png" would both be "a", and "a.jpg.png" would be what "a.jpg" is then.
    taken = Counter([*found, *(path.with_suffix("") for path in found)])
    names = [path if taken[path.with_suffix("")] > 1 else path.with_suffix("") for path in found]
    return [Job(path, output / name.relative_to(source)) for path, name in zip(found, names, strict=True)]


def refuse_to_overwrite(jobs: Sequence[Job], products: Sequence[str]) -> None:
    """Raises UserError if a file that would be written is there already; names the first."""
    for job in jobs:
        for product in products:
            if job.path(product).exists():
                raise UserError(
                    f"{job.path(product)}: is there already; --overwrite replaces it, or give another --output"
                )


def predict(segmenter: Segmenter, prediction: Prediction, jobs: Sequence[Job], products: Sequence[str]) -> list[str]:
    """Segments images and writes the products.

    Threads decode ahead of the device and write behind it, a bounded number of images each.

    Args:
      segmenter: the model.
      prediction: how probabilities become masks.
      jobs: the images.
      products: of "mask", "overlay", "probability".

    Returns:
      One line per image that could not be read.

    Raises:
      RunError: a product cannot be written.
    """
    failures: list[str] = []

    def load(job: Job) -> tuple[Loaded, np.ndarray] | str:
        try:
            image = decode_image(job.source)
        except UserError as error:
            return str(error)
        # A batch of large photographs is not kept just for their sizes.
        return Loaded(job, image.shape[:2], image if "overlay" in products else None), segmenter.resize(image)

    def readable(results: Iterable[tuple[Loaded, np.ndarray] | str]) -> Iterator[tuple[Loaded, np.ndarray]]:
        for result in results:
            if isinstance(result, str):
                failures.append(result)
            else:
                yield result

    workers = segmenter.config.data.workers
    loaded = read_ahead(load, jobs, workers)
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for image, probability in progress(segmenter.stream(readable(loaded)), "segmenting", len(jobs)):
            waiting.append(pool.submit(write, image, probability, prediction, products))
            if len(waiting) > 2 * workers:
                waiting.popleft().result()
        for future in waiting:
            future.result()
    return failures


def write(loaded: Loaded, probability: np.ndarray, prediction: Prediction, products: Sequence[str]) -> None:
    """Writes an image's products.

    Args:
      loaded: the image.
      probability: float32 [S, S].
      prediction: how probabilities become masks.
      products: of "mask", "overlay", "probability"; an overlay needs the image's pixels.

    Raises:
      RunError: a file cannot be written.
    """
    probability = resize_probability(probability, loaded.size)
    mask = prediction.mask(probability)
    pictures = {
        "mask": lambda: mask.astype(np.uint8) * np.uint8(255),
        "overlay": lambda: overlay(loaded.image, mask),
        "probability": lambda: np.rint(probability * 255).astype(np.uint8),
    }
    for product in products:
        path = loaded.job.path(product)
        try:
            save_png(pictures[product](), path)
        except OSError as error:
            raise RunError(
                f"{path}: cannot be written ({error.strerror or error}); masks written before are kept"
            ) from error
