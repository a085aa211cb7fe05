"""From a probability map to a mask: threshold, largest component, holes."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

log = logging.getLogger(__name__)


THRESHOLD = 0.5
"""Probability above which a pixel is lesion, unless another is given or chosen."""


_EIGHT_NEIGHBOURS = np.ones((3, 3), bool)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """How a probability map becomes a mask.

    Attributes:
      threshold: probability above which a pixel is lesion, in (0, 1).
      threshold_chosen_on: images and criterion by which `choose_threshold` found the threshold; None where the
        threshold was given.
      largest_component: whether only the largest connected region is kept. Pixels that touch at an edge or a corner
        connect; of equally large regions the first from the top left is kept.
      fill_holes: whether holes in the mask are filled; background pixels connect at edges only.
    """

    threshold: float = THRESHOLD
    threshold_chosen_on: Mapping[str, Any] | None = None
    largest_component: bool = False
    fill_holes: bool = False

    def mask(self, probability: np.ndarray) -> np.ndarray:
        """Applies the threshold, keeps the largest component, and fills holes, in this order.

        Args:
          probability: float32 [H, W] in [0, 1].

        Returns:
          bool [H, W], true for lesion.
        """
        mask = probability > self.threshold
        if not (self.largest_component or self.fill_holes):
            return mask
        from scipy import ndimage  # not at the top: its import takes half as long as that of JAX

        if self.largest_component:
            labels, count = ndimage.label(mask, _EIGHT_NEIGHBOURS)
            if count > 1:
                mask = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
        return ndimage.binary_fill_holes(mask) if self.fill_holes else mask
