"""The data sets by name: what can be trained on, and which images train, validate and test.

Importing this package is cheap: TFDS and the synthetic set are imported by the functions that open them.
"""

import contextlib
import dataclasses
import logging
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np

from jaxseg.config import DataConfig
from jaxseg.config.datasets import AUTO, DATA_SETS, NAMES, data_set
from jaxseg.data.examples import Examples
from jaxseg.data.folder import SIDES, has_own_validation, open_folder
from jaxseg.data.folds import folds
from jaxseg.data.groups import check_apart, read_groups
from jaxseg.data.published.place import is_prepared
from jaxseg.data.published.prepared import open_prepared
from jaxseg.errors import UserError, is_address, suggestion

HELD_OUT_FOLDS = 5
"""Where a set has no validation images of its own, the first of this many folds validates."""

_log = logging.getLogger(__name__)


def resolve_name(config: DataConfig) -> str:
    """Returns the set that `data.name` means: "auto" is PH2 where it is prepared, and else the synthetic set."""
    if config.name != AUTO:
        return config.name
    return "ph2" if is_prepared("ph2", config.data_dir) else "synthetic"


def absolute(config: DataConfig) -> DataConfig:
    """Returns the same settings with full paths, so that they mean the same in every working folder.

    A known name stays as it is, even if a folder of that name lies in the working folder; that is logged.

    Args:
      config: which set; "auto" is left as it is.
    """
    changes = {}
    if config.name in NAMES:
        if Path(config.name).is_dir():
            _log.warning(
                "--data %s is the known data set; the folder of that name in %s is --data ./%s",
                config.name,
                Path.cwd(),
                config.name,
            )
    elif (folder := _as_spelt(Path(config.name).expanduser())).is_dir():
        changes["name"] = str(folder.resolve())
    if config.data_dir and not is_address(config.data_dir):  # an address is refused where the set is opened
        changes["data_dir"] = str(Path(config.data_dir).expanduser().absolute())
    if config.groups:
        changes["groups"] = str(Path(config.groups).expanduser().resolve())
    return dataclasses.replace(config, **changes)


def _as_spelt(path: Path) -> Path:
    """Returns a path as the disk spells it: a name may be typed composed and stored decomposed, or the contrary."""
    result = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        there = result / part
        if part != ".." and not there.exists() and result.is_dir():
            wanted = unicodedata.normalize("NFC", part)
            with contextlib.suppress(OSError):
                there = next((p for p in result.iterdir() if unicodedata.normalize("NFC", p.name) == wanted), there)
        result = there
    return result


def is_there(config: DataConfig) -> bool:
    """Returns whether a set is prepared, can be drawn, or is a folder that exists."""
    name = resolve_name(config)
    if name not in DATA_SETS:
        return Path(name).expanduser().is_dir()
    return not data_set(name).builder or is_prepared(name, config.data_dir)


def splits_of(name: str) -> tuple[str, ...]:
    """Returns the splits that a set (by its resolved name, or a folder) can be opened with."""
    return data_set(name).splits


def default_split(name: str) -> str:
    """Returns the split that evaluation takes unless told otherwise: one that training has not seen, where there is."""
    if name not in DATA_SETS and has_own_validation(name):
        return "validation"
    return data_set(name).default_split


def is_part_of_run(name: str, split: str) -> bool:
    """Returns whether a split is what a run trains on or validates on, rather than one that is stored as published.

    Args:
      name: resolved name of the set, or a folder.
      split: one of its splits.
    """
    return split in SIDES and not (split == "train" and data_set(name).whole_train)


def open_split(config: DataConfig, split: str) -> Examples:
    """Opens a split of a set; no image is decoded.

    "train" and "validation" are what `training_splits` gives for the same config, so with `data.folds` they are that
    fold's. Only ISIC 2016's "train" is always the whole training set as published.

    Args:
      config: which set.
      split: one of `splits_of`; "validation" is a fifth of the images where the set has no validation images of its
        own.

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
    if is_part_of_run(name, split):
        train, validation = training_splits(config)
        return train if split == "train" else validation
    return _stored(config, name, split)


def training_splits(config: DataConfig) -> tuple[Examples, Examples]:
    """Opens what a run trains on and what it validates on; they share no image.

    With `data.folds` they are folds of all images that the set has for training. Without, they are the set's own
    training and validation images (of PH2, the committed split), and else four fifths and one fifth; of fewer than five
    images, all but one and one. Images of one group (`data.groups`) are on the same side.

    Args:
      config: which set, folds and fold.

    Returns:
      The training and the validation examples.

    Raises:
      UserError: fewer images than folds, a group on both sides of the set's own split, a set that is not prepared, or a
        folder that is not as it should be.
    """
    name = resolve_name(config)
    has_validation = data_set(name).has_validation or (name not in DATA_SETS and has_own_validation(name))
    if has_validation and not config.folds:
        train, validation = (_stored(config, name, side) for side in SIDES)
        if train.kept_together and validation.kept_together:
            train_groups, validation_groups = (
                dict(zip(part.names, part.kept_together, strict=True)) for part in (train, validation)
            )
            check_apart(train_groups, validation_groups, f"--data.groups {config.groups}")
        return train, validation
    pool = _stored(config, name, data_set(name).pool)
    k = config.folds or _held_out_folds(pool)
    if len(pool) < k:
        raise UserError(f"{name}: {len(pool)} images are too few for {k} folds; it takes at least one for each")
    dealt = folds(pool.names, pool.groups, k, kept_together=pool.kept_together)
    validation_indices = dealt[config.fold if config.folds else 0]
    train_indices = np.setdiff1d(np.arange(len(pool)), validation_indices)
    train = dataclasses.replace(pool.select(train_indices, "train"), few=len(pool) < HELD_OUT_FOLDS)
    validation = pool.select(validation_indices, "validation")
    _tell_of_a_large_group(pool, validation, k)
    return train, validation


def _tell_of_a_large_group(pool: Examples, validation: Examples, k: int) -> None:
    """Warns where one group makes a fold much larger than a `k`-th of the images."""
    if not pool.kept_together or len(validation) * k < 2 * len(pool):
        return
    group, size = Counter(validation.kept_together).most_common(1)[0]
    _log.warning(
        "%s: %d of %d images validate, because groups stay together: the largest, %r, has %d",
        pool.dataset,
        len(validation),
        len(pool),
        group,
        size,
    )


def _held_out_folds(pool: Examples) -> int:
    """Returns the number of folds of which one is held out: fewer than five only for fewer than five images."""
    units = len(set(pool.kept_together)) if pool.kept_together else len(pool)
    what = "groups of images" if pool.kept_together else "images"
    if units < 2:
        raise UserError(
            f"{pool.dataset}: {units} {what} are too few for {HELD_OUT_FOLDS} folds, of which one validates, and even "
            "for two; it takes at least one to train on and one to validate on"
        )
    if units < HELD_OUT_FOLDS:
        _log.warning(
            "%s: only %d %s: one is held out for validation, the rest fill a batch again and again; scores of so few "
            "images say little",
            pool.dataset,
            units,
            what,
        )
    return min(HELD_OUT_FOLDS, units)


def _stored(config: DataConfig, name: str, split: str) -> Examples:
    """Opens a split as the set itself has it."""
    if name not in DATA_SETS:
        return open_folder(dataclasses.replace(config, name=name), split)
    if name == "synthetic":
        from jaxseg.data.synthetic import synthetic_examples

        examples = synthetic_examples(split, config)
    else:
        examples = open_prepared(config, name, split)
    if config.groups:
        examples = dataclasses.replace(examples, kept_together=read_groups(config.groups, examples.names))
    return examples
