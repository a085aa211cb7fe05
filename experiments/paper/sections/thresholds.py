"""Which images choose a threshold that suits other cameras: validation images as they are or spoilt, or drawn ones.

The external set shows the outcome and chooses nothing; what it would choose is a bound in the section `gap`.

    python -m experiments.paper.sections.thresholds --out runs/paper --scale cpu

Seconds per run at scale `cpu`, three minutes at scale `full`, on two cores of an AMD EPYC once the rows are trained.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.paper import rows
from experiments.paper.command import main
from experiments.paper.cuts import cut, with_best_threshold
from experiments.paper.measured import of_runs
from experiments.paper.models import RECIPES
from experiments.paper.pool import resized
from experiments.paper.rows import Row, shown
from experiments.paper.sections.drawn import drawn_images
from experiments.paper.sections.robustness import spoiler
from experiments.paper.stacked import predict
from experiments.paper.study import Study
from experiments.shared.console import say
from experiments.shared.origin import JSON
from jaxseg.augment.artefacts import ARTEFACTS
from jaxseg.inference.masks import THRESHOLD, Prediction

NAME = "thresholds"

SEVERITY = 3.0
"""Severity of the artefacts on validation images, as common in practice."""

FIXED, PLAIN, SPOILT, DRAWN = f"none: {THRESHOLD}", "validation images", "the same under artefacts", "drawn images"
"""Where a threshold comes from."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # the same rows at every scale
    return list(RECIPES.values())


def run(study: Study) -> None:
    """Measures what is not there yet, and writes the section."""
    began = time.perf_counter()
    results = {title: study.row(row) for title, row in RECIPES.items()}
    trained = {title: row for title, row in RECIPES.items() if "tests" in results[title]}
    measured = {title: runs for title, row in trained.items() if (runs := measure(study, row))}
    lines = [
        [
            rows.partly(title, len(runs), results[title]),
            way,
            shown([run[way]["threshold"] for run in runs]),
            *(shown([run[way][name]["per_image"]["dice"] for run in runs]) for name in ("validation", "external")),
            shown([run[way]["external"]["pooled"]["dice"] for run in runs]),
        ]
        for title, runs in measured.items()
        for way in (FIXED, PLAIN, SPOILT, DRAWN)
    ]
    head = ["Runs of", "Chosen on", "Threshold", "Validation", "External", "External, pooled"]
    study.section(
        NAME,
        title="Which images choose a threshold",
        about=(
            "Of the thresholds from 0.01 to 0.99 the one with the highest mean Dice on validation images, on the same "
            f"with each of the {len(ARTEFACTS)} artefacts at severity {SEVERITY:g}, or on "
            f"{study.scale.drawn.validation} drawn images. Masks are as they are cut."
        ),
        tables=[{"caption": "Dice per image unless pooled", "head": head, "rows": lines}],
        missing=[
            *rows.missing(list(results.values())),
            *rows.unmeasured(trained, measured),
        ],
        seconds=time.perf_counter() - began,
    )


def measure(study: Study, row: Row) -> list[JSON]:
    """Returns each run's thresholds and the scores with them, and keeps them in the row's folder.

    Args:
      study: the study.
      row: a trained row of seeds.

    Returns:
      For each measured run, by where the threshold comes from, "threshold" and the scores of "validation" and
      "external".
    """

    def measure(workdirs: Sequence[Path]) -> list[JSON]:
        say(f"thresholds: {row.title}")
        config = study.config(row)
        steps, variables = study.restore(row, workdirs)
        images, masks = resized(study.splits(config)[1], config)
        spoilt = np.concatenate([spoiler(kind)(images, severity=SEVERITY) for kind in ARTEFACTS])
        sets = {
            PLAIN: (images, masks),
            SPOILT: (spoilt, np.concatenate([masks] * len(ARTEFACTS))),
            DRAWN: drawn_images(study.scale.drawn.validation, config.data.image_size),
            "external": resized(study.external_set(config), config),
        }
        maps = {name: predict(steps, variables, images) for name, (images, _) in sets.items()}
        truth = {name: masks[..., 0] for name, (_, masks) in sets.items()}
        found = []
        for i in range(len(workdirs)):
            chosen = {
                way: with_best_threshold(maps[way][i], truth[way], Prediction()) for way in (PLAIN, SPOILT, DRAWN)
            }
            found.append(
                {
                    way: {
                        "threshold": prediction.threshold,
                        "validation": rows.score(cut(maps[PLAIN][i], prediction), truth[PLAIN]),
                        "external": rows.score(cut(maps["external"][i], prediction), truth["external"]),
                    }
                    for way, prediction in ({FIXED: Prediction()} | chosen).items()
                }
            )
        return found

    return of_runs(study, row, NAME, measure)


if __name__ == "__main__":
    main(run, __doc__)
