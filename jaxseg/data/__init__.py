"""Images and masks by index: the data sets by name, folders, splits, and the input pipeline."""

from jaxseg.data.examples import Example, Examples
from jaxseg.data.registry import (
    absolute,
    default_split,
    is_part_of_run,
    is_there,
    open_split,
    resolve_name,
    splits_of,
    training_splits,
)

__all__ = [
    "Example",
    "Examples",
    "absolute",
    "default_split",
    "is_part_of_run",
    "is_there",
    "open_split",
    "resolve_name",
    "splits_of",
    "training_splits",
]
