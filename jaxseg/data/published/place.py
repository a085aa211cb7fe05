"""Where prepared data sets lie on disk. Importing this module starts neither TFDS nor JAX."""

import os
from pathlib import Path

from jaxseg.errors import refuse_address

VERSION = "1.0.0"
"""Version of the stored layout; when it is raised, sets have to be prepared again."""


def data_dir_of(data_dir: str) -> Path:
    """Returns the folder of the prepared sets: the given one, or TFDS' own ($TFDS_DATA_DIR, ~/tensorflow_datasets).

    Raises:
      UserError: an address instead of a folder.
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    refuse_address(chosen, "data_dir")
    return Path(chosen).expanduser()


def folder_of(name: str, data_dir: str) -> Path:
    """Returns the folder of a prepared set.

    Args:
      name: name of the published set.
      data_dir: folder of the prepared sets; empty: TFDS' default.
    """
    return data_dir_of(data_dir) / name / VERSION


def is_prepared(name: str, data_dir: str) -> bool:
    """Returns whether a published set is prepared; imports nothing slow.

    Args:
      name: name of the published set.
      data_dir: folder of the prepared sets; empty: TFDS' default.
    """
    return (folder_of(name, data_dir) / "dataset_info.json").is_file()
