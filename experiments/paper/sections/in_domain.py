"""Trained and scored in one domain: cross-validation on the training images of ISIC 2016.

    python -m experiments.paper.sections.in_domain --out runs/paper --scale cpu

At scale `cpu` (two epochs) 15 minutes on one core of an AMD EPYC. Expect a Dice per image of 0.86 on held-out images.
"""

from experiments.paper.command import main
from experiments.paper.rows import Row
from experiments.paper.sections.cross_validation import section
from experiments.paper.study import Study

NAME = "in_domain"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    name, changes = study.scale.in_domain
    return [Row("in_domain", f"the full model, trained on {name}, folds", {"data.name": name, **changes}, folds=True)]


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    (row,) = rows_of(study)
    section(
        study,
        NAME,
        row,
        title="In its own domain",
        about=(
            "How much of the distance to the paper's numbers comes from the step between data sets? The same network, "
            "trained on images of the external set's kind and scored on held-out ones."
        ),
    )


if __name__ == "__main__":
    main(run, __doc__)
