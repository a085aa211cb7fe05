"""Images that runs learn from without their masks: half of the external set, labelled by runs that are trained already.

Those runs, the teachers, are of another row. Nobody's outline of these images is read; the other half tests the pupils,
and their teachers too.
"""

import dataclasses
import hashlib

import numpy as np

from experiments.paper.cuts import CLEAN, cut, with_best_threshold
from experiments.paper.pool import resized
from jaxseg.config import Config
from jaxseg.data import Examples
from jaxseg.data.examples import Example
from jaxseg.data.folds import folds


def halves(external: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places, int64 [n], of the images that are learned from, and of those that test."""
    learned, tested = folds(external.names, external.groups, 2, kept_together=external.kept_together)
    return learned, tested


def taught(
    train: Examples, validation: Examples, external: Examples, maps: dict[str, np.ndarray], config: Config
) -> Examples:
    """Returns the training images, and after them half of the external set with the labels of a row's runs.

    Args:
      train: images with masks.
      validation: images with masks that choose the labels' threshold.
      external: the external set.
      maps: the mean probabilities of the runs, [N, S, S], of "validation" and "external".
      config: settings, which give the size of images and labels.
    """
    truth = resized(validation, config)[1][..., 0]
    places, _ = halves(external)
    learned = external.select(places, "learned")
    masks = cut(maps["external"][places], with_best_threshold(maps["validation"], truth, CLEAN))
    images, _ = resized(learned, config)

    def load(i: int) -> Example:
        return Example(images[i], masks[i][..., None].astype(np.uint8))

    names = tuple(f"{external.dataset}/{name}" for name in learned.names)
    labelled = Examples(train.dataset, "labelled", names, learned.groups, load)
    whole = dataclasses.replace(train, kept_together=()).followed_by(labelled, f"{train.split} and labelled")
    # Other labels are other training images: a row that is under way does not go on with them.
    return dataclasses.replace(whole, version=f"{train.version}, labels {hashlib.sha256(masks).hexdigest()[:16]}")
