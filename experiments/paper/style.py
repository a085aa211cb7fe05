"""What tells style from misses: outlines that are all drawn wider or closer than the true ones, or single failures."""

from collections.abc import Sequence

import numpy as np

from experiments.paper.rows import mean_sd, shown
from jaxseg.metrics import LEAST_JACCARD, confusion, scores
from jaxseg.metrics.boundary import signed_distance

MEASURES = ("Median area, found / true", "Mean area, found / true", "Outline outside", f"Jaccard < {LEAST_JACCARD}")
"""Columns of tables."""

ABOUT = (
    "Outline outside is the mean signed distance of the found outline from the true one as a share of the lesion's "
    "equivalent diameter, positive outside: the mean over images, of those where something is found. Style moves all "
    f"outlines alike; misses are single images below a Jaccard of {LEAST_JACCARD}."
)
"""What the columns are, for sections that have them."""


def cells(runs: Sequence[Sequence[float | None]]) -> list[str]:
    """Returns a row's cells under `MEASURES`, from what `of_masks` returns of each run."""
    median, mean, outside, failed = ([run[i] for run in runs if run[i] is not None] for i in range(len(MEASURES)))
    return [shown(median), shown(mean), shown(outside) if outside else "-", percent(failed)]


def percent(shares: Sequence[float]) -> str:
    """Returns mean and standard deviation of shares in [0, 1] as "17.2 ± 2.1 %", and a single one as "17.2 %"."""
    mean, sd = mean_sd([100 * share for share in shares])
    return f"{mean:.1f} ± {sd:.1f} %" if len(shares) > 1 else f"{mean:.1f} %"


def of_masks(masks: np.ndarray, truth: np.ndarray) -> tuple[float, float, float | None, float]:
    """Returns how far masks are wider than the truth, and how often they miss.

    Args:
      masks: bool [N, S, S].
      truth: {0, 1} [N, S, S]; none is empty.

    Returns:
      Median and mean of the area found over the true one; mean of `signed_distance` over the images where something is
      found, a share of the lesion's equivalent diameter, or None if there is no such image; share of images with a
      Jaccard below 0.65.
    """
    ratio = masks.mean(axis=(1, 2)) / truth.mean(axis=(1, 2))
    outside = [signed_distance(found, true > 0) for found, true in zip(masks, truth, strict=True) if found.any()]
    failed = np.asarray(scores(confusion(masks, truth))["jaccard"]) < LEAST_JACCARD
    mean_outside = float(np.mean(outside)) if outside else None
    return float(np.median(ratio)), float(ratio.mean()), mean_outside, float(failed.mean())
