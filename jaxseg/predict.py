"""Segments images with a trained model: `python -m jaxseg.predict --workdir runs/full --input DIR --output masks`."""

import argparse
import contextlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxseg import cli
from jaxseg.errors import UserError
from jaxseg.inference.runtime import JAX, RUNTIMES

if TYPE_CHECKING:
    from jaxseg.inference.folder import Extras
    from jaxseg.inference.inputs import InputImage
    from jaxseg.inference.table import Table


COCO, TABLE = "contours_coco.json", "predictions.csv"
"""Files about all images, in the output folder: their outlines, and a line for each."""


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "predict",
        "Segments an image, or all images in a folder and its subfolders, with the best weights of a run. Masks are "
        "0 for skin and 255 for lesion, PNG, of the images' own sizes, as NAME_mask.png. predictions.csv says how far "
        "each mask can be trusted, the least trusted first.",
        "[--workdir W] --input DIR_OR_FILE --output DIR_OR_PNG [--measure [--pixels-per-mm X]] [--contours FORMAT "
        "... [--simplify PIXELS]] [--overlay] [--probabilities] [--uncertainty] [--overwrite | "
        "--skip-existing] [--runtime jax|onnx] [--batch-size N] [--ensemble W ...] [--tta] [--threshold VALUE|auto] "
        "[--largest-component] [--fill-holes] [--data-dir DIR]",
    )
    cli.add_model_arguments(result)
    result.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=JAX,
        help="what runs the network: jax, as evaluate does; or onnx, on the CPU, by OpenVINO or ONNX Runtime, which "
        "starts in a fraction of the time once it has written the network as ONNX (pip install 'jaxseg[onnx]') "
        "(default: jax)",
    )
    cli.add_batch_argument(result)
    result.add_argument("--input", required=True, metavar="DIR_OR_FILE", help="an image, or a folder of images")
    result.add_argument(
        "--output",
        required=True,
        metavar="DIR_OR_PNG",
        help="folder for the masks, laid out as the input; for a single image also the mask's file, as mask.png",
    )
    _add_products(result)
    existing = result.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace masks that are there already")
    existing.add_argument(
        "--skip-existing",
        action="store_true",
        help="keep files that are there already, and write the missing ones: goes on after a call that was stopped",
    )
    cli.add_mask_arguments(result)
    return result


def _add_products(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that choose what is written besides masks."""
    parser.add_argument("--overlay", action="store_true", help="also write the image with the mask's outline")
    parser.add_argument("--probabilities", action="store_true", help="also write NAME_probability.png, 0 to 255")
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write NAME_uncertainty.png, of the image's size: the entropy of every pixel's label, 0 for certain "
        "to 255 for even odds",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="add measurements to predictions.csv, of all lesion pixels of a mask together: area, bounding box, "
        "diameters, perimeter, shape, border, colours",
    )
    parser.add_argument(
        "--pixels-per-mm",
        type=_scale,
        metavar="X",
        help="scale of all images, for measurements in millimetres too (default: pixels alone)",
    )
    parser.add_argument(
        "--contours",
        nargs="+",
        choices=("geojson", "coco", "labelme", "svg"),
        default=[],
        metavar="FORMAT",
        help="also write the masks' outlines, as NAME_contour.geojson, NAME_contour.json (labelme), NAME_contour.svg, "
        "or one contours_coco.json for the folder; in pixels of the image as it is shown, from its top left corner",
    )
    parser.add_argument(
        "--simplify",
        type=_pixels,
        default=0.0,
        metavar="PIXELS",
        help="leave out corners of outlines that move them by no more than this (default: 0, the exact mask)",
    )


def _scale(text: str) -> float:
    from jaxseg.inference.measurements import SCALES, is_scale

    with contextlib.suppress(ValueError):
        if is_scale(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, as 21.5, from {SCALES[0]:g} to {SCALES[1]:g}")


def _pixels(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels, as 1.5")


def _check(args: argparse.Namespace) -> None:
    """Refuses options that would be ignored.

    Raises:
      UserError: such an option.
    """
    if args.pixels_per_mm and not args.measure:
        raise UserError("--pixels-per-mm is the scale of measurements: give --measure too")
    if args.simplify and not args.contours:
        raise UserError("--simplify is for outlines: give --contours too")


log = logging.getLogger("jaxseg.predict")


def _products(args: argparse.Namespace) -> list[str]:
    """Returns the kinds of files to write for each image."""
    asked = {
        "mask": True,
        "overlay": args.overlay,
        "probability": args.probabilities,
        "uncertainty": args.uncertainty,
        **{outlines: outlines in args.contours for outlines in ("geojson", "labelme", "svg")},
    }
    return [product for product, wanted in asked.items() if wanted]


def _extras(args: argparse.Namespace, source: Path, output: Path) -> "Extras":
    """Opens the files about all images of the folder.

    Args:
      args: the parsed command line.
      source: what `--input` names.
      output: what `--output` names.
    """
    from jaxseg.inference import inputs
    from jaxseg.inference.coco import CocoFile
    from jaxseg.inference.folder import Extras
    from jaxseg.inference.measurements import columns
    from jaxseg.inference.table import Table

    path = inputs.common_file(source, output, TABLE)
    table = None
    if args.measure:
        scale = args.pixels_per_mm
        table = Table(
            path, columns(scale), {"area_pixels": None} | ({"pixels_per_mm": f"{scale:.6g}"} if scale else {})
        )
    elif path.parent == output:  # one mask alone needs no table
        table = Table(path)
    coco = CocoFile(inputs.common_file(source, output, COCO), args.simplify) if "coco" in args.contours else None
    return Extras(table, args.measure, args.pixels_per_mm, coco, args.simplify)


def _say_what_is_several(table: "Table", images: Sequence["InputImage"]) -> None:
    """Logs how many of the measured masks have several parts, whose diameters reach from one to the other."""
    rows = [table.rows.get(image.name, {}) for image in images]
    if several := sum(row.get("components", "") not in ("", "0", "1") for row in rows):
        log.info(
            "%d of %d masks have several parts, which are measured as one; --largest-component keeps the largest alone",
            several,
            len(rows),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and segments; returns 1 if some images could not be read."""
    args = _parser().parse_args(argv)
    _check(args)

    from jaxseg.inference import earlier, inputs
    from jaxseg.runs.workdir import refuse_among_checkpoints

    cli.start_logging()
    source, output = Path(args.input), Path(args.output)
    refuse_among_checkpoints(output, "--output")
    images = inputs.find_images(source, output, _products(args))
    if source.is_dir():
        earlier.refuse_other_names(images)
    if not (args.overwrite or args.skip_existing):
        earlier.refuse_to_overwrite(images)

    from jaxseg.inference.folder import maker_of, predict
    from jaxseg.system import lock

    if args.runtime == JAX:  # the other does without
        from jaxseg.system import startup

        startup.tune()
    with lock.held(inputs.folder_to_lock(source, output), "--output"):
        extras = _extras(args, source, output)
        if args.overwrite:
            unused = [name for name, record in ((COCO, extras.coco), (TABLE, extras.table)) if record is None]
            earlier.tell_of_leftovers(images, [inputs.common_file(source, output, name) for name in unused])
        segmenter, prediction = cli.segmenter_from(args)
        maker = maker_of(segmenter, prediction)
        if source.is_dir():
            earlier.tell_of_a_mixture(images, extras.table.rows, extras.table.path, maker)
        if args.skip_existing:
            left = earlier.without_finished(images, maker, extras.records, args.simplify)
            log.info("%d of %d images were segmented before and are kept", len(images) - len(left), len(images))
            images = left
        failures = predict(segmenter, prediction, images, extras)
    if args.measure:
        _say_what_is_several(extras.table, images)
    log.info("%d of %d images segmented into %s", len(images) - len(failures), len(images), output)
    for failure in failures:
        log.error("not segmented: %s", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    cli.run("predict", main)
