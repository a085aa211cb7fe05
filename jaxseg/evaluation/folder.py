"""The folder of an evaluation: what it is called, and whether its scores may be replaced."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseg.config import DataConfig
from jaxseg.data import Examples
from jaxseg.data.identity import hash_all, identify
from jaxseg.errors import UserError
from jaxseg.report.page import EVALUATIONS
from jaxseg.runs.workdir import CASES, METRICS, PAGE, PER_IMAGE, PICTURES, was_started
from jaxseg.system.files import read_json

SHEET = "cases.png"

OVERLAYS = "overlays"
"""Folder of the images on the sheet, one file each."""

KINDS = ("worst", "median", "best")
"""Kinds of cases that are drawn."""

_RESULTS = (METRICS, PER_IMAGE, CASES, SHEET, PAGE)
"""Files of an evaluation that say whether a folder holds one."""

_DRAWN = (
    f"{PICTURES}/[0-9][0-9].jpg",
    f"{PICTURES}/[0-9][0-9]_uncertainty.jpg",
    *(f"{OVERLAYS}/{kind}_*.png" for kind in KINDS),
)
"""Patterns of the pictures that an evaluation draws."""


def drawn_in(out: Path) -> list[Path]:
    """Returns the pictures in a folder that have the names of those that an evaluation draws.

    Args:
      out: the folder.
    """
    return [path for pattern in _DRAWN for path in sorted(out.glob(pattern))]


def folder_of(workdir: Path, examples: Examples) -> Path:
    """Returns the folder in which a run keeps its scores of some images: `workdir/evaluation/NAME-SPLIT`.

    Where that is taken by another data set of the same name, such as a second folder `images_set`, the name goes on
    with a hash of the data set's path.

    Args:
      workdir: the run's folder.
      examples: the images that are scored.
    """
    name = Path(examples.dataset).name
    plain = workdir / EVALUATIONS / f"{name}-{examples.split}"
    try:
        if read_json(plain / METRICS)["data"]["dataset"] == examples.dataset:
            return plain
    except (UserError, KeyError, TypeError):
        return plain  # there is no evaluation yet, or one that `check_may_replace` refuses to replace
    digest = hashlib.sha256(examples.dataset.encode()).hexdigest()[:6]
    return plain.with_name(f"{name}-{digest}-{examples.split}")


def reading_of(config: DataConfig) -> dict[str, Any]:
    """Returns the settings that decide how masks are read, as `metrics.json` keeps them under "data", "reading"."""
    return {name: value for name, value in vars(config).items() if name.startswith("mask_")}


def check_is_no_run(out: Path) -> None:
    """Checks that a folder for scores is not that of a run, whose page has the name of an evaluation's.

    Args:
      out: the folder.

    Raises:
      UserError: it is.
    """
    if was_started(out):
        raise UserError(f"--out {out}: is a run's folder, whose page this would replace; give a folder of its own")


def check_may_replace(out: Path, examples: Examples, config: DataConfig, prediction: Mapping[str, Any]) -> None:
    """Makes sure that scores in a folder are those of the evaluation that will replace them.

    Args:
      out: the folder.
      examples: the images that will be scored.
      config: how they are read.
      prediction: how masks will be made, from `inference.threshold.describe_masks`.

    Raises:
      UserError: the folder holds scores of other images, other options or another checkpoint, or files that are no
        evaluation of this version.
    """
    there = [name for name in _RESULTS if (out / name).exists()]
    there += [path.relative_to(out).as_posix() for path in drawn_in(out)]
    if not there:
        return
    try:
        stored = read_json(out / METRICS)
        same_names = stored["data"]["fingerprint"] == examples.fingerprint()
        # Evaluations of older releases read masks in one way only.
        same_reading = stored["data"].get("reading", reading_of(DataConfig())) == reading_of(config)
        same_content = _same_content(stored, examples) if same_reading else None
        differences = {
            "other images or masks": not same_names and not same_content,
            "images or masks that have been edited since": same_names and same_content is False,
            "masks that are read otherwise": not same_reading,
            "another run or checkpoint": not _same_runs(stored["prediction"], prediction),
            "other options": _options(stored["prediction"]) != _options(prediction),
        }
    except (UserError, KeyError, TypeError):
        raise UserError(
            f"{out}: holds {there[0]}, which is not of an evaluation by this version; --overwrite replaces it, "
            "--out DIR keeps both"
        ) from None
    if found := [name for name, differs in differences.items() if differs]:
        raise UserError(
            f"{out}: holds scores of {' and '.join(found)}; --overwrite replaces them, --out DIR keeps both"
        )


def _same_content(stored: Mapping[str, Any], examples: Examples) -> bool | None:
    """Tells whether files hold what they held; None where there are none, or an older release did not say."""
    if examples.stamp is None or not isinstance(before := stored.get("identity"), dict):
        return None
    now = hash_all(identify(examples))
    return any(before.get(name) is not None and before.get(name) == now[name] for name in ("pixels", "files"))


def _options(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that make the masks; the value of a threshold that is chosen on images is no option."""
    is_chosen = prediction["threshold_chosen_on"] is not None
    options = {name: value for name, value in prediction.items() if name != "ensemble"}
    return {**options, "threshold_chosen_on": is_chosen, "threshold": is_chosen or prediction["threshold"]}


def _same_runs(stored: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tells whether two ensembles have the same runs, at the same training steps, wherever their folders lie."""
    first, second = stored["ensemble"], now["ensemble"]
    if len(first) != len(second) or any(a["step"] != b["step"] for a, b in zip(first, second, strict=True)):
        return False
    # Evaluations of older releases do not record which run lay in a folder.
    return all(
        a["run"] == b["run"] if "run" in a else Path(a["workdir"]).resolve() == Path(b["workdir"]).resolve()
        for a, b in zip(first, second, strict=True)
    )
