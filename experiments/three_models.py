"""The paper's comparison (4.3, 4.5, Fig. 6 and 7): U-Net + augmentation, ResNet-U-Net without and with augmentation.

python experiments/three_models.py --out runs/paper --scale cpu
"""

import rows
import study
from plots import bars, curves
from rows import Row

UNET = Row("unet_augmented", "U-Net + augmentation", {"model.encoder": "none"})
BARE = Row("resnet_unaugmented", "ResNet-U-Net + focal, no augmentation", {"augment.enabled": False})
FULL = Row("resnet_augmented", "ResNet-U-Net + focal + augmentation (the full model)")

NAME = "three_models"


def run(of: study.Study) -> None:
    """Trains what is not trained, and writes the section."""
    results = [of.row(row) for row in (UNET, BARE, FULL)]
    figures = []
    if done := rows.done(results):
        curves(done, of.place(NAME, "curves.png"), synthetic=of.synthetic)
        bars(done, of.place(NAME, "bars.png"), synthetic=of.synthetic, paper=rows.PAPER)
        figures = [
            {
                "file": "curves.png",
                "caption": "Loss and accuracy over the epochs: mean and range over the runs (Fig. 6)",
            },
            {
                "file": "bars.png",
                "chart": True,
                "caption": "External set, pooled: mean and standard deviation over the runs, and the paper's (Fig. 7)",
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


if __name__ == "__main__":
    study.main(run, __doc__)
