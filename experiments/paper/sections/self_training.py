"""Self-training: what unlabelled images of the cameras to be segmented bring.

The preset's runs together label half of the external set; new runs learn from the training set and these images. The
other half tests both. Nobody's outline of an external image is learned from, but the images are seen: a row of its own.

    python -m experiments.paper.sections.self_training --out runs/paper --scale cpu

At scale `cpu` half an hour on two cores of an AMD EPYC without AVX-512, once the teachers' row is trained.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.paper import rows, style
from experiments.paper.command import main
from experiments.paper.cuts import CLEAN, cut, with_best_threshold
from experiments.paper.drawn_models import epochs_of
from experiments.paper.measured import of_runs
from experiments.paper.models import ON_PHOTOGRAPHS, PHOTOGRAPHS
from experiments.paper.pool import resized
from experiments.paper.rows import Row, shown
from experiments.paper.study import MAPS, Study, load_maps
from experiments.paper.teaching import halves
from experiments.shared.origin import JSON
from jaxseg.inference.masks import THRESHOLD, Prediction

NAME = "self_training"

PLAIN, CHOSEN = f"cut at {THRESHOLD}", "threshold from validation, largest component, holes filled"
"""How masks are made."""

SHARE = 0.4
"""Epochs of the pupils, of the teachers': theirs have about three times as many steps."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    epochs = math.ceil(SHARE * epochs_of(study))
    pupil = Row("self_trained", "its pupils", PHOTOGRAPHS.changes | {"train.epochs": epochs}, teacher=PHOTOGRAPHS)
    return [PHOTOGRAPHS, pupil]


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    began = time.perf_counter()
    models = dict(zip((ON_PHOTOGRAPHS, "its pupils"), rows_of(study), strict=True))
    results = {title: study.row(row) for title, row in models.items()}
    trained = {title: row for title, row in models.items() if "tests" in results[title]}
    measured = {title: runs for title, row in trained.items() if (runs := measure(study, row))}
    lines = [
        [rows.partly(title, len(runs), results[title]), way, *_cells([run[way] for run in runs])]
        for title, runs in measured.items()
        for way in (PLAIN, CHOSEN)
    ]
    for title, row in trained.items():
        if (study.folder(row) / MAPS).exists():
            maps = {name: found.mean(axis=0) for name, found in _maps(study, row).items()}
            lines.append([f"{title}, mean map of its runs", CHOSEN, *_cells([_scored(maps, _truths(study))[CHOSEN]])])
    head = ["Runs of", "Masks", "Validation", "External half", *(f"{name}, pooled" for name in ("Dice", "Jaccard"))]
    study.section(
        NAME,
        title="Self-training on unlabelled images",
        about=(
            f"The mean map of the runs of {ON_PHOTOGRAPHS}, with a threshold from validation images, its largest "
            "component and holes filled, labels half of the external set. Pupils learn from the training set and these "
            f"images, with the same settings, from ImageNet weights where the teachers do, for {SHARE:g} of the "
            f"epochs, which are longer. Scores are on the other half. {style.ABOUT}"
        ),
        tables=[{"caption": "Dice per image unless pooled", "head": [*head, *style.MEASURES], "rows": lines}],
        missing=[
            *rows.missing([result | {"title": title} for title, result in results.items()]),
            *rows.unmeasured(trained, measured),
        ],
        rows=[row.name for row in models.values()],
        seconds=time.perf_counter() - began,
    )


def measure(study: Study, row: Row) -> list[JSON]:
    """Returns what the table shows of each run of a row, and keeps it in the row's folder.

    Args:
      study: the study.
      row: a trained row, of teachers or pupils.

    Returns:
      For each measured run, by how masks are made, "validation" (mean Dice), "external" (`rows.score` on the half that
      nobody learned from, without the images' own) and "style" (of `style.of_masks`).
    """

    def of_maps(workdirs: Sequence[Path]) -> list[JSON]:
        if not (study.folder(row) / MAPS).exists():
            return []
        maps, truths, here = _maps(study, row), _truths(study), study.workdirs_here(row)
        return [_scored({name: found[i] for name, found in maps.items()}, truths) for i in map(here.index, workdirs)]

    return of_runs(study, row, NAME, of_maps)


def _maps(study: Study, row: Row) -> dict[str, np.ndarray]:
    """Returns a row's probabilities [M, N, S, S] on "validation", and on the half that tests as "external"."""
    maps = load_maps(study.folder(row) / MAPS)
    tested = slice(None) if row.teacher else halves(study.external_set(study.config(row)))[1]
    return maps | {"external": maps["external"][:, tested]}


def _truths(study: Study) -> dict[str, np.ndarray]:
    """Returns the masks {0, 1} [N, S, S] of "validation", and of the half that tests as "external"."""
    _, pupil = rows_of(study)
    config = study.config(pupil)
    sets = {"validation": study.splits(config)[1], "external": study.test_set(pupil, config)}
    return {name: resized(examples, config)[1][..., 0] for name, examples in sets.items()}


def _scored(maps: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> JSON:
    """Returns an entry of `measure` from the probabilities [N, S, S] of one run, or of the mean of several."""
    ways = {PLAIN: Prediction(), CHOSEN: with_best_threshold(maps["validation"], truth["validation"], CLEAN)}
    result = {}
    for way, prediction in ways.items():
        masks = {name: cut(found, prediction) for name, found in maps.items()}
        scored = rows.score(masks["external"], truth["external"])
        del scored["dice"]  # of every image
        result[way] = {
            "threshold": prediction.threshold,
            "validation": rows.score(masks["validation"], truth["validation"])["per_image"]["dice"],
            "external": scored,
            "style": style.of_masks(masks["external"], truth["external"]),
        }
    return result


def _cells(runs: Sequence[JSON]) -> list[str]:
    external = [run["external"] for run in runs]
    return [
        shown([run["validation"] for run in runs]),
        shown([scored["per_image"]["dice"] for scored in external]),
        *(shown([scored["pooled"][name] for scored in external]) for name in ("dice", "jaccard")),
        *style.cells([run["style"] for run in runs]),
    ]


if __name__ == "__main__":
    main(run, __doc__)
