"""How well two outlines agree: Hausdorff distance and boundary IoU of an image's masks.

Overlap hardly notices a ragged or shifted outline of a large lesion; these do. Both look at the masks' union alone, and
distances are between outline pixels, so an image of 4000 x 3000 pixels takes a fraction of a second.
"""

import math

import numpy as np

BOUNDARY_SCORES = ("hausdorff95", "hausdorff95_relative", "boundary_iou")

BAND = 0.02
"""Width of boundary IoU's band, of the image's diagonal: 2 % is what Cheng et al. (2021) settled on."""


def boundary_scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Compares the outlines of two masks; the image's frame closes the outline of a mask that it cuts.

    "hausdorff95" is the larger of two 95th percentiles, in pixels: of the distances from each outline pixel of one mask
    to the nearest of the other, and the other way round. "hausdorff95_relative" is that by the image's diagonal.
    "boundary_iou" is the Jaccard of the masks' inner bands, 2 % of the diagonal wide, as in the reference code of Cheng
    et al., "Boundary IoU" (CVPR 2021).

    Of two empty masks the distance is 0 and the IoU 1; of one empty mask the distance is the diagonal, the worst
    possible, and the IoU 0.

    Args:
      prediction: bool [H, W].
      truth: bool [H, W].

    Returns:
      The three `BOUNDARY_SCORES`.
    """
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


def _cropped(*masks: np.ndarray) -> list[np.ndarray]:
    """Returns the part of all masks that holds their union: beyond its edges there is no lesion."""
    union = np.logical_or.reduce(masks)
    rows, columns = (np.flatnonzero(union.any(axis=axis)) for axis in (1, 0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return [mask[part] for mask in masks]


def _hausdorff(a: np.ndarray, b: np.ndarray, percentile: float = 95) -> float:
    """Returns the larger of the two directed distances' percentiles, pixels; neither mask is empty."""
    from scipy.spatial import KDTree  # not at the top: training, which outlines masks, need not wait for it

    points = [np.argwhere(outline(mask)) for mask in (a, b)]
    there, back = (KDTree(to).query(of)[0] for of, to in (points, points[::-1]))
    return float(max(np.percentile(there, percentile), np.percentile(back, percentile)))


def outline(mask: np.ndarray, width: int = 1) -> np.ndarray:
    """Returns the pixels of a mask, bool [H, W], within `width` steps of its outside, which begins beyond the image."""
    inner = mask
    for _ in range(width):
        eroded = np.zeros_like(inner)
        eroded[1:-1, 1:-1] = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:] & inner[1:-1, 1:-1]
        inner = eroded
    return mask & ~inner


def _band(mask: np.ndarray, width: int) -> np.ndarray:
    """Returns the pixels of a mask that are at most `width` king's moves from its outside; beyond the edges is outside.

    The same as what `width` erosions by a square of 3 x 3 take away, at a cost that does not grow with the width.
    """
    from scipy import ndimage

    inner = ndimage.minimum_filter(mask.view(np.uint8), 2 * width + 1, mode="constant", cval=0)
    return mask & (inner == 0)
