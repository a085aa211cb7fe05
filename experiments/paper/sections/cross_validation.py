"""The full model by cross-validation on what it is trained on; folds are stratified by diagnosis.

python -m experiments.paper.sections.cross_validation --out runs/paper --scale cpu
"""

from experiments.paper import rows, study
from experiments.paper.rows import Row

ROW = Row("cross_validation", "ResNet-U-Net + focal + augmentation, folds", folds=True)

NAME = "cross_validation"


def run(of: study.Study) -> None:
    """Trains what is not trained, and writes the section."""
    section(
        of,
        NAME,
        ROW,
        title="Cross-validation",
        paper="4.1 does not say which images validate",
        about=(
            "Every image validates once. The epoch is chosen by the loss on the same images, which makes their scores "
            "a little too good; the external set has no such part."
        ),
    )


def section(of: study.Study, name: str, row: Row, **words: str) -> None:
    """Writes a section of one row of folds: its scores, and a line per fold."""
    result = of.row(row)
    tables = rows.tables([result])
    if "missing" not in result:
        tables.append(by_fold(result))
    of.section(name, tables=tables, missing=rows.missing([result]), seconds=result.get("seconds", 0.0), **words)


def by_fold(result: rows.JSON) -> rows.JSON:
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
    return {"caption": "Fold by fold", "head": head, "rows": lines}


if __name__ == "__main__":
    study.main(run, __doc__)
