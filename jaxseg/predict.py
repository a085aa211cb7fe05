"""Segments images with a trained model: `python -m jaxseg.predict --workdir runs/full --input DIR --output masks`."""

import argparse

from jaxseg import cli


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "predict",
        "Segments an image, or all images in a folder and its subfolders, with the best weights of a run. Masks are "
        "0 for skin and 255 for lesion, PNG, of the images' own sizes, as NAME_mask.png.",
        "--workdir W --input DIR_OR_FILE --output DIR [--overlay] [--probabilities] [--overwrite]",
    )
    result.add_argument("--workdir", required=True, metavar="W", help="folder of the run")
    result.add_argument("--input", required=True, metavar="DIR_OR_FILE", help="an image, or a folder of images")
    result.add_argument("--output", required=True, metavar="DIR", help="folder for the masks, laid out as the input")
    result.add_argument("--overlay", action="store_true", help="also write the image with the mask's outline")
    result.add_argument("--probabilities", action="store_true", help="also write NAME_probability.png, 0 to 255")
    result.add_argument("--overwrite", action="store_true", help="replace masks that are there already")
    return result


if __name__ == "__main__":
    _parser().parse_args()

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import grain
import numpy as np

from jaxseg.data.images import decode_image
from jaxseg.data.pipeline import read_ahead
from jaxseg.errors import UserError
from jaxseg.progress import progress
from jaxseg.report import overlay, save_png
from jaxseg.segmenter import THRESHOLD, Segmenter, resize_probability

log = logging.getLogger("jaxseg.predict")

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
"""Names that are taken for images in a folder; a file that is named outright may have any."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and segments; returns 1 if some images could not be read."""
    args = _parser().parse_args(argv)
    cli.start_logging()
    jobs = find_images(Path(args.input), Path(args.output))
    products = ["mask"] + ["overlay"] * args.overlay + ["probability"] * args.probabilities
    if not args.overwrite:
        refuse_to_overwrite(jobs, products)
    segmenter = Segmenter.load(args.workdir)
    failures = predict(segmenter, jobs, products)
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


def find_images(source: Path, output: Path) -> list[Job]:
    """Lists the images to segment, sorted, and where their masks go.

    A folder's subfolders are kept. Images that differ in their suffix alone keep it in the mask's name.

    Raises:
      UserError: there is no such file or folder, no image in it, or output is the folder itself.
    """
    if source.is_file():
        return [Job(source, output / source.stem)]
    if not source.is_dir():
        raise UserError(f"--input {source}: no such file or folder")
    if output.resolve() == source.resolve():
        raise UserError(f"--output {output} is the input folder; give another, so that masks and images stay apart")
    found = []
    for folder, subfolders, names in os.walk(source):
        # The masks of an earlier call are no images.
        subfolders[:] = [s for s in subfolders if (Path(folder) / s).resolve() != output.resolve()]
        found += [Path(folder, name) for name in names if Path(name).suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"--input {source}: no image in it; looked for {', '.join(sorted(SUFFIXES))}")
    found.sort()
    stems = Counter(path.with_suffix("") for path in found)
    names = [path if stems[path.with_suffix("")] > 1 else path.with_suffix("") for path in found]
    return [Job(path, output / name.relative_to(source)) for path, name in zip(found, names, strict=True)]


def refuse_to_overwrite(jobs: Sequence[Job], products: Sequence[str]) -> None:
    """Raises UserError if a file that would be written is there already; names the first."""
    for job in jobs:
        for product in products:
            if job.path(product).exists():
                raise UserError(
                    f"{job.path(product)}: is there already; --overwrite replaces it, or give another --output"
                )


def predict(segmenter: Segmenter, jobs: Sequence[Job], products: Sequence[str]) -> list[str]:
    """Segments images and writes the products; decoding runs ahead in threads, memory stays bounded.

    Returns:
      One line per image that could not be read.
    """
    failures: list[str] = []

    def load(job: Job) -> tuple[Job, np.ndarray | str, np.ndarray | None]:
        try:
            image = decode_image(job.source)
        except UserError as error:
            return job, str(error), None
        return job, image, segmenter.resize(image)

    def readable(loaded: Iterator[tuple[Job, np.ndarray | str, np.ndarray | None]]) -> Iterator:
        for job, image, resized in progress(loaded, "segmenting", len(jobs)):
            if resized is None:
                failures.append(image)
            else:
                yield (job, image), resized

    loaded = read_ahead(grain.MapDataset.source(jobs).map(load), segmenter.config.data.workers)
    for (job, image), probability in segmenter.stream(readable(loaded)):
        write(job, image, resize_probability(probability, image.shape[:2]), products)
    return failures


def write(job: Job, image: np.ndarray, probability: np.ndarray, products: Sequence[str]) -> None:
    """Writes an image's products.

    Args:
      job: where to.
      image: uint8 [H, W, 3].
      probability: float32 [H, W].
      products: of "mask", "overlay", "probability".
    """
    mask = probability > THRESHOLD
    pictures = {
        "mask": lambda: mask.astype(np.uint8) * np.uint8(255),
        "overlay": lambda: overlay(image, mask),
        "probability": lambda: np.rint(probability * 255).astype(np.uint8),
    }
    for product in products:
        save_png(pictures[product](), job.path(product))


if __name__ == "__main__":
    cli.run("predict", main)
