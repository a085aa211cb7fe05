"""Hard cases (the paper's 4.4 and Table 2): five images, one per difficulty, with truth, prediction, Dice and Jaccard.

The paper does not name its images. These were chosen by eye from thumbnails, before any was scored.

    python -m experiments.paper.sections.hard_cases --out runs/paper --scale cpu

Seconds on one core of an AMD EPYC once the full model is trained. At scale `cpu` expect a Dice between 0.27 (small
lesion) and 0.94 (texture); the paper gives 0.909 to 0.965 for its images.
"""

import dataclasses
import time

from experiments.paper import rows
from experiments.paper.models import FULL
from experiments.paper.rows import Row
from experiments.paper.study import Study, main
from jaxseg import data
from jaxseg.inference.segmenter import Segmenter
from jaxseg.metrics import confusion, scores
from jaxseg.report.overlays import Case, overlay_sheet

PAPER = {
    "low contrast, dark circular border": (0.965, 0.933),
    "hair": (0.952, 0.908),
    "texture and colour variation": (0.963, 0.929),
    "small lesion": (0.909, 0.833),
    "foreign object": (0.941, 0.889),
}
"""Dice and Jaccard of the paper's Table 2, by difficulty."""

IMAGES = {
    "isic2016": ("ISIC_0000347", "ISIC_0000095", "ISIC_0000166", "ISIC_0010569", "ISIC_0006940"),
    "synthetic": tuple(f"synthetic_train_{i:05d}" for i in (3, 1, 4, 0, 6)),
}
"""Names of the images by data set, in the order of `PAPER`. They are from the training split of a set that only the
in-domain row trains on. The generated images serve to try the script out."""

NAME = "hard_cases"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # the same row at every scale
    return [FULL]


def run(study: Study) -> None:
    """Segments the images by every run of the full model, and writes the section."""
    began, result = time.perf_counter(), study.row(FULL)
    tables, figures, missing = [], [], rows.missing([result])
    if not missing:
        config = study.config(FULL)
        dataset = study.external[0] if study.external[0] in IMAGES else "isic2016"
        examples = data.open_split(dataclasses.replace(config.data, name=dataset), "train")
        absent = [name for name in IMAGES[dataset] if name not in examples.names]
        missing = [f"{name} is not among the {len(examples)} images of {dataset}" for name in absent]
    if not missing:
        chosen = [examples.load(examples.names.index(name)) for name in IMAGES[dataset]]
        found = []
        for i in range(len(result["members"])):
            segmenter = Segmenter.load(study.folder(FULL) / f"member-{i}")
            found.append([segmenter(example.image) > 0.5 for example in chosen])
        truth = [example.mask[..., 0] > 0 for example in chosen]
        scored = [[scores(confusion(m[None], t[None])) for m, t in zip(masks, truth, strict=True)] for masks in found]
        lines, cases = [], []
        for i, (kind, (dice, jaccard)) in enumerate(PAPER.items()):
            ours = {name: [float(run[i][name][0]) for run in scored] for name in ("dice", "jaccard")}
            cells = [rows.shown(ours[name]) for name in ours]
            lines.append([kind, IMAGES[dataset][i], *cells, f"{dice:.3f}", f"{jaccard:.3f}"])
            cases.append(Case(kind, chosen[i].image, truth[i], found[0][i], ours["dice"][0]))
        overlay_sheet(cases, study.place(NAME, "cases.png"), "Hard cases", synthetic=study.synthetic)
        head = ["Difficulty", "Image", "Dice", "Jaccard", "Paper: Dice", "Paper: Jaccard"]
        tables = [
            {
                "caption": "At the images' own resolution; the paper's numbers are of other images",
                "head": head,
                "rows": lines,
            }
        ]
        figures = [{"file": "cases.png", "caption": "Image, truth, and the first run's prediction with the truth"}]
    study.section(
        NAME,
        title="Hard cases",
        paper="4.4, Table 2",
        about=(
            "The paper shows five images of its test set and does not name them. These were picked for the same five "
            "difficulties by their looks alone, from thumbnails, before any was scored."
        ),
        tables=tables,
        figures=figures,
        missing=missing,
        seconds=time.perf_counter() - began,
    )


if __name__ == "__main__":
    main(run, __doc__)
