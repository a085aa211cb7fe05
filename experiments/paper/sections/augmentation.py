"""The paper's Fig. 4 in a study: training images as augmentation shows them.

python -m experiments.paper.sections.augmentation --out runs/paper --scale cpu
"""

import time

from experiments.paper import study
from experiments.paper.augmentation_sheet import draw
from experiments.paper.models import FINAL, FULL
from jaxseg import data
from jaxseg.errors import UserError

NAME = "augmentation"


def run(of: study.Study) -> None:
    """Draws the paper's augmentation and that of `generalise`, and writes the section."""
    began, figures, missing = time.perf_counter(), [], []
    for row, file, caption in (
        (FULL, "paper.png", "The paper's augmentation: rotation, flips, zoom, shear (Fig. 4)"),
        (FINAL, "generalise.png", "That of the preset generalise"),
    ):
        config = of.config(row)
        try:
            train, _ = data.training_splits(config.data)
        except UserError as error:
            missing = [str(error)]
            continue
        draw(config, train, of.place(NAME, file))
        figures.append({"file": file, "caption": caption})
    of.section(
        NAME,
        title="Augmentation",
        paper="3.3.1, Fig. 4",
        about="Training images with their masks' outlines: as they are, and as they were drawn for the network.",
        figures=figures,
        missing=missing,
        seconds=time.perf_counter() - began,
    )


if __name__ == "__main__":
    study.main(run, __doc__)
