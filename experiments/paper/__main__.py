"""Runs all of the paper's experiments into one folder, with one page: `index.html`, and `results.md`.

    python -m experiments.paper --out runs/paper --scale cpu

Interrupted, it goes on when the command is given again: what is done is skipped, a training row as a whole. The page is
written anew after every section, so it can be looked at meanwhile.
"""

from experiments.paper import study
from experiments.paper.page import write_page
from experiments.paper.sections import augmentation as figure_4
from experiments.paper.sections import (
    cross_validation,
    encoders,
    gap,
    generalise,
    hard_cases,
    in_domain,
    losses,
    low_data,
    robustness,
    stacked_speed,
    three_models,
)

SECTIONS = (
    figure_4,
    three_models,
    cross_validation,
    hard_cases,
    losses,
    encoders,
    generalise,
    gap,
    in_domain,
    robustness,
    low_data,
    stacked_speed,
)
"""In the order of the page and of the work."""


def main() -> None:
    """Parses the command line, runs the sections that are wanted, writes the page."""
    parser = study.parser(__doc__)
    names = [section.NAME for section in SECTIONS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="SECTION", help=f"of {', '.join(names)}")
    args = parser.parse_args()
    of = study.study_of(args)
    for section in SECTIONS:
        if not args.only or section.NAME in args.only:
            study.say(f"section {section.NAME}")
            section.run(of)
            page = write_page(of.out, names)
    study.say(f"look at {page}")


if __name__ == "__main__":
    study.start(main)
