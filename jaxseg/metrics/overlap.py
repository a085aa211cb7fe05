"""Confusion counts, the five scores of the paper (3.3.4), and the ISIC challenge's thresholded Jaccard.

Counts are computed first and can be added; scores are divisions at the very end, either per image or once over pooled
counts. Importing this module does not import JAX, so that commands that only read scores start quickly.

Lesion is positive: TP and FP are pixels found as lesion, rightly and wrongly, TN and FN pixels found as skin.

- accuracy: (TP + TN) / all
- Dice: 2 TP / (2 TP + FP + FN)
- Jaccard: TP / (TP + FP + FN)
- sensitivity: TP / (TP + FN); specificity: TN / (TN + FP)
- thresholded Jaccard: Jaccard, but 0 below 0.65 (the ISIC challenge's ranking since 2018)

A score whose denominator is 0 is 1: two empty masks agree perfectly (the ISIC challenge's rule). "Per image" is the
mean over images, "pooled" the score of counts summed over all images, which weights images by size and lesions by area.
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
"""Jaccard below which the thresholded Jaccard is 0: about the agreement of experts (ISIC challenge 2018, task 1)."""


def confusion(predictions: "Array", targets: "Array") -> dict[str, "Array"]:
    """Counts pixels per image by prediction and truth.

    JAX arrays are counted on the device. NumPy arrays are counted by NumPy: JAX would recompile for every new image
    size.

    Args:
      predictions: {0, 1} or bool [B, ...], usually [B, H, W, 1].
      targets: {0, 1} or bool of the same shape.

    Returns:
      The counts "tp", "fp", "fn" and "tn" (true and false positives and negatives; lesion is positive), int32 [B] each.

    Raises:
      AssertionError: predictions and targets differ in shape.
      ValueError: NumPy arrays of probabilities, of which all above 0 would count as lesion.
    """
    import chex

    chex.assert_equal_shape([predictions, targets])
    refuse_probabilities(predictions, targets)
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


def refuse_probabilities(*masks: "Array") -> None:
    """Checks that masks of floats hold 0 and 1 alone; JAX arrays, whose values may not be known, are not checked.

    Args:
      *masks: arrays of any shape.

    Raises:
      ValueError: an array holds something else.
    """
    for mask in masks:
        if isinstance(mask, np.ndarray) and mask.dtype.kind == "f" and not ((mask == 0) | (mask == 1)).all():
            raise ValueError("masks must hold 0 and 1, not probabilities: cut them first, as probability > 0.5")


def scores(counts: Mapping[str, "ArrayLike"]) -> dict[str, "ArrayLike"]:
    """Computes the five scores from counts, elementwise.

    It is plain arithmetic: counts may be JAX arrays on the device, or NumPy arrays or Python integers of any size on
    the host. Accuracy is (TP + TN) / all; the paper's equation 3 misprints it. A score whose denominator is zero is 1:
    where there is no lesion, an empty prediction is perfect (the ISIC challenge's rule for two empty masks).

    Args:
      counts: "tp", "fp", "fn" and "tn" from `confusion`, or sums of them.

    Returns:
      The scores "accuracy", "dice", "jaccard", "sensitivity" and "specificity", each a float in [0, 1] of the counts'
      shape.
    """
    tp, fp, fn, tn = (_wide(counts[k]) for k in COUNTS)
    return {
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "dice": _ratio(2 * tp, 2 * tp + fp + fn),
        "jaccard": _ratio(tp, tp + fp + fn),
        "sensitivity": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
    }


def thresholded_jaccard(jaccard: "ArrayLike") -> "ArrayLike":
    """Returns the Jaccard of each image, or 0 below `LEAST_JACCARD`: a lesion found by half counts as missed."""
    return jaccard * (jaccard >= LEAST_JACCARD)


def _wide(count: "ArrayLike") -> "ArrayLike":
    """Returns a count that twice its value fits into, too: a million pixels of 2,000 images do not fit into 32 bits."""
    is_small = isinstance(count, np.ndarray | np.generic) and count.dtype.kind in "iu"
    return count.astype(np.int64) if is_small else count


def _ratio(part: "ArrayLike", whole: "ArrayLike") -> "ArrayLike":
    """Returns `part / whole`, with 0 / 0 = 1; `part` must be 0 wherever `whole` is 0."""
    nothing = whole == 0
    return (part + nothing) / (whole + nothing)
