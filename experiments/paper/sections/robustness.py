"""Robustness: Dice against the severity of drawn artefacts on images that no model was trained on.

python -m experiments.paper.sections.robustness --out runs/paper --scale cpu
"""

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from experiments.paper import rows, study
from experiments.paper.models import BARE, FULL, UNET
from experiments.paper.plots import grid
from experiments.paper.rows import JSON, Row, mean_sd
from experiments.paper.stacked import predict, resized
from jaxseg.augment.artefacts import ARTEFACTS, corrupt
from jaxseg.system.files import write_json

NAME = "robustness"

SEED = 0


def run(of: study.Study) -> None:
    """Scores what is not scored, and writes the section."""
    began = time.perf_counter()
    from experiments.paper.models import FINAL  # which measures by this module

    models = {row.title: row for row in (UNET, BARE, FULL)} | {"the preset generalise": FINAL}
    results = [of.row(row) for row in models.values()]
    measured = {
        title: measure(of, row)
        for (title, row), result in zip(models.items(), results, strict=True)
        if "tests" in result
    }
    measured = {title: dice for title, dice in measured.items() if dice}
    severities = (0, *of.scale.severities)
    figures, tables = [], []
    if measured:
        charts = {
            kind.replace("_", " "): {
                title: [(s, *mean_sd(dice[f"{kind} {s}"])) for s in severities] for title, dice in measured.items()
            }
            for kind in ARTEFACTS
        }
        path = of.place(NAME, "robustness.png")
        grid(charts, path, synthetic=of.synthetic, x_label="severity", y_label="Dice per image")
        figures = [
            {
                "file": path.name,
                "chart": True,
                "caption": "Mean and standard deviation over the seeds; severity 0: as it is",
            }
        ]
        tables = [summary(measured, severities)]
        tables += [table(title, dice, severities) for title, dice in measured.items()]
    of.section(
        NAME,
        title="Robustness",
        about=(
            f"{of.scale.test_images} images of the external set, evenly spaced, spoilt on the device by artefacts "
            "drawn from a fixed seed: the same hairs, bubbles and stickers for every model, more and stronger with the "
            "severity (5: the worst that one meets in practice). Masks stay as they are, also under stickers."
        ),
        tables=tables,
        figures=figures,
        missing=[*rows.missing(results), *(f"{title}: not measured" for title in models if title not in measured)],
        seconds=time.perf_counter() - began,
    )


def measure(of: study.Study, row: Row, test: str = "external") -> dict[str, list[float]]:
    """Measures each run's mean Dice by kind and severity, as "hair 3"; kept in the row's folder.

    Args:
      of: the study.
      row: a trained row of seeds.
      test: "external" or "validation".

    Returns:
      Lists by "KIND SEVERITY"; empty where the study is only to report and they are not there.
    """
    path = of.folder(row) / f"robustness_{test}.json"
    if path.exists():
        return json.loads(path.read_text())
    if of.report:
        return {}
    study.say(f"robustness: {row.title}, {test}")
    config = of.config(row)
    steps, variables = of.restore(row)
    images, masks = resized(of.external_set(config) if test == "external" else of.splits(config)[1], config)
    chosen = np.linspace(0, len(images) - 1, min(of.scale.test_images, len(images))).astype(int)
    images, truth = images[chosen], masks[chosen][..., 0]
    dice = {}
    whole = [dice_of(found, truth) for found in predict(steps, variables, images)]
    for kind in ARTEFACTS:
        dice[f"{kind} 0"] = whole
        for severity in of.scale.severities:
            spoilt = np.asarray(spoiler(kind)(images, severity=float(severity)))
            dice[f"{kind} {severity}"] = [dice_of(found, truth) for found in predict(steps, variables, spoilt)]
    write_json(path, dice)
    return dice


@functools.cache
def spoiler(kind: str) -> Callable[..., jax.Array]:
    """Returns the compiled drawing of an artefact, the same for every model: one compilation per artefact and size."""
    return jax.jit(functools.partial(corrupt, jax.random.key(SEED), kind=kind))


def over_all(dice: dict[str, list[float]]) -> list[float]:
    """Returns each run's mean over all artefacts and severities but 0."""
    spoilt = [runs for name, runs in dice.items() if not name.endswith(" 0")]
    return np.mean(spoilt, axis=0).tolist()


def dice_of(found: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean of the images' Dice."""
    return rows.score(found > 0.5, truth)["per_image"]["dice"]


def summary(measured: Mapping[str, dict[str, list[float]]], severities: Sequence[int]) -> JSON:
    """Returns the table over all artefacts: a line per model, a column per severity."""
    lines = []
    for title, dice in measured.items():
        by_severity = [np.mean([dice[f"{kind} {severity}"] for kind in ARTEFACTS], axis=0) for severity in severities]
        lines.append([title, *(rows.shown(runs.tolist()) for runs in by_severity)])
    caption = "Dice per image, mean over all artefacts, by severity"
    return {"caption": caption, "head": ["Model", *map(str, severities)], "rows": lines}


def table(title: str, dice: dict[str, list[float]], severities: Sequence[int]) -> JSON:
    """Returns a model's table: a line per artefact, a column per severity."""
    lines = [[kind.replace("_", " "), *(rows.shown(dice[f"{kind} {s}"]) for s in severities)] for kind in ARTEFACTS]
    return {"caption": f"Dice per image: {title}", "head": ["Artefact", *map(str, severities)], "rows": lines}


if __name__ == "__main__":
    study.main(run, __doc__)
