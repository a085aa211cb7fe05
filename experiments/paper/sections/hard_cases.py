"""Hard cases (the paper's 4.4 and Table 2): five images, one per difficulty, with truth, prediction, Dice and Jaccard.

The paper does not name its images. Those here were picked by their looks from thumbnails, before any was scored.

python -m experiments.paper.sections.hard_cases --out runs/paper --scale cpu
"""

import dataclasses
import time

from experiments.paper import rows, study
from experiments.paper.models import FULL
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
"""Dice and Jaccard of its Table 2, by difficulty."""

IMAGES = {
    "isic2016": ("ISIC_0000347", "ISIC_0000095", "ISIC_0000166", "ISIC_0010569", "ISIC_0006940"),
    "synthetic": tuple(f"synthetic_train_{i:05d}" for i in (3, 1, 4, 0, 6)),
}
"""In the same order, from the training split of a set that no row but the in-domain one trains on, or of the generated
one, where they are only there to try the script out."""

NAME = "hard_cases"


def run(of: study.Study) -> None:
    """Segments the images by every run of the full model, and writes the section."""
    began, result = time.perf_counter(), of.row(FULL)
    tables, figures, missing = [], [], rows.missing([result])
    if not missing:
        config = of.config(FULL)
        dataset = of.external[0] if of.external[0] in IMAGES else "isic2016"
        examples = data.open_split(dataclasses.replace(config.data, name=dataset), "train")
        absent = [name for name in IMAGES[dataset] if name not in examples.names]
        missing = [f"{name} is not among the {len(examples)} images of {dataset}" for name in absent]
    if not missing:
        chosen = [examples.load(examples.names.index(name)) for name in IMAGES[dataset]]
        found = []
        for i in range(len(result["members"])):
            segmenter = Segmenter.load(of.folder(FULL) / f"member-{i}")
            found.append([segmenter(example.image) > 0.5 for example in chosen])
        truth = [example.mask[..., 0] > 0 for example in chosen]
        each = [[scores(confusion(m[None], t[None])) for m, t in zip(masks, truth, strict=True)] for masks in found]
        lines, cases = [], []
        for i, (kind, (dice, jaccard)) in enumerate(PAPER.items()):
            ours = {name: [float(run[i][name][0]) for run in each] for name in ("dice", "jaccard")}
            cells = [rows.shown(ours[name]) for name in ours]
            lines.append([kind, IMAGES[dataset][i], *cells, f"{dice:.3f}", f"{jaccard:.3f}"])
            cases.append(Case(kind, chosen[i].image, truth[i], found[0][i], ours["dice"][0]))
        overlay_sheet(cases, of.place(NAME, "cases.png"), "Hard cases", synthetic=of.synthetic)
        head = ["Difficulty", "Image", "Dice", "Jaccard", "Paper: Dice", "Paper: Jaccard"]
        tables = [
            {"caption": "At the images' own resolution; the paper's are of other images", "head": head, "rows": lines}
        ]
        figures = [{"file": "cases.png", "caption": "Image, truth, and the first run's prediction with the truth"}]
    of.section(
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
    study.main(run, __doc__)
