"""Focal loss against binary cross-entropy and class-balanced focal loss (the paper's 3.3.3 and its contradictions).

    python -m experiments.paper.sections.losses --out runs/paper --scale cpu

At scale `cpu` 26 minutes on one core of an AMD EPYC besides the full model. Expect a Dice per image on the external set
of 0.79 (focal), 0.78 (cross-entropy) and 0.77 (class-balanced), which the spread over seeds cannot tell apart.
"""

from experiments.paper import rows
from experiments.paper.command import main
from experiments.paper.models import FULL
from experiments.paper.rows import Row
from experiments.paper.study import Study

BCE = Row("loss_bce", "binary cross-entropy", {"loss.name": "bce"})
BALANCED = Row("loss_balanced", "focal, class-balanced", {"loss.class_balanced": True})

NAME = "losses"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # the same rows at every scale
    return [FULL, BCE, BALANCED]


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    results = [study.row(FULL) | {"title": "focal (equation 2)"}, study.row(BCE), study.row(BALANCED)]
    study.section(
        NAME,
        title="Losses",
        paper="3.3.3, 4.2 and Table 1",
        about=(
            "The paper trains with focal loss according to its text, and with binary cross-entropy according to its "
            "Table 1. Its alpha is said to balance the classes and multiplies all pixels alike. Here are all three, "
            "with everything else equal."
        ),
        tables=rows.tables(results),
        missing=rows.missing(results),
        seconds=sum(result["seconds"] for result in rows.done(results)),
    )


if __name__ == "__main__":
    main(run, __doc__)
