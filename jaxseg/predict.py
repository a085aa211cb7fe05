"""Segments images with a trained model: `python -m jaxseg.predict --workdir runs/full --input DIR --output masks`."""

import argparse

from jaxseg import cli


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "predict",
        "Segments an image, or all images in a folder and its subfolders, with the best weights of a run. Masks are "
        "0 for skin and 255 for lesion, PNG, of the images' own sizes, as NAME_mask.png.",
        "--workdir W --input DIR_OR_FILE --output DIR [--overlay] [--probabilities] [--overwrite] [--ensemble W ...] "
        "[--tta] [--threshold VALUE|auto] [--largest-component] [--fill-holes] [--data-dir DIR]",
    )
    cli.add_model_arguments(result)
    result.add_argument("--input", required=True, metavar="DIR_OR_FILE", help="an image, or a folder of images")
    result.add_argument("--output", required=True, metavar="DIR", help="folder for the masks, laid out as the input")
    result.add_argument("--overlay", action="store_true", help="also write the image with the mask's outline")
    result.add_argument("--probabilities", action="store_true", help="also write NAME_probability.png, 0 to 255")
    result.add_argument("--overwrite", action="store_true", help="replace masks that are there already")
    cli.add_mask_arguments(result)
    return result


if __name__ == "__main__":
    _parser().parse_args()

import dataclasses
import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxseg import lock, startup
from jaxseg.data.images import SUFFIXES, decode_image
from jaxseg.data.pipeline import read_ahead
from jaxseg.errors import RunError, UserError, refuse_unreadable
from jaxseg.prediction import Prediction, from_args
from jaxseg.progress import progress
from jaxseg.report import overlay, save_png
from jaxseg.segmenter import Segmenter, resize_probability

log = logging.getLogger("jaxseg.predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and segments; returns 1 if some images could not be read."""
    args = _parser().parse_args(argv)
    cli.start_logging()
    startup.tune()
    jobs = find_images(Path(args.input), Path(args.output))
    products = ["mask"] + ["overlay"] * args.overlay + ["probability"] * args.probabilities
    if not args.overwrite:
        refuse_to_overwrite(jobs, products)
    with lock.held(Path(args.output), "--output"):
        segmenter, prediction = from_args(args)
        failures = predict(segmenter, prediction, jobs, products)
    log.info("%d of %d images segmented into %s", len(jobs) - len(failures), len(jobs), args.output)
    for failure in failures:
        log.error("not segmented: %s", failure)
    return 1 if failures else 0


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


if __name__ == "__main__":
    cli.run("predict", main)
