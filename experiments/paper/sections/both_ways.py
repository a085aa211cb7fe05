"""Both ways: the same recipe trained on PH2 and tested on the external set, and trained on its kind and tested on PH2.

Outlines may lie inside the true ones on other cameras because the network is timid there, or because the annotators of
the set that it learned from draw closer. Where it is style, the other way round they lie outside.

    python -m experiments.paper.sections.both_ways --out runs/paper --scale cpu

At scale `cpu` three minutes for the two rows of a preset once they are trained, on two cores of an Intel Xeon at 2.0
GHz. Expect a median area of 0.86 times the true one on the external set, and of 1.19 times on PH2.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.paper import rows, style
from experiments.paper.command import main
from experiments.paper.measured import of_runs
from experiments.paper.models import FULL, RECIPES
from experiments.paper.pool import resized
from experiments.paper.rows import Row, shown
from experiments.paper.sections import in_domain
from experiments.paper.stacked import StackedSteps, predict
from experiments.paper.study import Study
from experiments.shared.console import say
from experiments.shared.origin import JSON
from jaxseg import data
from jaxseg.config import Config
from jaxseg.data import Examples
from jaxseg.inference.masks import THRESHOLD

NAME = "both_ways"

OWN, OTHER = "held-out images of the same set", "the other set"
"""What runs are tested on."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    return list(_models(study).values())


def _models(study: Study) -> dict[str, Row]:
    """Returns the rows by what tables call them: recipe and training set."""
    home, away = study.train, study.scale.in_domain[0]
    pairs = zip(RECIPES.items(), in_domain.rows_of(study), strict=True)
    return {
        f"{title}, {place}": row
        for (title, at_home), from_away in pairs
        for place, row in ((home, at_home), (f"{away}, folds", from_away))
    }


def run(study: Study) -> None:
    """Trains the rows that are not there yet, measures them, and writes the section."""
    began = time.perf_counter()
    results = {title: study.row(row) for title, row in _models(study).items()}
    trained = {title: row for title, row in _models(study).items() if "tests" in results[title]}
    measured = {title: runs for title, row in trained.items() if (runs := measure(study, row))}
    study.section(
        NAME,
        title="Both ways",
        about=(
            f"The same recipe learns from {study.train} and from folds of {study.scale.in_domain[0]}, and is tested on "
            f"held-out images of its own set and on the other set: {study.train} as a whole, or the external set. "
            f"Masks are cut at {THRESHOLD}. {style.ABOUT}"
        ),
        tables=[
            {
                "caption": "Style and misses, Dice per image",
                "head": ["Recipe and training set", "Tested on", "Dice", *style.MEASURES],
                "rows": [
                    [
                        rows.partly(title, len(runs), results[title]),
                        tested,
                        shown([run[tested]["dice"] for run in runs]),
                        *style.cells([run[tested]["style"] for run in runs]),
                    ]
                    for title, runs in measured.items()
                    for tested in (OWN, OTHER)
                ],
            }
        ],
        missing=[
            *rows.missing([result | {"title": title} for title, result in results.items()]),
            *rows.unmeasured(trained, measured),
        ],
        rows=[row.name for row in _models(study).values()],
        seconds=time.perf_counter() - began,
    )


def measure(study: Study, row: Row) -> list[JSON]:
    """Returns what the table shows of each run of a row, and keeps it in the row's folder.

    Args:
      study: the study.
      row: a trained row.

    Returns:
      For each measured run, by what it is tested on, "dice" (mean per image) and "style" (of `style.of_masks`).
    """

    def of_workdirs(workdirs: Sequence[Path]) -> list[JSON]:
        say(f"both ways: {row.name}")
        config, found = study.config(row), []
        # The other set of a row of folds, which trains on the external set's kind, is the study's own.
        home, validation = study.splits(study.config(FULL))
        other = home.followed_by(validation, "all") if row.folds else study.external_set(config)
        for workdir in workdirs:
            fold = study.workdirs(row).index(workdir) if row.folds else 0
            _, own = data.training_splits(dataclasses.replace(config.data, fold=fold))
            steps, variables = study.restore(row, [workdir])
            found.append(
                {tested: _scores(steps, variables, part, config) for tested, part in ((OWN, own), (OTHER, other))}
            )
        return found

    return of_runs(study, row, NAME, of_workdirs)


def _scores(steps: StackedSteps, variables: Any, examples: Examples, config: Config) -> JSON:
    """Returns a single run's entry of `measure` for a set."""
    images, masks = resized(examples, config)
    found, truth = predict(steps, variables, images)[0] > THRESHOLD, masks[..., 0]
    return {"dice": rows.score(found, truth)["per_image"]["dice"], "style": style.of_masks(found, truth)}


if __name__ == "__main__":
    main(run, __doc__)
