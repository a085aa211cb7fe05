"""Compares runs on the same images: `python -m jaxseg.compare runs/a runs/b`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxseg import cli
from jaxseg.errors import UserError


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "compare",
        "Compares runs that were evaluated on the same images: each with the first, by a paired bootstrap and "
        "Wilcoxon's signed-rank test. Prints a Markdown table; needs no GPU and does not read the weights.",
        "RUN_A RUN_B [RUN ...] [--data D] [--split S] [--out DIR]",
    )
    result.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run that was evaluated, or the folder of one evaluation"
    )
    result.add_argument("--data", metavar="D", help="data set of the evaluations; default: the one that all runs share")
    result.add_argument("--split", metavar="S", help="split of the evaluations; default: the one that all runs share")
    result.add_argument("--out", metavar="DIR", help="folder for compare.md and compare.csv; default: nothing written")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, compares, prints and writes.

    Raises:
      UserError: only one run is given, or the runs cannot be compared.
    """
    args = _parser().parse_args(argv)
    if len(args.runs) < 2:
        raise UserError(f"{args.runs[0]} alone: name at least two runs to compare")

    from jaxseg.evaluation.comparison import (
        REPORT,
        TABLE,
        check_may_replace,
        check_same_images,
        find,
        load,
        markdown,
        table_csv,
    )
    from jaxseg.evaluation.significance import correct, differences
    from jaxseg.runs.workdir import refuse_among_checkpoints
    from jaxseg.system.files import write_text

    out = Path(args.out) if args.out else None
    evaluations = [load(folder) for folder in find([Path(run) for run in args.runs], args.data, args.split)]
    check_same_images(evaluations)
    if out:
        refuse_among_checkpoints(out, "--out")
        check_may_replace(out, evaluations)
    compared = correct([differences(evaluations[0].images, other.images) for other in evaluations[1:]])
    text = markdown(evaluations, compared)
    print(text, end="")
    if out:
        write_text(out / REPORT, text)
        write_text(out / TABLE, table_csv(evaluations, compared))


if __name__ == "__main__":
    cli.run("compare", main)
