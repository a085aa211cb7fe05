"""Robustness: Dice against the severity of drawn artefacts, on images that no model was trained on.

    python -m experiments.paper.sections.robustness --out runs/paper --scale cpu

A few minutes per model on one core of an AMD EPYC once the rows are trained. At scale `cpu` expect a Dice per image at
severity 5 of 0.58 (U-Net), 0.67 (full model) and 0.83 (`generalise`).
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.paper import rows
from experiments.paper.command import main
from experiments.paper.measured import of_runs
from experiments.paper.models import BARE, FULL, GENERALISE, UNET
from experiments.paper.plots import grid
from experiments.paper.pool import resized
from experiments.paper.rows import Row, mean_sd
from experiments.paper.stacked import predict
from experiments.paper.study import Study
from experiments.shared.console import say
from experiments.shared.origin import JSON
from jaxseg.augment.artefacts import ARTEFACTS, corrupt

NAME = "robustness"

SEED = 0
"""Seed of the drawn artefacts."""

MODELS = {row.title: row for row in (UNET, BARE, FULL)} | GENERALISE
"""The rows, by their titles here."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # the same rows at every scale
    return list(MODELS.values())


def run(study: Study) -> None:
    """Scores what is not there yet, and writes the section."""
    began = time.perf_counter()
    results = [study.row(row) for row in MODELS.values()]
    trained = {title: result for title, result in zip(MODELS, results, strict=True) if "tests" in result}
    found = {title: dice for title in trained if (dice := measure(study, MODELS[title]))}
    measured = {
        rows.partly(title, len(dice[f"{ARTEFACTS[0]} 0"]), trained[title]): dice for title, dice in found.items()
    }
    severities = (0, *study.scale.severities)
    figures, tables = [], []
    if measured:
        charts = {
            kind.replace("_", " "): {
                title: [(s, *mean_sd(dice[f"{kind} {s}"])) for s in severities] for title, dice in measured.items()
            }
            for kind in ARTEFACTS
        }
        path = study.place(NAME, "robustness.png")
        grid(charts, path, synthetic=study.synthetic, x_label="severity", y_label="Dice per image")
        figures = [
            {
                "file": path.name,
                "chart": True,
                "caption": "Mean and standard deviation over the seeds; severity 0: unchanged",
            }
        ]
        tables = [summary(measured, severities)]
        tables += [table(title, dice, severities) for title, dice in measured.items()]
    study.section(
        NAME,
        title="Robustness",
        about=(
            f"{study.scale.test_images} images of the external set, evenly spaced, with artefacts drawn on the device "
            "from a fixed seed: the same hairs, bubbles and stickers for every model, more and stronger with the "
            "severity (5: the worst in practice). Masks stay unchanged, also under stickers."
        ),
        tables=tables,
        figures=figures,
        missing=[*rows.missing(results), *rows.unmeasured(trained, found)],
        seconds=time.perf_counter() - began,
    )


def measure(study: Study, row: Row, test: str = "external") -> dict[str, list[float]]:
    """Measures each run's mean Dice by kind and severity of artefact, and keeps it in the row's folder.

    Args:
      study: the study.
      row: a trained row of seeds.
      test: "external", or "validation" for that of the study's training set.

    Returns:
      Dice of each measured run by "KIND SEVERITY", "hair 3" for example; empty if there is none.
    """

    def measure(workdirs: Sequence[Path]) -> list[dict[str, float]]:
        say(f"robustness: {row.title}, {test}")
        config = study.config(row)
        steps, variables = study.restore(row, workdirs)
        whole = study.external_set(config) if test == "external" else study.home_validation(config)
        images, masks = resized(whole, config)
        chosen = np.linspace(0, len(images) - 1, min(study.scale.test_images, len(images))).astype(int)
        images, truth = images[chosen], masks[chosen][..., 0]
        plain = [dice_of(found, truth) for found in predict(steps, variables, images)]
        dice = {f"{kind} 0": plain for kind in ARTEFACTS}
        for kind in ARTEFACTS:
            for severity in study.scale.severities:
                spoilt = np.asarray(spoiler(kind)(images, severity=float(severity)))
                dice[f"{kind} {severity}"] = [dice_of(found, truth) for found in predict(steps, variables, spoilt)]
        return [{name: of_all[i] for name, of_all in dice.items()} for i in range(len(workdirs))]

    runs = of_runs(study, row, f"robustness_{test}", measure)
    return {name: [dice[name] for dice in runs] for name in runs[0]} if runs else {}


@functools.cache
def spoiler(kind: str) -> Callable[..., jax.Array]:
    """Returns the compiled drawing of an artefact, which all models share: one compilation per artefact and size."""
    return jax.jit(functools.partial(corrupt, jax.random.key(SEED), kind=kind))


def cell(study: Study, row: Row, result: JSON) -> str:
    """Returns a row's Dice on validation images as tables show it: mean over all artefacts and severities except 0.

    Args:
      study: the study.
      row: a trained row of seeds.
      result: the row's result.
    """
    spoilt = [runs for name, runs in measure(study, row, "validation").items() if not name.endswith(" 0")]
    means = np.mean(spoilt, axis=0).tolist() if spoilt else []
    return rows.partly(rows.shown(means), len(means), result) if means else "not run"


def dice_of(found: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean Dice over images.

    Args:
      found: probabilities [N, S, S].
      truth: masks {0, 1} [N, S, S].
    """
    return rows.score(found > 0.5, truth)["per_image"]["dice"]


def summary(measured: Mapping[str, dict[str, list[float]]], severities: Sequence[int]) -> JSON:
    """Returns the table of means over all artefacts, with a line per model and a column per severity.

    Args:
      measured: Dice by model, as `measure` returns it.
      severities: severities of the columns.
    """
    lines = []
    for title, dice in measured.items():
        by_severity = [np.mean([dice[f"{kind} {severity}"] for kind in ARTEFACTS], axis=0) for severity in severities]
        lines.append([title, *(rows.shown(runs.tolist()) for runs in by_severity)])
    caption = "Dice per image, mean over all artefacts, by severity"
    return {"caption": caption, "head": ["Model", *map(str, severities)], "rows": lines}


def table(title: str, dice: dict[str, list[float]], severities: Sequence[int]) -> JSON:
    """Returns a model's table, with a line per artefact and a column per severity.

    Args:
      title: name of the model.
      dice: Dice of its runs, as `measure` returns it.
      severities: severities of the columns.
    """
    lines = [[kind.replace("_", " "), *(rows.shown(dice[f"{kind} {s}"]) for s in severities)] for kind in ARTEFACTS]
    return {"caption": f"Dice per image: {title}", "head": ["Artefact", *map(str, severities)], "rows": lines}


if __name__ == "__main__":
    main(run, __doc__)
