"""Calibration: reliability bins and the expected calibration error.

A network is calibrated if 80 of 100 pixels with a probability of 0.8 are lesion.
"""

from typing import Any

import numpy as np

BINS = 15
"""Number of bins of equal width, as in Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017)."""

_EDGES = np.linspace(0, 1, BINS + 1)


def tally(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Counts an image's pixels by their probability; the tallies of several images can be added.

    Args:
      probability: float32 [H, W] in [0, 1], the probability of lesion. A value on the edge between two bins belongs to
        the lower bin.
      truth: bool [H, W], true for lesion.

    Returns:
      float64 [3, BINS]: per bin the number of pixels, the sum of their probabilities, and the number of lesion pixels.
    """
    bins = np.searchsorted(_EDGES[1:-1], probability.ravel())
    weights = None, probability.ravel(), truth.ravel()
    return np.stack([np.bincount(bins, w, BINS).astype(np.float64) for w in weights])


def calibration(totals: np.ndarray) -> dict[str, Any]:
    """Computes the calibration error and the reliability bins from a sum of tallies.

    Args:
      totals: float64 [3, BINS], a sum of tallies with at least one pixel.

    Returns:
      "expected_calibration_error", the mean over pixels of the difference between mean probability and share of lesion
      in the pixel's bin, in [0, 1]; "pixels", their number; and "bins", a list of dicts with "from", "to", "pixels",
      "probability" (mean) and "lesion" (share). The latter two are None in bins without pixels.
    """
    pixels, probability, lesion = totals
    bins = []
    for i, n in enumerate(pixels):
        means = (float(probability[i] / n), float(lesion[i] / n)) if n else (None, None)
        limits = {"from": float(_EDGES[i]), "to": float(_EDGES[i + 1]), "pixels": int(n)}
        bins.append(limits | dict(zip(("probability", "lesion"), means, strict=True)))
    return {
        "expected_calibration_error": float(np.abs(probability - lesion).sum() / pixels.sum()),
        "pixels": int(pixels.sum()),
        "bins": bins,
    }
