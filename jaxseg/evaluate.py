"""Scores a trained model: `python -m jaxseg.evaluate --workdir runs/full --data isic2016 --split test`."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxseg import cli
from jaxseg.config import datasets


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "evaluate",
        "Scores the best weights of a run on a split of a data set, per image and pooled over all pixels, at the "
        "images' own resolution and at the network's. Writes metrics.json, per_image.csv, cases.png, overlays/ and the "
        "page report.html.",
        "[--workdir W] [--data D] [--split S] [--out DIR] [--overwrite] [--batch-size N] [--ensemble W ...] [--tta] "
        "[--threshold VALUE|auto] [--largest-component] [--fill-holes] [--data-dir DIR] [--data.groups FILE] "
        "[--data.mask-lesion VALUE] [--data.mask-invert BOOL] [--data.mask-orientation HOW]",
    )
    cli.add_model_arguments(result)
    cli.add_batch_argument(result)
    result.add_argument(
        "--data", metavar="D", help=f"{datasets.help_of_names()} or a folder; default: what it trained on"
    )
    result.add_argument("--split", metavar="S", help=f"default: {datasets.help_of_default_splits()}")
    result.add_argument(
        "--out",
        metavar="DIR",
        help="folder for the results; default: W/evaluation/D-S, builtin/evaluation/D-S without --workdir",
    )
    result.add_argument(
        "--overwrite",
        action="store_true",
        help="replace scores of other images, other options or another checkpoint; the same evaluation given again "
        "replaces its scores without it",
    )
    cli.add_mask_arguments(result)
    cli.add_reading_arguments(result)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, scores, prints the table."""
    args = _parser().parse_args(argv)

    from jaxseg import data
    from jaxseg.config import demo
    from jaxseg.data.listing import refuse_within
    from jaxseg.data.plausibility import check_masks
    from jaxseg.evaluation.folder import check_is_no_run, check_may_replace, folder_of
    from jaxseg.evaluation.packaged import show_packaged_model
    from jaxseg.evaluation.scoring import evaluate
    from jaxseg.inference.threshold import describe_masks
    from jaxseg.pretrained import place
    from jaxseg.runs import workdir as files
    from jaxseg.runs.reading import with_reading_of
    from jaxseg.runs.splits import open_split
    from jaxseg.system import lock, startup

    cli.start_logging()
    startup.tune()
    workdir = place.folder_of(args.workdir)
    config = files.read_config(workdir)
    changes = {"data.name": args.data, "data.data_dir": args.data_dir}
    data_config = config.updated({name: value for name, value in changes.items() if value is not None}).data
    data_config = with_reading_of(workdir, config, data.absolute(data_config), cli.READING_DEFAULTS)
    data_config = dataclasses.replace(data_config, **cli.reading_from(args))
    name = data.resolve_name(data_config)
    examples = open_split(workdir, config, data_config, args.split or data.default_split(name))
    check_masks([examples], decided=data_config.decides_masks)
    # Nothing is written into the package.
    out = Path(args.out) if args.out else folder_of(Path(place.display_name(workdir)), examples)
    refuse_within(out, name, "--out")
    files.refuse_among_checkpoints(out, "--out")
    with lock.held(out, "--out"):
        check_is_no_run(out)
        segmenter, prediction = cli.segmenter_from(args)
        if not args.overwrite:
            check_may_replace(out, examples, data_config, describe_masks(segmenter, prediction))
        evaluate(segmenter, prediction, examples, data_config, out)
        if data_config == demo().data:
            show_packaged_model(examples, out)


if __name__ == "__main__":
    cli.run("evaluate", main)
