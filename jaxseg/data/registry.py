"""The data sets by name: what can be trained on, and which images train, validate and test.

Importing this package is cheap: TFDS and the synthetic set are imported by the functions that open them.
"""

import numpy as np

from jaxseg.config import DataConfig
from jaxseg.data.examples import Example, Examples
from jaxseg.data.folder import open_folder
from jaxseg.data.folds import folds
from jaxseg.data.published.place import is_prepared
from jaxseg.data.published.prepared import open_prepared
from jaxseg.errors import UserError, suggestion

__all__ = ["Example", "Examples", "default_split", "open_split", "resolve_name", "splits_of", "training_splits"]

NAMES = ("ph2", "isic2016", "synthetic", "auto")
"""What `data.name` may be besides a folder."""

HELD_OUT_FOLDS = 5
"""Where a set has no validation images of its own, the first of this many folds validates."""

_SPLITS = {
    "ph2": ("train", "validation", "all"),
    "isic2016": ("train", "validation", "test"),
    "synthetic": ("train", "validation", "test"),
}
_FOLDER_SPLITS = ("train", "validation", "all")

_POOL = {"ph2": "all", "isic2016": "train", "synthetic": "train"}
"""The images that folds are made of; of a folder, all."""

_HAS_VALIDATION = ("ph2", "synthetic")
"""Sets with a validation split of their own."""


def resolve_name(config: DataConfig) -> str:
    """Returns the set that `data.name` means: "auto" is PH2 where it is prepared, and else the synthetic set."""
    if config.name != "auto":
        return config.name
    return "ph2" if is_prepared("ph2", config.data_dir) else "synthetic"


def splits_of(name: str) -> tuple[str, ...]:
    """Returns the splits that a set (by its resolved name, or a folder) can be opened with."""
    return _SPLITS.get(name, _FOLDER_SPLITS)


def default_split(name: str) -> str:
    """Returns the split that evaluation takes unless told otherwise: one that training has not seen, where there is."""
    return {"ph2": "validation", "isic2016": "test", "synthetic": "test"}.get(name, "all")


def open_split(config: DataConfig, split: str) -> Examples:
    """Opens a split of a set; no image is decoded.

    "train" and "validation" are what `training_splits` gives for the same config, so with `data.folds` they are that
    fold's. Only ISIC 2016's "train" is always the whole training set as published.

    Args:
      config: which set.
      split: ph2: train, validation, all; isic2016: train and test (as published), validation (a fifth of train);
        synthetic: train, validation, test; a folder: all, train, validation (a fifth of all).

    Returns:
      The examples of the split.

    Raises:
      UserError: no such split, a set that is not prepared, or a folder that is not as it should be.
    """
    name = resolve_name(config)
    if split not in (known := splits_of(name)):
        raise UserError(
            f"--split {split}: {name} has no such split (there are: {', '.join(known)}){suggestion(split, known)}"
        )
    if split in ("train", "validation") and (name, split) != ("isic2016", "train"):
        train, validation = training_splits(config)
        return train if split == "train" else validation
    return _stored(config, name, split)


def training_splits(config: DataConfig) -> tuple[Examples, Examples]:
    """Opens what a run trains on and what it validates on; they share no image.

    With `data.folds` they are folds of all images that the set has for training. Without, they are the committed split
    of PH2, the synthetic set's own splits, and else four fifths and one fifth.

    Args:
      config: which set, folds and fold.

    Returns:
      The training and the validation examples.

    Raises:
      UserError: fewer images than folds, a set that is not prepared, or a folder that is not as it should be.
    """
    name = resolve_name(config)
    if not config.folds and name in _HAS_VALIDATION:
        return _stored(config, name, "train"), _stored(config, name, "validation")
    pool = _stored(config, name, _POOL.get(name, "all"))
    k = config.folds or HELD_OUT_FOLDS
    if len(pool) < k:
        raise UserError(f"{name}: {len(pool)} images are too few for {k} folds; it takes at least one for each")
    validation = folds(pool.names, pool.groups, k)[config.fold if config.folds else 0]
    train = np.setdiff1d(np.arange(len(pool)), validation)
    return pool.select(train, "train"), pool.select(validation, "validation")


def _stored(config: DataConfig, name: str, split: str) -> Examples:
    """Opens a split as the set itself has it."""
    if name in ("ph2", "isic2016"):
        return open_prepared(config, name, split)
    if name == "synthetic":
        from jaxseg.data.synthetic import synthetic_examples

        return synthetic_examples(split, config)
    return open_folder(name, NAMES)
