"""The full model by cross-validation on its training data; folds are stratified by diagnosis.

    python -m experiments.paper.sections.cross_validation --out runs/paper --scale cpu

At scale `cpu` 21 minutes on one core of an AMD EPYC. Expect a Dice per image of 0.92 on validation images.
"""

from collections.abc import Callable, Sequence

from experiments.paper import rows
from experiments.paper.command import main
from experiments.paper.rows import Row
from experiments.paper.study import Study
from experiments.shared.origin import JSON

ROW = Row("cross_validation", "ResNet-U-Net + focal + augmentation, folds", folds=True)

NAME = "cross_validation"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # the same row at every scale
    return [ROW]


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    section(
        study,
        NAME,
        [ROW],
        title="Cross-validation",
        paper="4.1 does not say which images validate",
        about=(
            "Every image validates once. The best epoch is chosen by the loss on the same images, so their scores are "
            "slightly too good; the external set has no part in any choice."
        ),
    )


def section(
    study: Study,
    name: str,
    of_folds: Sequence[Row],
    more: Callable[[Sequence[Row]], list[JSON]] = lambda trained: [],
    **words: str,
) -> None:
    """Writes a section of rows of folds: their scores, and a line per fold.

    Args:
      study: the study.
      name: name of the section's folder.
      of_folds: the rows.
      more: returns further tables of those rows that are trained.
      words: "title", "about" and "paper" of the section.
    """
    results = [study.row(row) for row in of_folds]
    there = [row for row, result in zip(of_folds, results, strict=True) if "missing" not in result]
    study.section(
        name,
        tables=[*rows.tables(results), *map(by_fold, rows.done(results)), *more(there)],
        missing=rows.missing(results),
        seconds=sum(result["seconds"] for result in rows.done(results)),
        **words,
    )


def by_fold(result: JSON) -> JSON:
    """Returns a table with a line per fold."""
    lines = []
    for i, member in enumerate(result["members"]):
        line = [str(member["fold"]), str(member["train_images"]), str(member["validation_images"])]
        for test in result["tests"]:
            scores = result["tests"][test][i]
            line += [f"{scores['per_image']['dice']:.3f}", f"{scores['pooled']['dice']:.3f}"]
        lines.append([*line, str(member["best_epoch"])])
    heads = [f"{test}: Dice {how}" for test in result["tests"] for how in ("per image", "pooled")]
    head = ["Fold", "Training images", "Validation images", *heads, "Best epoch"]
    return {"caption": f"{result['title']}: fold by fold", "head": head, "rows": lines}


if __name__ == "__main__":
    main(run, __doc__)
