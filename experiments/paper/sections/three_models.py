"""The paper's comparison (4.3, 4.5, Fig. 6 and 7): U-Net + augmentation, ResNet-U-Net without and with augmentation.

    python -m experiments.paper.sections.three_models --out runs/paper --scale cpu

At scale `cpu` three quarters of an hour on one core of an AMD EPYC, three seeds each. Expect a pooled Dice on the
external set of 0.74 for the U-Net, and 0.81 and 0.82 for the ResNet-U-Net without and with augmentation
(`experiments/results/paper_cpu.json`); the paper gives 0.882, 0.929 and 0.938.
"""

from experiments.paper import rows
from experiments.paper.command import main
from experiments.paper.models import BARE, FULL, UNET
from experiments.paper.plots import bars, curves
from experiments.paper.rows import Row
from experiments.paper.study import Study
from jaxseg.metrics import SCORES

NAME = "three_models"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # the same rows at every scale
    return [UNET, BARE, FULL]


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    models = rows_of(study)
    results = [study.row(row) for row in models]
    figures = []
    if done := rows.done(results):
        curves(done, study.place(NAME, "curves.png"), synthetic=study.synthetic)
        numbers = {
            result["title"]: {
                "loss": [run["loss"] for run in result["tests"]["external"]],
                **{name: rows.values(result, "external", "pooled", name) for name in SCORES},
            }
            for result in done
            if "external" in result["tests"]
        }
        paper = {row.title: rows.PAPER[row.name] for row in models}
        bars(numbers, study.place(NAME, "bars.png"), synthetic=study.synthetic, paper=paper)
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
    study.section(
        NAME,
        title="Three models",
        paper="4.3 and 4.5, Fig. 6 and 7",
        about=(
            "The paper's ablation: encoder and focal loss against the plain U-Net, and what augmentation adds. "
            f"Scale {study.scale.name}. {study.scale.about}"
        ),
        tables=[rows.compared(results), *rows.tables(results)],
        figures=figures,
        missing=rows.missing(results),
        seconds=sum(result["seconds"] for result in done),
    )


if __name__ == "__main__":
    main(run, __doc__)
