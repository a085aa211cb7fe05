"""Shows a data set as training will read it: `python -m jaxseg.inspect --data D --out DIR`."""

import argparse
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from jaxseg import cli
from jaxseg.config import Config, combinations, flag_values

PICTURES = 36
"""Images on the page, unless told otherwise."""

log = logging.getLogger("jaxseg.inspect")  # not __name__, which is "__main__" when run as a command


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "inspect",
        "Reads every image and mask of a data set once and writes inspect.html, a page of images with the outlines as "
        "training will read them, counts, suspicious masks and near-duplicates across the split, and inspect.json with "
        "all numbers.",
        "--data D --out DIR [--pictures N] [--data.any-setting VALUE]",
    )
    result.add_argument("--out", required=True, metavar="DIR", help="folder for inspect.html and inspect.json")
    result.add_argument(
        "--pictures",
        type=flag_values.whole_number_from(0),
        default=PICTURES,
        metavar="N",
        help=f"images to show, the suspicious ones first (default: {PICTURES})",
    )
    cli.add_data_settings(result)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, reads the set, writes the page.

    Args:
      argv: its arguments; default: those of the process.
    """
    args = _parser().parse_args(argv)
    given = cli.changes_from(args)
    whole = Config().updated(given)
    config = whole.data

    from jaxseg import data
    from jaxseg.data.listing import refuse_within
    from jaxseg.data.survey import compared, summary, survey, worth_a_look
    from jaxseg.report.inspection import check_may_replace, picture, write_inspection
    from jaxseg.runs.workdir import refuse_among_checkpoints
    from jaxseg.system.progress_bar import progress

    cli.start_logging()
    combinations.check(whole, given)
    config = data.absolute(config)
    config = dataclasses.replace(config, name=data.resolve_name(config))
    parts = data.training_splits(config)
    check_may_replace(Path(args.out), parts[0].dataset)
    refuse_within(Path(args.out), config.name, "--out")
    refuse_among_checkpoints(Path(args.out), "--out")
    total = sum(map(len, parts))
    rows = compared(list(progress(survey(parts, config.workers), "reading", total)))
    numbers = summary(config, parts, rows)
    places = [(part, index) for part in parts for index in range(len(part))]
    pictures = [
        {
            "name": rows[i].name,
            "split": rows[i].split,
            "group": rows[i].group,
            "doubt": rows[i].doubt,
            "uri": picture(*places[i][0].load(places[i][1])),
        }
        for i in worth_a_look(rows, args.pictures)
    ]
    page = write_inspection(Path(args.out), numbers, pictures)
    log.info(
        "%d images, %d suspicious, %d near-duplicates across the split; look at %s",
        total,
        len(numbers["suspicious"]),
        len(numbers["near_duplicates"]),
        page,
    )


if __name__ == "__main__":
    cli.run("inspect", main)
