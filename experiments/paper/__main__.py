"""Runs all of the paper's experiments into one folder, with one page: `index.html`, and the same as `results.md`.

    python -m experiments.paper --out runs/smoke --scale smoke       (minutes on two CPU cores: does it run?)
    python -m experiments.paper --out runs/paper --scale cpu         (14 hours on one core of an AMD EPYC)
    python -m experiments.paper --out runs/full                      (the paper's settings; meant for a GPU)

After an interruption at any time, the same command continues: finished rows are skipped, and an unfinished one goes on
from its last epoch. The page is written again after every section, so it can be read meanwhile. At scale `cpu` expect a
pooled Dice of 0.82 on the external set for the full model; the paper gives 0.938.
"""

import dataclasses

from experiments.paper import command
from experiments.paper.page import write_page
from experiments.paper.sections import (
    augmentation,
    both_ways,
    cross_validation,
    drawn,
    drawn_few,
    encoders,
    gap,
    generalise,
    hard_cases,
    in_domain,
    losses,
    low_data,
    native,
    remaining,
    robustness,
    self_training,
    stacked_speed,
    three_models,
    thresholds,
    widened,
)
from experiments.shared.console import say

SECTIONS = (
    augmentation,
    three_models,
    native,
    cross_validation,
    hard_cases,
    losses,
    encoders,
    generalise,
    widened,
    drawn,
    drawn_few,
    self_training,
    gap,
    remaining,
    thresholds,
    in_domain,
    both_ways,
    robustness,
    low_data,
    stacked_speed,
)
"""The sections, in the order of the page and of the work."""


def main() -> None:
    """Parses the command line, runs the chosen sections and writes the page."""
    parser = command.parser(__doc__)
    names = [section.NAME for section in SECTIONS]
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="SECTION", help=f"run these sections alone: {', '.join(names)}"
    )
    args = parser.parse_args()
    chosen = [section for section in SECTIONS if not args.only or section.NAME in args.only]
    whole = command.study_of(args)
    rows = {row.name: row for section in chosen for row in section.rows_of(whole)}
    whole = dataclasses.replace(
        whole, planned=tuple(row for row in rows.values() if not args.rows or row.name in args.rows)
    )
    for section in chosen:
        say(f"section {section.NAME}")
        section.run(whole)
        page = write_page(whole.out, names)
    say(f"look at {page}")


if __name__ == "__main__":
    command.start(main)
