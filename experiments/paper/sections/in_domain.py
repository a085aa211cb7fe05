"""Trained and scored in one domain: cross-validation on the training images of ISIC 2016.

    python -m experiments.paper.sections.in_domain --out runs/paper --scale cpu

At scale `cpu` (two epochs) 15 minutes for the full model on one core of an AMD EPYC; the preset was not timed. Expect a
Dice per image of 0.86 on held-out images for the full model.
"""

from experiments.paper.command import main
from experiments.paper.models import FINAL, ON_PHOTOGRAPHS, PHOTOGRAPHS, PRESET
from experiments.paper.rows import Row
from experiments.paper.sections import native
from experiments.paper.sections.cross_validation import section
from experiments.paper.study import Study

NAME = "in_domain"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    name, changes = study.scale.in_domain
    rows = (
        ("in_domain", "the full model", {}),
        ("in_domain_generalise", ON_PHOTOGRAPHS, PHOTOGRAPHS.changes),
        ("in_domain_generalise_drawn", PRESET, FINAL.changes),
    )
    return [
        Row(row, f"{title}, trained on {name}, folds", {**recipe, "data.name": name, **changes}, folds=True)
        for row, title, recipe in rows
    ]


def run(study: Study) -> None:
    """Trains the rows that are not there yet, scores them, and writes the section."""
    section(
        study,
        NAME,
        rows_of(study),
        title="In its own domain",
        about=(
            "How much of the distance to the paper's numbers comes from the step between data sets? The same network, "
            "trained on images of the external set's kind and scored on held-out ones. The best epoch is chosen by the "
            "loss on the same images, so their scores are slightly too good."
        ),
        more=lambda trained: native.tables_of_folds(study, trained),
    )


if __name__ == "__main__":
    main(run, __doc__)
