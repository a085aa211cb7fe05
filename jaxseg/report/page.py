"""`report.html`: a run and its scores on one page, for people who read no logs.

The page is a function of the files that training and evaluation leave, and both write it again. It is a single file
that loads nothing and runs no script. Sections whose values older files lack are left out.
"""

import csv
import functools
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from jaxseg.config import Config, network_title
from jaxseg.config.datasets import data_set
from jaxseg.metrics import LEAST_JACCARD
from jaxseg.pretrained import place
from jaxseg.report import charts, html
from jaxseg.runs import sessions
from jaxseg.runs import workdir as files
from jaxseg.runs.workdir import CASES, METRICS, PAGE, PER_IMAGE, PICTURES, belongs_to
from jaxseg.system.files import write_text

_CHANGED = f"{PER_IMAGE} is not as it was written with these scores, so nothing is shown of it. Evaluate again."
"""What a page says of an evaluation whose scores per image are others."""

EVALUATIONS = "evaluation"
"""Folder of a workdir in which every folder with a `metrics.json` is an evaluation."""

_DASH = "\N{EN DASH}"

SCORES = {
    "dice": ("Dice", "twice the area that truth and prediction share, by the sum of both areas; 1 is perfect"),
    "jaccard": ("Jaccard", "the area that both share, by the area that either covers (intersection over union)"),
    "thresholded_jaccard": ("Thresholded Jaccard", "Jaccard, but 0 where it is below 0.65: a segmentation that failed"),
    "sensitivity": ("Sensitivity", "share of the lesion that was found"),
    "specificity": ("Specificity", "share of the skin that was left unmarked"),
    "accuracy": ("Accuracy", "share of all pixels that are labelled correctly; high wherever lesions are small"),
    "boundary_iou": ("Boundary IoU", "Jaccard of the narrow bands along both outlines: how well the border is met"),
    "hausdorff95": ("Hausdorff 95%, pixels", "distance between the outlines, without the worst 5%; lower is better"),
    "hausdorff95_relative": ("Hausdorff 95%, of the diagonal", "the same, by the length of the image's diagonal"),
}
"""Title and meaning of every score."""


def write_page(workdir: Path, evaluation: Path | None = None) -> Path:
    """Writes the page of a run.

    Args:
      workdir: the run's folder.
      evaluation: the folder of the new evaluation. An evaluation outside `workdir/evaluation` gets a page of its own,
        without any other evaluation.

    Returns:
      The page's path: `report.html` in `workdir`, or in an `evaluation` that lies elsewhere.
    """
    home = workdir / EVALUATIONS
    if evaluation and evaluation.resolve().parent != home.resolve():
        path, evaluations = evaluation / PAGE, [evaluation]
    else:
        written = ((p.stat().st_mtime_ns, p.parent) for p in home.glob(f"*/{METRICS}"))
        path, evaluations = workdir / PAGE, [folder for _, folder in sorted(written, reverse=True)]
    write_text(path, render(workdir, evaluations))
    return path


def render(workdir: Path, evaluations: Sequence[Path]) -> str:
    """Returns the page of a run as HTML.

    Args:
      workdir: the run's folder.
      evaluations: folders of evaluations, in the order to show.
    """
    run = _read_json(files.description_of(workdir))
    history = _read_lines(workdir / files.HISTORY)
    summary = _read_json(workdir / files.SUMMARY)
    best_step = next((line.get("step") for line in history if line.get("epoch") == summary.get("best_epoch")), None)
    sections = [_evaluation(folder, f"e{i}", run, best_step) for i, folder in enumerate(evaluations, 1)]
    context = {
        "run": run,
        "workdir": Path(place.display_name(workdir)),
        "command": f"python -m jaxseg.evaluate --workdir {shlex.quote(place.display_name(workdir))}",
        "model": _model_name(run),
        "summary": summary,
        "gone_on": sessions.in_words([run, *sessions.later_of(_read_json(workdir / files.SESSIONS))]),
        "history": history,
        "curves": [*charts.curves(history, "t")] if history else [],
        "settings": _settings(run.get("config", {})),
        "evaluations": [section for section in sections if section["metrics"]],
        "scores": SCORES,
    }
    return _templates().get_template(PAGE).render(context)


@functools.cache
def _templates() -> Environment:
    """Returns the template engine with the filters of this page."""
    result = html.environment().overlay()
    result.filters = result.filters | {
        "score": _score,
        "interval": _interval,
        "thousands": lambda value: f"{value:,}" if isinstance(value, int) else _DASH,
        "data_name": _data_name,
        "groups_of": lambda name: data_set(str(name)).groups or "group",
        "duration": duration,
        "scale_start": _scale_start,
    }
    return result


def _evaluation(folder: Path, ids: str, run: Mapping[str, Any], best_step: int | None) -> dict[str, Any]:
    """Returns the content of an evaluation's section; "metrics" is empty where the file cannot be read."""
    metrics = _read_json(folder / METRICS)
    rows = _read_rows(folder / PER_IMAGE)
    changed = bool(rows) and not belongs_to(folder, metrics)
    rows = [] if changed else rows
    dice = [float(row["dice"]) for row in rows if row.get("dice")]
    jaccard = [float(row["jaccard"]) for row in rows if row.get("jaccard")]
    bins = metrics.get("calibration", {}).get("bins")
    failed = sum(j < LEAST_JACCARD for j in jaccard) if jaccard else None
    trust = [float(row["trust"]) for row in rows if row.get("trust") and row.get("jaccard")]
    return {
        "id": ids,
        "metrics": metrics,
        "dice": dice,
        "skyline": _skyline(dice) if dice else "",
        "failed": failed,
        "triage": charts.triage(trust, jaccard, f"{ids}f-") if failed and len(trust) == len(jaccard) else None,
        "histogram": charts.histogram(dice, f"{ids}h-") if dice else None,
        "reliability": charts.reliability(bins, f"{ids}r-") if bins else None,
        "cases": _cases(folder),
        "prediction": _prediction(metrics),
        "warnings": _warnings(metrics, run, best_step) + [_CHANGED] * changed,
    }


def _skyline(dice: Sequence[float]) -> str:
    """Returns an SVG path with a bar for each hundredth of Dice, 100 wide and 1 high."""
    counts, _ = np.histogram(dice, 100, (0, 1))
    # The square root keeps a single failure among hundreds of images visible.
    heights = np.sqrt(counts / counts.max())
    return "".join(f"M{i + 0.5} 1V{1 - height:.3f}" for i, height in enumerate(heights) if height)


def _cases(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Returns the stored cases by kind, the most telling first, each with its picture as a data URI."""
    result: dict[str, list[dict[str, Any]]] = {}
    for case in _read_json(folder / CASES).get("cases", []):
        picture = folder / PICTURES / Path(case["image"]).name
        doubt = folder / PICTURES / Path(case.get("uncertainty", "none")).name
        if picture.is_file():
            uris = {"uri": html.jpeg_uri(picture.read_bytes()), "uncertainty_uri": ""}
            if doubt.is_file():
                uris["uncertainty_uri"] = html.jpeg_uri(doubt.read_bytes())
            result.setdefault(case["kind"], []).append({**case, **uris})
    if "best" in result:
        result["best"].reverse()  # best first, as worst first among the worst
    return result


def _prediction(metrics: Mapping[str, Any]) -> list[str]:
    """Returns a line for each departure from one run's network with a threshold of 0.5."""
    about = metrics.get("prediction", {})
    result = []
    if len(members := about.get("ensemble", [])) > 1:
        result.append(f"mean probability of {len(members)} runs: {', '.join(str(m.get('workdir')) for m in members)}")
    if about.get("test_time_augmentation"):
        result.append("mean probability over the image turned and mirrored (test-time augmentation)")
    if (threshold := about.get("threshold", metrics.get("threshold", 0.5))) != 0.5:
        chosen = about.get("threshold_chosen_on") or {}
        where = f", chosen on {_data_name(chosen.get('dataset'))} {chosen.get('split')}" if chosen else ""
        result.append(f"lesion where the probability is above {threshold:g}{where}")
    if about.get("largest_component"):
        result.append("only the largest connected part is kept")
    if about.get("fill_holes"):
        result.append("holes are filled")
    return result


def _warnings(metrics: Mapping[str, Any], run: Mapping[str, Any], best_step: int | None) -> list[str]:
    """Returns reasons why the scores may flatter the model, or belong to other weights than its present ones."""
    data, result = metrics.get("data", {}), []
    if seen := data.get("trained_on"):
        result.append(f"{seen} of the {data.get('images')} scored images were trained on: this is not an honest test.")
    elif data.get("trained_on", 0) is None:
        result.append("It cannot be told whether some of the scored images were trained on.")
    if copies := metrics.get("identity", {}).get("copies"):
        result.append(f"{copies} of the {data.get('images')} scored images look like training images.")
    fingerprint, validated_on = data.get("fingerprint"), metrics.get("identity", {}).get("validated_on")
    if validated_on:
        images = f"{validated_on} of the {data.get('images')} scored images"
        result.append(f"{images} chose the epoch whose weights are kept, so their scores flatter a little.")
    elif (
        validated_on is None
        and fingerprint
        and fingerprint == run.get("data", {}).get("fingerprints", {}).get("validation")
    ):
        result.append("These images chose the epoch whose weights are kept, so their scores flatter a little.")
    chosen = metrics.get("prediction", {}).get("threshold_chosen_on") or {}
    if same := chosen.get("scored_images"):
        result.append(f"The threshold was chosen on {same} of the scored images, so their scores flatter a little.")
    step = metrics.get("model", {}).get("step")
    if best_step and step and step != best_step:
        result.append(
            f"Scored at step {step}, but the run went on: its best weights are of step {best_step}. Evaluate again, "
            "with --overwrite."
        )
    return result


def _settings(config: Mapping[str, Mapping[str, Any]]) -> dict[str, list[tuple[str, str, str, bool]]]:
    """Returns each setting's name, value, meaning, and whether it differs from the default, by section."""
    known = dict(Config.settings())
    result = {}
    for section, values in config.items():
        result[section] = []
        for name, value in values.items():
            field = known.get(f"{section}.{name}")
            value = tuple(value) if isinstance(value, list) else value
            differs = field is None or value != field.default
            result[section].append((name, _as_text(value), field.metadata["help"] if field else "", differs))
    return result


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).removesuffix(".0") or _DASH


def _model_name(run: Mapping[str, Any]) -> str:
    encoder = run.get("config", {}).get("model", {}).get("encoder")
    title = network_title(encoder) if encoder else "unknown model"
    return title[0].upper() + title[1:]


def _data_name(name: Any) -> str:
    """Returns a data set's title; for a folder, the folder's name."""
    return data_set(str(name)).title or Path(str(name or "unknown data")).name


def _score(value: Any, digits: int = 3) -> str:
    """Returns a number with a fixed number of decimals, a dash where there is none."""
    return f"{value:.{digits}f}" if isinstance(value, int | float) and math.isfinite(value) else _DASH


def _interval(value: Any, digits: int = 3) -> str:
    """Returns [low, high] as text, a dash where there is none."""
    return _DASH.join(_score(v, digits) for v in value) if isinstance(value, list) and len(value) == 2 else _DASH


def _scale_start(tables: Iterable[Mapping[str, Any]]) -> float:
    """Returns the lower end of a scale of Dice up to 1 on which intervals are wide enough to compare."""
    lows = [table.get("per_image_interval", {}).get("dice", [0])[0] for table in tables]
    return min(math.floor(10 * min(lows)) / 10, 0.9)


def duration(seconds: Any) -> str:
    """Returns a time as text: whole seconds, or hours and minutes from one minute on; a dash for no number."""
    if not isinstance(seconds, int | float):
        return _DASH
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; returns an empty one where there is none, because half a page is better than none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def _read_rows(path: Path) -> Iterable[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))
    except (OSError, ValueError):
        return []
