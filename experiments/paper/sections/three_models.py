"""The paper's comparison (4.3, 4.5, Fig. 6 and 7): U-Net + augmentation, ResNet-U-Net without and with augmentation.

python -m experiments.paper.sections.three_models --out runs/paper --scale cpu
"""

import numpy as np

from experiments.paper import rows, study
from experiments.paper.models import BARE, FULL, UNET
from experiments.paper.plots import bars, curves
from experiments.paper.rows import Row
from experiments.paper.stacked import resized
from jaxseg.losses import create_loss
from jaxseg.metrics import SCORES

NAME = "three_models"


def run(of: study.Study) -> None:
    """Trains what is not trained, and writes the section."""
    models = (UNET, BARE, FULL)
    results = [of.row(row) for row in models]
    figures = []
    if done := rows.done(results):
        curves(done, of.place(NAME, "curves.png"), synthetic=of.synthetic)
        numbers = {
            row.title: {
                "loss": external_losses(of, row),
                **{name: rows.values(result, "external", "pooled", name) for name in SCORES},
            }
            for row, result in zip(models, results, strict=True)
            if "missing" not in result
        }
        paper = {row.title: rows.PAPER[row.name] for row in models}
        bars(numbers, of.place(NAME, "bars.png"), synthetic=of.synthetic, paper=paper)
        figures = [
            {
                "file": "curves.png",
                "chart": True,
                "caption": "Loss and accuracy over the epochs: mean and range over the runs (Fig. 6)",
            },
            {
                "file": "bars.png",
                "chart": True,
                "caption": "External set: focal loss and pooled scores, mean and deviation over the runs (Fig. 7)",
            },
        ]
    of.section(
        NAME,
        title="Three models",
        paper="4.3 and 4.5, Fig. 6 and 7",
        about=(
            "The paper's ablation: encoder and focal loss against the plain U-Net, and what augmentation adds. "
            f"Scale {of.scale.name}. {of.scale.about}"
        ),
        tables=[rows.compared(results), *rows.tables(results)],
        figures=figures,
        missing=rows.missing(results),
        seconds=sum(result["seconds"] for result in done),
    )


def external_losses(of: study.Study, row: Row) -> list[float]:
    """Returns each run's focal loss on the external set, of its kept probabilities, which are in steps of 1/255."""
    config = of.config(row)
    truth = resized(of.external_set(config), config)[1][..., 0]
    found = np.clip(study.load_maps(of.folder(row) / "maps.npz")["external"], 1 / 510, 1 - 1 / 510)
    loss = create_loss(config.loss)
    return [float(loss(np.log(maps / (1 - maps)), truth)) for maps in found]


if __name__ == "__main__":
    study.main(run, __doc__)
