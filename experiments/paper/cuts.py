"""Masks from the probabilities of many images, and the threshold that suits them best."""

import dataclasses

import numpy as np

from jaxseg.inference.masks import Prediction
from jaxseg.inference.threshold import GRID, best_of_grid
from jaxseg.metrics import confusion, scores

CLEAN = Prediction(largest_component=True, fill_holes=True)
"""How clean masks are made, besides the threshold."""


def cut(maps: np.ndarray, prediction: Prediction) -> np.ndarray:
    """Returns masks bool [N, S, S] from probabilities.

    Args:
      maps: probabilities [N, S, S].
      prediction: how masks are made.
    """
    return np.stack([prediction.mask(probability) for probability in maps])


def with_best_threshold(maps: np.ndarray, truth: np.ndarray, prediction: Prediction) -> Prediction:
    """Returns the prediction with the threshold of the highest mean Dice, the one nearest to 0.5 if several tie.

    Args:
      maps: probabilities [N, S, S].
      truth: masks {0, 1} [N, S, S].
      prediction: how masks are made, apart from the threshold.
    """
    tried = [dataclasses.replace(prediction, threshold=threshold) for threshold in GRID]
    return tried[best_of_grid([np.mean(scores(confusion(cut(maps, way), truth))["dice"]) for way in tried])]
