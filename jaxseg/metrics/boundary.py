"""Agreement of two outlines: Hausdorff distance, boundary IoU and signed distance of two masks.

Overlap scores hardly change when the outline of a large lesion is ragged or shifted; these do. All are computed within
the bounding box of the masks' union, and distances between outline pixels only, so that an image of 4000 x 3000 pixels
takes a fraction of a second.
"""

import math

import numpy as np

from jaxseg.metrics.overlap import refuse_probabilities

BOUNDARY_SCORES = ("hausdorff95", "hausdorff95_relative", "boundary_iou")
"""Keys of what `boundary_scores` returns."""

BAND = 0.02
"""Width of boundary IoU's band as a share of the image's diagonal: the 2 % of Cheng et al. (2021)."""


def boundary_scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Compares the outlines of two masks; where the frame cuts a mask, the frame is part of its outline.

    "hausdorff95" is the larger of two 95th percentiles, in pixels: of the distances from each outline pixel of one mask
    to the nearest outline pixel of the other mask, and vice versa. "hausdorff95_relative" is "hausdorff95" divided by
    the image's diagonal. "boundary_iou" is the Jaccard of the masks' inner bands, whose width is 2 % of the diagonal,
    as in the reference code of Cheng et al., "Boundary IoU" (CVPR 2021).

    If both masks are empty, the distance is 0 and the IoU 1. If one is empty, the distance is the diagonal, which is
    the worst possible, and the IoU is 0.

    Args:
      prediction: {0, 1} or bool [H, W].
      truth: {0, 1} or bool [H, W].

    Returns:
      The three `BOUNDARY_SCORES` by name.

    Raises:
      ValueError: probabilities instead of masks.
    """
    prediction, truth = _as_bool(prediction, truth)
    diagonal = math.hypot(*truth.shape)
    if prediction.any() and truth.any():
        width = max(round(BAND * diagonal), 1)
        prediction, truth = _cropped(prediction, truth)
        distance = _hausdorff(prediction, truth)
        predicted, true = _band(prediction, width), _band(truth, width)
        iou = float((predicted & true).sum() / (predicted | true).sum())
    else:
        same = prediction.any() == truth.any()
        distance, iou = (0.0, 1.0) if same else (diagonal, 0.0)
    return {"hausdorff95": distance, "hausdorff95_relative": distance / diagonal, "boundary_iou": iou}


def signed_distance(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Returns how far outside the true outline the predicted one lies on average; negative: inside.

    The mean over the pixels of the predicted outline of the distance to the nearest pixel of the true outline, counted
    positive outside the true mask and negative within it, divided by the diameter of a disc of the true mask's area.
    A mask that is drawn wider all around, a matter of style, has a large mean; one that is ragged has a small one.
    Where the frame cuts a mask, the frame is part of its outline.

    Args:
      prediction: {0, 1} or bool [H, W].
      truth: {0, 1} or bool [H, W].

    Returns:
      A share of the true mask's equivalent diameter; NaN if either mask is empty.

    Raises:
      ValueError: probabilities instead of masks.
    """
    from scipy.spatial import KDTree  # not at the top: `predict` calls `outline` and need not wait for SciPy

    prediction, truth = _as_bool(prediction, truth)
    if not (prediction.any() and truth.any()):
        return math.nan
    diameter = math.sqrt(4 * truth.sum() / math.pi)
    prediction, truth = _cropped(prediction, truth)
    found = np.argwhere(outline(prediction))
    distance, _ = KDTree(np.argwhere(outline(truth))).query(found)
    return float(np.mean(np.where(truth[tuple(found.T)], -distance, distance)) / diameter)


def _as_bool(*masks: np.ndarray) -> list[np.ndarray]:
    refuse_probabilities(*masks)
    return [mask.astype(bool) for mask in masks]


def _cropped(*masks: np.ndarray) -> list[np.ndarray]:
    """Crops all masks to the bounding box of their union, which must not be empty."""
    union = np.logical_or.reduce(masks)
    rows, columns = (np.flatnonzero(union.any(axis=axis)) for axis in (1, 0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return [mask[part] for mask in masks]


def _hausdorff(a: np.ndarray, b: np.ndarray, percentile: float = 95) -> float:
    """Returns the larger of the two directed distances' percentiles, pixels; neither mask may be empty."""
    from scipy.spatial import KDTree  # not at the top: `predict` calls `outline` and need not wait for SciPy

    points = [np.argwhere(outline(mask)) for mask in (a, b)]
    forward, backward = (KDTree(target).query(source)[0] for source, target in (points, points[::-1]))
    return float(max(np.percentile(forward, percentile), np.percentile(backward, percentile)))


def outline(mask: np.ndarray, width: int = 1) -> np.ndarray:
    """Returns the pixels of a mask that are close to its outside; pixels beyond the image are outside.

    Args:
      mask: bool [H, W].
      width: maximum distance from the outside, in steps to one of the four neighbours.

    Returns:
      bool [H, W].
    """
    inner = mask
    for _ in range(width):
        eroded = np.zeros_like(inner)
        eroded[1:-1, 1:-1] = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:] & inner[1:-1, 1:-1]
        inner = eroded
    return mask & ~inner


def _band(mask: np.ndarray, width: int) -> np.ndarray:
    """Returns the pixels of a mask within `width` pixels of its outside, diagonal steps included.

    These are the pixels that `width` erosions by a 3x3 square remove, at a cost that does not grow with the width.
    Pixels beyond the image are outside.
    """
    from scipy import ndimage

    inner = ndimage.minimum_filter(mask.view(np.uint8), 2 * width + 1, mode="constant", cval=0)
    return mask & (inner == 0)
