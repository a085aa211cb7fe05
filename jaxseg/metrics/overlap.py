"""Confusion counts, the five scores of the paper (3.3.4), and the ISIC challenge's thresholded Jaccard.

Counts come first and are added; scores are divisions at the very end, either per image or once over pooled counts.
Importing this module does not import JAX, which those who only read scores can do without.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import jax
    from jax.typing import ArrayLike

    Array = jax.Array | np.ndarray

COUNTS = ("tp", "fp", "fn", "tn")
SCORES = ("accuracy", "dice", "jaccard", "sensitivity", "specificity")

LEAST_JACCARD = 0.65
"""Below this the thresholded Jaccard is 0: about how far experts differ (ISIC challenge 2018, task 1)."""


def confusion(predictions: "Array", targets: "Array") -> dict[str, "Array"]:
    """Counts pixels per image by prediction and truth.

    JAX arrays are counted on the device and numpy arrays by numpy, which compiles nothing for images of ever new sizes.

    Args:
      predictions: {0, 1} or bool [B, ...], usually [B, H, W, 1].
      targets: {0, 1} or bool of the same shape.

    Returns:
      int32 [B] each: "tp", "fp", "fn", "tn" (true and false positives and negatives; lesion is positive).
    """
    import chex

    chex.assert_equal_shape([predictions, targets])
    predictions, targets = predictions.astype(bool), targets.astype(bool)
    pixels = tuple(range(1, predictions.ndim))

    def count(where: "Array") -> "Array":
        return where.sum(axis=pixels, dtype=np.int32)

    return {
        "tp": count(predictions & targets),
        "fp": count(predictions & ~targets),
        "fn": count(~predictions & targets),
        "tn": count(~predictions & ~targets),
    }


def scores(counts: Mapping[str, "ArrayLike"]) -> dict[str, "ArrayLike"]:
    """Turns counts into the five scores, elementwise.

    Plain arithmetic, so that counts may be JAX arrays on the device, numpy arrays or Python integers of any size on
    the host. Accuracy is (TP + TN) / all; the paper's equation 3 misprints it. A score whose denominator is zero is 1:
    with no lesion to find, finding none is perfect (the ISIC challenge's rule for Jaccard and Dice of two empty masks).

    Args:
      counts: "tp", "fp", "fn", "tn" as from `confusion`, or sums of them.

    Returns:
      float of the counts' shape in [0, 1] each: "accuracy", "dice", "jaccard", "sensitivity", "specificity".
    """
    tp, fp, fn, tn = (counts[k] for k in COUNTS)
    return {
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "dice": _ratio(2 * tp, 2 * tp + fp + fn),
        "jaccard": _ratio(tp, tp + fp + fn),
        "sensitivity": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
    }


def thresholded_jaccard(jaccard: "ArrayLike") -> "ArrayLike":
    """Returns an image's Jaccard, or 0 where it is below 0.65: a lesion that is half missed is missed."""
    return jaccard * (jaccard >= LEAST_JACCARD)


def _ratio(part: "ArrayLike", whole: "ArrayLike") -> "ArrayLike":
    """Divides, with 0 / 0 = 1; `part` is 0 wherever `whole` is."""
    nothing = whole == 0
    return (part + nothing) / (whole + nothing)
