"""Chooses the threshold of a model on its validation images, and describes how its masks are made.

In Python:

    segmenter = Segmenter.load("runs/full", tta=True)
    prediction = choose_threshold(segmenter, Prediction(largest_component=True))
    mask = prediction.mask(segmenter(image))
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxseg import data
from jaxseg.data import Examples
from jaxseg.data.identity import identify
from jaxseg.data.images import resize_mask
from jaxseg.data.pipeline import read_ahead
from jaxseg.errors import UserError
from jaxseg.inference.masks import THRESHOLD, Prediction
from jaxseg.inference.runtime import JAX
from jaxseg.inference.segmenter import Segmenter
from jaxseg.metrics import confusion, scores
from jaxseg.pretrained.place import display_name
from jaxseg.runs.images import find, fingerprints_of, read
from jaxseg.runs.workdir import run_id
from jaxseg.system.progress_bar import progress

log = logging.getLogger(__name__)


GRID = tuple(percent / 100 for percent in range(1, 100))
"""Thresholds to try."""


def describe_masks(segmenter: Segmenter, prediction: Prediction) -> dict[str, Any]:
    """Returns how masks are made, as `metrics.json` keeps it under "prediction".

    Args:
      segmenter: the model.
      prediction: how its probabilities become masks.
    """
    how = {
        "test_time_augmentation": segmenter.tta,
        "ensemble": [
            {"workdir": display_name(m.workdir), "step": m.step, "run": run_id(m.workdir)} for m in segmenter.members
        ],
        **dataclasses.asdict(prediction),
    }
    # Records and masks of releases that knew only JAX name no runtime, and are equal to those that JAX makes today.
    return how if segmenter.runtime.name == JAX else how | {"runtime": segmenter.runtime.name}


def choose_threshold(
    segmenter: Segmenter, prediction: Prediction, data_dir: str | None = None, place: str | None = None
) -> Prediction:
    """Finds the threshold of the highest mean Dice on the validation images of the first run, and on no others.

    Dice is computed at the network's resolution, for masks that are made as `prediction` says. Of equally good
    thresholds, the nearest to 0.5 is chosen.

    Args:
      segmenter: the model, its ensemble and test-time augmentation included.
      prediction: how masks are made besides.
      data_dir: folder of the prepared data sets; default: the first run's.
      place: a data set that may hold those images too, where the run's own is not to be had.

    Returns:
      `prediction` with the threshold, and what it was chosen on.

    Raises:
      UserError: the validation images are not to be had here, or are no longer those of the run.
    """
    examples = validation_images(segmenter, data_dir, place)
    dice = mean_dice(segmenter, [dataclasses.replace(prediction, threshold=t) for t in GRID], examples)
    best = best_of_grid(dice)
    chosen_on = {
        "dataset": examples.dataset,
        "split": examples.split,
        "images": len(examples),
        "criterion": f"mean of the images' Dice at {segmenter.image_size} pixels, over {GRID[0]} to {GRID[-1]}",
        "score": float(dice[best]),
        "trained_on": segmenter.trained_on(examples, data_dir or segmenter.config.data.data_dir),
    }
    text = "threshold %g chosen on %s %s, %d images: Dice there %.4f, and %.4f with %g"
    where = examples.dataset, examples.split, len(examples)
    log.info(text, GRID[best], *where, dice[best], dice[GRID.index(THRESHOLD)], THRESHOLD)
    if chosen_on["trained_on"]:
        log.warning(
            "%d of these images were TRAINED ON, by another run of the ensemble or by the run whose weights this one "
            "started with",
            chosen_on["trained_on"],
        )
    return dataclasses.replace(prediction, threshold=GRID[best], threshold_chosen_on=chosen_on)


def best_of_grid(dice: Sequence[float]) -> int:
    """Returns the index of the threshold in `GRID` with the highest Dice; of equals, the one nearest to 0.5."""
    return max(range(len(GRID)), key=lambda i: (dice[i], -abs(GRID[i] - THRESHOLD)))


def mean_dice(segmenter: Segmenter, predictions: Sequence[Prediction], examples: Examples) -> np.ndarray:
    """Scores several ways of making masks at the network's resolution; images are decoded ahead in threads.

    Args:
      segmenter: the model.
      predictions: the ways of making masks.
      examples: the images.

    Returns:
      float64 [len(predictions)], the mean Dice of the images for each way.
    """
    size = (segmenter.image_size, segmenter.image_size)

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = examples.load(index)
        return resize_mask(mask, size)[..., 0], segmenter.resize(image)

    loaded = read_ahead(load, range(len(examples)), segmenter.config.data.workers)
    dice = np.zeros(len(predictions))
    for truth, probability in progress(segmenter.stream(loaded), "choosing the threshold", len(examples)):
        dice += [scores(confusion(p.mask(probability)[None], truth[None]))["dice"].item() for p in predictions]
    return dice / len(examples)


def validation_images(segmenter: Segmenter, data_dir: str | None = None, place: str | None = None) -> Examples:
    """Opens the images that the first run of a model validated on.

    Args:
      segmenter: the model.
      data_dir: folder of the prepared data sets; default: the run's.
      place: a data set that may hold them too, where the run's own is not to be had.

    Returns:
      The images, in the run's order where it keeps a list of them.

    Raises:
      UserError: they are not to be had here, or are no longer those of the run.
    """
    run, hint = segmenter.members[0], "give --threshold a number"
    stored = read(run.workdir)
    config = dataclasses.replace(run.config.data, data_dir=data_dir or run.config.data.data_dir)
    if stored is not None:  # which tells what validates, so that groups need not
        config = dataclasses.replace(config, groups="")
    if place and not data.is_there(config):
        config = dataclasses.replace(config, name=place)
    try:
        train, validation = data.training_splits(config)
    except UserError as error:
        raise UserError(f"--threshold auto needs the validation images of {run.workdir}: {error}; or {hint}") from error
    if stored is None:
        if validation.fingerprint() != fingerprints_of(run.workdir).get("validation"):
            raise UserError(
                f"--threshold auto: {validation.dataset} {validation.split} has changed since {run.workdir} was "
                f"trained, and may hold images that it was trained on; {hint}"
            )
        return validation
    # Most often the set still deals the run's own validation images, and no other needs to be looked at.
    for examples in (validation, train.followed_by(validation, "validation")):
        identities = identify(examples, stored.identities())
        found = find(stored.validation, examples.names, identities)
        if None not in found:
            return examples.select(np.array(found), "validation")
    lost = [entry.name for entry, i in zip(stored.validation, found, strict=True) if i is None]
    raise UserError(
        f"--threshold auto: {len(lost)} of the {len(found)} validation images of {run.workdir} are not in "
        f"{validation.dataset}, or were edited since, as {lost[0]}; put them back, or {hint}"
    )
