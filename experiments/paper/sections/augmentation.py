"""The paper's Fig. 4 in a study: training images as augmentation shows them.

    python -m experiments.paper.sections.augmentation --out runs/paper --scale cpu

Ten seconds on two cores of an AMD EPYC. It draws two pictures and gives no number.
"""

import time

from experiments.paper.augmentation_sheet import draw
from experiments.paper.command import main
from experiments.paper.models import FINAL, FULL
from experiments.paper.rows import Row
from experiments.paper.study import Study
from jaxseg import data
from jaxseg.errors import UserError

NAME = "augmentation"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # no row is trained
    return []


def run(study: Study) -> None:
    """Draws training images augmented as in the paper and as in `generalise`, and writes the section."""
    began, figures, missing = time.perf_counter(), [], []
    for row, file, caption in (
        (FULL, "paper.png", "The paper's augmentation: rotation, flips, zoom, shear (Fig. 4)"),
        (FINAL, "generalise.png", "The augmentation of the preset generalise"),
    ):
        config = study.config(row)
        try:
            train, _ = data.training_splits(config.data)
        except UserError as error:
            missing = [str(error)]
            continue
        draw(config, train, study.place(NAME, file))
        figures.append({"file": file, "caption": caption})
    study.section(
        NAME,
        title="Augmentation",
        paper="3.3.1, Fig. 4",
        about="Training images with the outlines of their masks: unchanged, and as augmentation changes them.",
        figures=figures,
        missing=missing,
        seconds=time.perf_counter() - began,
    )


if __name__ == "__main__":
    main(run, __doc__)
