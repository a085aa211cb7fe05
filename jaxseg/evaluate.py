"""Scores a trained model: `python -m jaxseg.evaluate --workdir runs/full --data isic2016 --split test`."""

import argparse
import dataclasses
import logging
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
        "--workdir W [--data D] [--split S] [--out DIR] [--ensemble W ...] [--tta] [--threshold VALUE|auto] "
        "[--largest-component] [--fill-holes] [--data-dir DIR]",
    )
    cli.add_model_arguments(result)
    result.add_argument(
        "--data", metavar="D", help=f"{datasets.help_of_names()} or a folder; default: what it trained on"
    )
    result.add_argument("--split", metavar="S", help=f"default: {datasets.help_of_default_splits()}")
    result.add_argument("--out", metavar="DIR", help="folder for the results; default: W/evaluation/D-S")
    cli.add_mask_arguments(result)
    cli.add_reading_arguments(result)
    return result


log = logging.getLogger("jaxseg.evaluate")


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, scores, prints the table."""
    args = _parser().parse_args(argv)

    from jaxseg import data
    from jaxseg.data.plausibility import check_masks
    from jaxseg.evaluation.scoring import evaluate, were_made_otherwise
    from jaxseg.inference.threshold import from_args, record
    from jaxseg.runs import workdir as files
    from jaxseg.runs.workdir import METRICS
    from jaxseg.system import lock, startup

    cli.start_logging()
    startup.tune()
    workdir = Path(args.workdir)
    config = files.read_config(workdir)
    changes = {"data.name": args.data, "data.data_dir": args.data_dir}
    data_config = config.updated({name: value for name, value in changes.items() if value is not None}).data
    data_config = data.absolute(data_config)
    if data_config.name != config.data.name:  # how the run's own folder is read says nothing of another one
        data_config = dataclasses.replace(data_config, **cli.READING_DEFAULTS)
    data_config = dataclasses.replace(data_config, **cli.reading_from(args))
    name = data.resolve_name(data_config)
    examples = data.open_split(data_config, args.split or data.default_split(name))
    check_masks([examples])
    out = Path(args.out) if args.out else workdir / "evaluation" / f"{Path(name).name}-{examples.split}"
    with lock.held(out, "--out"):
        segmenter, prediction = from_args(args)
        if were_made_otherwise(out / METRICS, record(segmenter, prediction)):
            log.warning("%s holds scores of other flags, which are replaced; --out DIR keeps both", out)
        evaluate(segmenter, prediction, examples, data_config, out)


if __name__ == "__main__":
    cli.run("evaluate", main)
