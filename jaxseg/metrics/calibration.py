"""Whether a probability of 0.8 means lesion in 80 of 100 pixels: reliability bins and expected calibration error."""

from typing import Any

import numpy as np

BINS = 15
"""Of equal width; as many as Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017)."""

_EDGES = np.linspace(0, 1, BINS + 1)


def tally(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Sorts pixels into bins by their probability; tallies of images are added.

    Args:
      probability: float32 [H, W] in [0, 1], of lesion. One on an edge between bins belongs to the lower bin.
      truth: bool [H, W].

    Returns:
      float64 [3, BINS]: per bin the pixels, the sum of their probabilities, and how many of them are lesion.
    """
    bins = np.searchsorted(_EDGES[1:-1], probability.ravel())
    weights = None, probability.ravel(), truth.ravel()
    return np.stack([np.bincount(bins, w, BINS).astype(np.float64) for w in weights])


def calibration(totals: np.ndarray) -> dict[str, Any]:
    """Describes summed tallies.

    Args:
      totals: float64 [3, BINS], of at least one pixel.

    Returns:
      "expected_calibration_error" (the mean over pixels of the gap between mean probability and share of lesion in
      their bin, [0, 1]), "pixels", and "bins": each "from", "to", "pixels", "probability" (mean) and "lesion" (share),
      which are None where no pixel is.
    """
    pixels, probability, lesion = totals
    bins = []
    for i, n in enumerate(pixels):
        means = (float(probability[i] / n), float(lesion[i] / n)) if n else (None, None)
        about = {"from": float(_EDGES[i]), "to": float(_EDGES[i + 1]), "pixels": int(n)}
        bins.append(about | dict(zip(("probability", "lesion"), means, strict=True)))
    return {
        "expected_calibration_error": float(np.abs(probability - lesion).sum() / pixels.sum()),
        "pixels": int(pixels.sum()),
        "bins": bins,
    }
