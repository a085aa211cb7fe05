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
        "--workdir W --input DIR_OR_FILE --output DIR_OR_PNG [--overlay] [--probabilities] [--overwrite | "
        "--skip-existing] [--batch-size N] [--ensemble W ...] [--tta] [--threshold VALUE|auto] [--largest-component] "
        "[--fill-holes] [--data-dir DIR]",
    )
    cli.add_model_arguments(result)
    cli.add_batch_argument(result)
    result.add_argument("--input", required=True, metavar="DIR_OR_FILE", help="an image, or a folder of images")
    result.add_argument(
        "--output",
        required=True,
        metavar="DIR_OR_PNG",
        help="folder for the masks, laid out as the input; for a single image also the mask's file, as mask.png",
    )
    result.add_argument("--overlay", action="store_true", help="also write the image with the mask's outline")
    result.add_argument("--probabilities", action="store_true", help="also write NAME_probability.png, 0 to 255")
    existing = result.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace masks that are there already")
    existing.add_argument(
        "--skip-existing",
        action="store_true",
        help="keep files that are there already, and write the missing ones: goes on after a call that was stopped",
    )
    cli.add_mask_arguments(result)
    return result


log = logging.getLogger("jaxseg.predict")


def _products(args: argparse.Namespace) -> list[str]:
    """Returns the kinds of files to write for each image."""
    asked = {"mask": True, "overlay": args.overlay, "probability": args.probabilities}
    return [product for product, wanted in asked.items() if wanted]


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and segments; returns 1 if some images could not be read."""
    args = _parser().parse_args(argv)

    from jaxseg.inference import inputs

    cli.start_logging()
    source, output = Path(args.input), Path(args.output)
    images = inputs.find_images(source, output, _products(args))
    if not (args.overwrite or args.skip_existing):
        inputs.refuse_to_overwrite(images)

    from jaxseg.inference.folder import maker_of, predict
    from jaxseg.inference.threshold import from_args
    from jaxseg.system import lock, startup

    startup.tune()
    with lock.held(inputs.folder_to_lock(source, output), "--output"):
        segmenter, prediction = from_args(args)
        if args.skip_existing:
            left = inputs.without_finished(images, maker_of(segmenter, prediction))
            log.info("%d of %d images were segmented before and are kept", len(images) - len(left), len(images))
            images = left
        failures = predict(segmenter, prediction, images)
    log.info("%d of %d images segmented into %s", len(images) - len(failures), len(images), output)
    for failure in failures:
        log.error("not segmented: %s", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    cli.run("predict", main)
