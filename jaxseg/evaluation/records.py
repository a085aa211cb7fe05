"""Scores of each image, and the tables made of them: those in `metrics.json`, and `per_image.csv`."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.errors import UserError
from jaxseg.evaluation.bootstrap import summarise
from jaxseg.metrics import COUNTS, SCORES, confusion, scores, thresholded_jaccard
from jaxseg.metrics.boundary import BOUNDARY_SCORES, boundary_scores
from jaxseg.metrics.calibration import calibration, tally
from jaxseg.runs.workdir import PER_IMAGE

OVERLAP_SCORES = (*SCORES, "thresholded_jaccard")


NATIVE_SCORES = (*OVERLAP_SCORES, *BOUNDARY_SCORES)


_NUMBERS = (*NATIVE_SCORES, "lesion_fraction", *COUNTS)
"""Columns of `per_image.csv` besides the image's name and group, and `TRUST`."""

TRUST = "trust"
"""A column that files by older releases lack."""


_QUARTILES = ("quartile 1, smallest", "quartile 2", "quartile 3", "quartile 4, largest")


@dataclasses.dataclass(frozen=True)
class Scored:
    """One image's scores.

    Attributes:
      index: position in the split.
      native: the `NATIVE_SCORES` at the image's own resolution.
      native_counts: "tp", "fp", "fn", "tn", pixels at the image's own resolution.
      network: the `OVERLAP_SCORES` at the network's resolution.
      network_counts: pixels at the network's resolution.
      tally: float64 [3, BINS], the image's share of the sums for `calibration`, at the network's resolution.
      trust: score of the mask that is made without the truth, in [0, 1]; None where it is not known.
    """

    index: int
    native: dict[str, float]
    native_counts: dict[str, int]
    network: dict[str, float]
    network_counts: dict[str, int]
    tally: np.ndarray
    trust: float | None = None

    @property
    def lesion_fraction(self) -> float:
        """Share of the image's own pixels that is lesion in the truth."""
        return (self.native_counts["tp"] + self.native_counts["fn"]) / sum(self.native_counts.values())


def score_image(
    index: int,
    native: tuple[np.ndarray, np.ndarray],
    network: tuple[np.ndarray, np.ndarray],
    probability: np.ndarray,
    trust: float | None = None,
) -> Scored:
    """Scores one image.

    Args:
      index: position in the split.
      native: prediction and truth, bool [H, W], at the image's own resolution.
      network: prediction and truth, bool [S, S], at the network's.
      probability: float32 [S, S], of lesion.
      trust: score of the mask without the truth, from `inference.trust`.

    Returns:
      The image's scores.
    """
    native_counts, network_counts = count(*native), count(*network)
    return Scored(
        index,
        native=overlap_scores(native_counts) | boundary_scores(*native),
        native_counts=native_counts,
        network=overlap_scores(network_counts),
        network_counts=network_counts,
        tally=tally(probability, network[1]),
        trust=trust,
    )


def count(prediction: np.ndarray, truth: np.ndarray) -> dict[str, int]:
    """Returns one image's counts as Python integers.

    Args:
      prediction: bool [H, W].
      truth: bool [H, W].
    """
    counts = confusion(prediction[None], truth[None])
    return {name: int(counts[name][0]) for name in COUNTS}


def overlap_scores(counts: Mapping[str, int]) -> dict[str, float]:
    """Returns one image's `OVERLAP_SCORES`."""
    values = {name: float(value) for name, value in scores(counts).items()}
    return values | {"thresholded_jaccard": thresholded_jaccard(values["jaccard"])}


def score_tables(scored: Sequence[Scored], groups: Sequence[str], image_size: int) -> dict[str, Any]:
    """Returns the tables of scores in `metrics.json`.

    Args:
      scored: at least one image.
      groups: group of each image of the whole split, "" where unknown.
      image_size: the network's resolution, pixels.

    Returns:
      "native", "network", "subgroups" (native) and "calibration".
    """
    return {
        "native": {"resolution": "the images' own", **_native(scored)},
        "network": {
            "resolution": image_size,
            **summarise(_columns([s.network for s in scored]), _counts([s.network_counts for s in scored])),
        },
        "subgroups": {"group": _by_group(scored, groups), "lesion_size": _by_lesion_size(scored)},
        "calibration": {"resolution": image_size, **calibration(sum(s.tally for s in scored))},
    }


def _native(scored: Sequence[Scored]) -> dict[str, Any]:
    return summarise(_columns([s.native for s in scored]), _counts([s.native_counts for s in scored]))


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def _counts(rows: Sequence[Mapping[str, int]]) -> np.ndarray:
    return np.array([[row[name] for name in COUNTS] for row in rows], np.int64)


def _by_group(scored: Sequence[Scored], groups: Sequence[str]) -> dict[str, Any]:
    """Returns native tables by group, sorted by name; empty where the data set has no groups."""
    named = {s.index: groups[s.index] or "unknown" for s in scored if any(groups)}
    parts = {name: [s for s in scored if named[s.index] == name] for name in sorted(set(named.values()))}
    return {name: {"images": len(part), **_native(part)} for name, part in parts.items()}


def _by_lesion_size(scored: Sequence[Scored]) -> dict[str, Any]:
    """Returns native tables by quarter of the images, ordered by the true lesion's share of the image.

    Fewer than four images make fewer quarters, never an empty one.
    """
    order = sorted(scored, key=lambda s: s.lesion_fraction)
    result = {}
    for quarter, name in enumerate(_QUARTILES):
        part = [s for rank, s in enumerate(order) if rank * len(_QUARTILES) // len(order) == quarter]
        if part:
            ends = [part[0].lesion_fraction, part[-1].lesion_fraction]
            result[name] = {"images": len(part), "lesion_fraction": ends, **_native(part)}
    return result


def per_image_csv(scored: Sequence[Scored], names: Sequence[str], groups: Sequence[str]) -> str:
    """Returns a table with a line per image: name, group, scores, lesion's share, trust, counts at its own resolution.

    Args:
      scored: the images.
      names: name of each image of the whole split.
      groups: group of each image of the whole split, "" where unknown.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "group", *NATIVE_SCORES, "lesion_fraction", TRUST, *COUNTS])
    for image in scored:
        values = [*(image.native[name] for name in NATIVE_SCORES), image.lesion_fraction]
        line = [names[image.index], groups[image.index], *(f"{value:.6f}" for value in values)]
        trust = "" if image.trust is None else f"{image.trust:.6f}"
        table.writerow([*line, trust, *(image.native_counts[name] for name in COUNTS)])
    return text.getvalue()


@dataclasses.dataclass(frozen=True)
class PerImage:
    """Content of `per_image.csv`.

    Attributes:
      names: name of each image.
      groups: group of each image, "" where unknown.
      values: float64 [N] by column: `NATIVE_SCORES`, "lesion_fraction", `COUNTS`.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    values: dict[str, np.ndarray]


def read_per_image(folder: Path) -> PerImage:
    """Reads an evaluation's `per_image.csv`.

    Raises:
      UserError: the file is missing, holds no image, or has other columns than this version writes.
    """
    path = folder / PER_IMAGE
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); evaluate again") from error
    if not rows:
        raise UserError(f"{path}: holds no image; evaluate again")
    if missing := [name for name in ("name", "group", *_NUMBERS) if name not in rows[0]]:
        raise UserError(f"{path}: has no column {missing[0]!r}, so an older jaxseg wrote it; evaluate again")
    try:
        values = {name: np.array([float(row[name]) for row in rows], np.float64) for name in _NUMBERS}
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: holds a line that is not what evaluate writes ({error}); evaluate again") from error
    return PerImage(tuple(row["name"] for row in rows), tuple(row["group"] for row in rows), values)
