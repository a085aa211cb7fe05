"""The data sets by name: one table that commands, data, evaluation and reports read.

Importing this module costs nothing: no numpy, no TFDS. To add a published set, add a row here and a builder in
`jaxseg/data/published/`.
"""

import dataclasses
import re
from collections.abc import Iterable

from jaxseg.errors import suggestion


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What is known of a data set without opening it.

    Attributes:
      name: what `--data` calls it.
      title: what reports call it.
      splits: splits that it can be opened with, "train" first.
      default_split: split that evaluation takes unless told otherwise: one that training has not seen, where there is.
      pool: split that cross-validation folds are made of.
      has_validation: true if the set has validation images of its own; else a fifth of the pool is held out.
      builder: "module:Class" of the TFDS builder of a published set; empty for a set that is not prepared.
      origin: the archive that its images come from; sets of different origins share no image.
      whole_train: true if "train" always opens all training images as published, also those that runs hold out.
      groups: what the groups of its images are, as a heading of reports; empty if images have none.
      next_step: command to give once the set is prepared; `{split}` stands for a prepared split.
      next_flag: flag by which that command takes the folder of the prepared sets.
    """

    name: str
    title: str
    splits: tuple[str, ...]
    default_split: str
    pool: str
    has_validation: bool = False
    builder: str = ""
    origin: str = ""
    whole_train: bool = False
    groups: str = ""
    next_step: str = ""
    next_flag: str = "--data.data-dir"


_EVALUATE = "python -m jaxseg.evaluate --workdir runs/ph2 --data {name} --split {split}"
_TRAIN = "python -m jaxseg.train --workdir runs/{name} --data {name}"
_BUILDERS = "jaxseg.data.published"

_ALL = (
    DataSet(
        name="ph2",
        title="PH2",
        splits=("train", "validation", "all"),
        default_split="validation",
        pool="all",
        has_validation=True,
        builder=f"{_BUILDERS}.ph2:Ph2",
        origin="PH2",
        groups="diagnosis",
        next_step=_TRAIN,
    ),
    DataSet(
        name="isic2016",
        title="ISIC 2016",
        splits=("train", "validation", "test"),
        default_split="test",
        pool="train",
        builder=f"{_BUILDERS}.isic2016:Isic2016",
        origin="ISIC archive",
        whole_train=True,
        groups="diagnosis",
        next_step=_EVALUATE,
        next_flag="--data-dir",
    ),
    DataSet(
        name="isic2017",
        title="ISIC 2017",
        splits=("train", "validation", "test"),
        default_split="test",
        pool="train",
        has_validation=True,
        builder=f"{_BUILDERS}.isic2017:Isic2017",
        origin="ISIC archive",
        next_step=_TRAIN,
    ),
    DataSet(
        name="isic2018",
        title="ISIC 2018",
        splits=("train", "validation", "test"),
        default_split="test",
        pool="train",
        has_validation=True,
        builder=f"{_BUILDERS}.isic2018:Isic2018",
        origin="ISIC archive",
        next_step=_TRAIN,
    ),
    DataSet(
        name="ham10000",
        title="HAM10000",
        splits=("train", "validation", "all"),
        default_split="validation",
        pool="all",
        builder=f"{_BUILDERS}.ham10000:Ham10000",
        origin="ISIC archive",
        groups="diagnosis",
        next_step=_TRAIN,
    ),
    DataSet(
        name="synthetic",
        title="synthetic images",
        splits=("train", "validation", "test"),
        default_split="test",
        pool="train",
        has_validation=True,
        origin="generator",
    ),
)

DATA_SETS: dict[str, DataSet] = {data_set.name: data_set for data_set in _ALL}
"""The known sets by name."""

PUBLISHED: tuple[str, ...] = tuple(name for name, data_set in DATA_SETS.items() if data_set.builder)
"""Names of the sets that `jaxseg.prepare` builds."""

AUTO = "auto"
"""Stands for PH2 where it is prepared, and else for the synthetic set."""

NAMES: tuple[str, ...] = (*DATA_SETS, AUTO)
"""Everything that `data.name` may be besides a folder. A known name always goes before a folder of the same name."""

FOLDER = DataSet(
    name="",
    title="",
    splits=("train", "validation", "all"),
    default_split="all",
    pool="all",
    groups="group",
)
"""What holds for a folder of the user's own images."""


def data_set(name: str) -> DataSet:
    """Returns what is known of a set by its resolved name; of a folder, `FOLDER`."""
    return DATA_SETS.get(name, FOLDER)


def nearest(name: str, known: Iterable[str] = NAMES) -> str:
    """Returns "; did you mean 'x'?" for a mistyped name, or an empty string.

    A name with another year is another set (ISIC 2019 is not ISIC 2016), so it is never suggested; a year with its
    digits swapped is a slip.

    Args:
      name: what was typed.
      known: the names that could have been meant.
    """

    def letters(text: str) -> str:
        return re.sub(r"[\d\W_]+", "", text.lower())

    typed = name.lower()
    digits = sorted(re.sub(r"\D", "", typed))
    candidates = [
        name
        for name in known
        if letters(name) != letters(typed) or len(digits) < 3 or sorted(re.sub(r"\D", "", name)) == digits
    ]
    return suggestion(typed, candidates)


def help_of_names() -> str:
    """Returns the names for a help text, as "ph2, isic2016, synthetic"."""
    return ", ".join(DATA_SETS)


def help_of_default_splits() -> str:
    """Returns each set's default split for a help text, as "ph2 validation, isic2016 test, all of a folder"."""
    listed = ", ".join(f"{name} {data_set.default_split}" for name, data_set in DATA_SETS.items())
    return f"{listed}, {FOLDER.default_split} of a folder"
