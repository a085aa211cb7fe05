"""How well the trust score finds the masks that failed: what looking at the least trusted images by hand is worth."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxseg.metrics import LEAST_JACCARD

SHARE = 0.2
"""Share of the images, the least trusted ones, whose failures are counted."""


def worth_of_trust(trust: Sequence[float], dice: Sequence[float], jaccard: Sequence[float]) -> dict[str, Any]:
    """Compares the order of images by trust with their scores, as `metrics.json` keeps it under "trust".

    Args:
      trust: score of each image, in [0, 1], made without the truth.
      dice: Dice of each image.
      jaccard: Jaccard of each image; below `LEAST_JACCARD` the mask failed.

    Returns:
      "spearman_dice", the rank correlation of trust and Dice, or None where one of them is the same for all images;
      "images_looked_at", the least trusted fifth; "failures" among all images; "failures_found" in that fifth;
      "share_of_failures_found", or None without failures; and "share_at_best", what a perfect order would find there,
      which is below 1 where more images failed than are looked at.
    """
    failed = np.asarray(jaccard) < LEAST_JACCARD
    looked_at = max(1, round(SHARE * len(failed)))
    failures, found = int(failed.sum()), int(failed[np.argsort(trust, kind="stable")[:looked_at]].sum())
    return {
        "spearman_dice": _rank_correlation(trust, dice),
        "images_looked_at": looked_at,
        "failures": failures,
        "failures_found": found,
        "share_of_failures_found": found / failures if failures else None,
        "share_at_best": min(looked_at, failures) / failures if failures else None,
    }


def _rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    if min(len(set(first)), len(set(second))) < 2:
        return None
    from scipy import stats

    found = float(stats.spearmanr(first, second).statistic)
    return found if math.isfinite(found) else None
