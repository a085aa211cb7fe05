"""Training images made more various than those of one camera: lesions pasted smaller, textures, camera software.

Each change is added to `generalise` on photographs alone. Rows are judged by PH2 validation, plain and with drawn
artefacts, and by drawn images that no run was trained on; the external set is scored, and chooses nothing.

    python -m experiments.paper.sections.widened --out runs/paper --scale cpu

At scale `cpu` 25 minutes a row on two cores of an AMD EPYC without AVX-512.
"""

import functools
import operator
import time
from collections.abc import Mapping

import numpy as np

from experiments.paper import rows, style
from experiments.paper.command import main
from experiments.paper.models import ON_PHOTOGRAPHS, PHOTOGRAPHS
from experiments.paper.rows import Row
from experiments.paper.sections import drawn
from experiments.paper.study import Study

NAME = "widened"

CHANGES = {
    "paste": {"augment.paste": 0.5},
    "amplitudes": {"augment.amplitudes": 0.5},
    "convolution": {"augment.convolution": 0.5},
    "camera": {"augment.camera": 0.25},
}
"""Changes to the preset on photographs alone, by the name that rows have from them."""

TITLES = {
    "paste": "lesions pasted smaller elsewhere, every second time",
    "amplitudes": "amplitudes of another training image, every second time",
    "convolution": "random convolutions, every second time",
    "camera": "scaling, noise, sharpening, JPEG, each every fourth time",
}
"""What tables call them."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    single = [
        Row(f"{NAME}_{name}", f"+ {TITLES[name]}", PHOTOGRAPHS.changes | CHANGES[name]) for name in study.scale.widened
    ]
    together = functools.reduce(operator.or_, CHANGES.values())
    return [PHOTOGRAPHS, *single, Row(f"{NAME}_all", "+ all four", PHOTOGRAPHS.changes | together)]


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    began = time.perf_counter()
    shown = {ON_PHOTOGRAPHS if row is PHOTOGRAPHS else row.title: row for row in rows_of(study)}
    results = {row.name: drawn.done(study, row) for row in shown.values()}
    trained = {title: row for title, row in shown.items() if "tests" in results[row.name]}
    measured = {title: runs for title, row in trained.items() if (runs := drawn.measure(study, row))}
    tables = [drawn.training_table(study, shown, results, measured)]
    if measured:
        tables.append(drawn.style_table(measured))
    if found := {title: maps for title, row in trained.items() if (maps := drawn.maps_of(study, row))}:
        tables.append(drawn.clean_table(_members(found), drawn.truths(study)))
    told = [results[row.name] | {"title": title} for title, row in shown.items()]
    study.section(
        NAME,
        title="More various training images",
        about=(
            f"Changes added to {ON_PHOTOGRAPHS}, which make training images differ in the lesion's size and place, in "
            "texture, colour and sharpness. The first three columns judge, the external set shows the outcome.\n\n"
            f"{style.ABOUT}"
        ),
        tables=tables,
        missing=[*rows.missing(told), *rows.unmeasured(trained, measured)],
        rows=list(results),
        seconds=time.perf_counter() - began,
    )


def _members(found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, list[Mapping[str, np.ndarray]]]:
    """Returns the maps of single runs, of all runs of a row together, and of two rows together, seed by seed."""
    members = {title: [maps] for title, maps in found.items()}
    for title, maps in found.items():
        members[f"{title}: all runs"] = [{name: part.mean(axis=0, keepdims=True) for name, part in maps.items()}]
    preset, *others = found
    return members | {f"the mean with {preset}: {title}": [found[preset], found[title]] for title in others}


if __name__ == "__main__":
    main(run, __doc__)
