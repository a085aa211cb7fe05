"""Segments images with a trained model: `python -m jaxseg.predict --workdir runs/full --input DIR --output masks`."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

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


log = logging.getLogger("jaxseg.predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and segments; returns 1 if some images could not be read."""
    args = _parser().parse_args(argv)

    from jaxseg.inference.folder import find_images, predict, refuse_to_overwrite
    from jaxseg.inference.threshold import from_args
    from jaxseg.system import lock, startup

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


if __name__ == "__main__":
    cli.run("predict", main)
