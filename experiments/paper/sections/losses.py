"""Focal loss against binary cross-entropy and class-balanced focal loss (the paper's 3.3.3 and its contradictions).

python -m experiments.paper.sections.losses --out runs/paper --scale cpu
"""

from experiments.paper import rows, study
from experiments.paper.models import FULL
from experiments.paper.rows import Row

BCE = Row("loss_bce", "binary cross-entropy", {"loss.name": "bce"})
BALANCED = Row("loss_balanced", "focal, class-balanced", {"loss.class_balanced": True})

NAME = "losses"


def run(of: study.Study) -> None:
    """Trains what is not trained, and writes the section."""
    results = [of.row(FULL) | {"title": "focal (equation 2)"}, of.row(BCE), of.row(BALANCED)]
    of.section(
        NAME,
        title="Losses",
        paper="3.3.3, 4.2 and Table 1",
        about=(
            "The paper trains with focal loss by its text and with binary cross-entropy by its Table 1, and its alpha, "
            "said to balance the classes, multiplies every pixel alike. All three, all else equal."
        ),
        tables=rows.tables(results),
        missing=rows.missing(results),
        seconds=sum(result["seconds"] for result in rows.done(results)),
    )


if __name__ == "__main__":
    study.main(run, __doc__)
