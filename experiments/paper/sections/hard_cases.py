"""Hard cases (the paper's 4.4 and Table 2): five images, one per difficulty, with truth, prediction, Dice and Jaccard.

The paper does not name its images. These were chosen by eye from thumbnails, before any was scored.

    python -m experiments.paper.sections.hard_cases --out runs/paper --scale cpu

Seconds on one core of an AMD EPYC once the full model is trained. At scale `cpu` expect a Dice between 0.27 (small
lesion) and 0.94 (texture); the paper gives 0.909 to 0.965 for its images.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.paper import rows
from experiments.paper.command import main
from experiments.paper.measured import of_runs
from experiments.paper.models import FULL
from experiments.paper.rows import Row
from experiments.paper.study import Study
from experiments.shared.origin import JSON
from jaxseg import data
from jaxseg.data import Example
from jaxseg.inference.masks import THRESHOLD
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
    dataset = study.external[0] if study.external[0] in IMAGES else "isic2016"
    examples = None
    if not missing:
        examples = data.open_split(dataclasses.replace(study.config(FULL).data, name=dataset), "train")
        absent = [name for name in IMAGES[dataset] if name not in examples.names]
        missing = [f"{name} is not among the {len(examples)} images of {dataset}" for name in absent]
    if not missing:
        chosen = [examples.load(examples.names.index(name)) for name in IMAGES[dataset]]
        runs = of_runs(study, FULL, NAME, lambda workdirs: [_scores(_masks(workdir, chosen)) for workdir in workdirs])
        missing = [] if runs else ["no run is measured"]
    if not missing:
        caption = rows.partly(
            "At the images' own resolution; the paper's numbers are of other images", len(runs), result
        )
        tables = [{"caption": caption, **_table(runs, IMAGES[dataset])}]
        here = study.workdirs_here(FULL)
        if here:
            _picture(here[0], chosen, study)
            figures = [
                {"file": "cases.png", "caption": f"Image, truth, and {here[0].name}'s prediction with the truth"}
            ]
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


def _masks(workdir: Path, chosen: Sequence[Example]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns found and true masks, bool [H, W], at the images' own size."""
    segmenter = Segmenter.load(workdir)
    return [(segmenter(example.image) > THRESHOLD, example.mask[..., 0] > 0) for example in chosen]


def _scores(masks: Sequence[tuple[np.ndarray, np.ndarray]]) -> JSON:
    """Returns Dice and Jaccard of pairs of masks, by difficulty."""
    scored = [scores(confusion(found[None], truth[None])) for found, truth in masks]
    return {
        kind: {name: float(of_image[name][0]) for name in ("dice", "jaccard")}
        for kind, of_image in zip(PAPER, scored, strict=True)
    }


def _table(runs: Sequence[JSON], names: Sequence[str]) -> JSON:
    lines = []
    for (kind, (dice, jaccard)), name in zip(PAPER.items(), names, strict=True):
        cells = [rows.shown([run[kind][score] for run in runs]) for score in ("dice", "jaccard")]
        lines.append([kind, name, *cells, f"{dice:.3f}", f"{jaccard:.3f}"])
    return {
        "head": ["Difficulty", "Image", "Dice", "Jaccard", "Paper: Dice", "Paper: Jaccard"],
        "rows": lines,
    }


def _picture(workdir: Path, chosen: Sequence[Example], study: Study) -> None:
    masks = _masks(workdir, chosen)
    scored = _scores(masks)
    cases = [
        Case(kind, example.image, truth, found, scored[kind]["dice"])
        for kind, example, (found, truth) in zip(PAPER, chosen, masks, strict=True)
    ]
    overlay_sheet(cases, study.place(NAME, "cases.png"), "Hard cases", synthetic=study.synthetic)


if __name__ == "__main__":
    main(run, __doc__)
