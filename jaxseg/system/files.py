"""Files that are replaced atomically: a reader never sees half a file, and a crash loses nothing."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxseg.errors import UserError, one_line

LONGEST_NAME = 242
"""Bytes of the longest name that `replacing` can take: file systems allow 255, and the temporary name is longer by the
number of the process, which has 7 digits at most on Linux, and 6 more."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `path`, in its folder, which is created if it does not exist.

    The file that the block writes there is renamed to `path` when the block ends well, and removed when it fails.
    Several processes may write at once, each its own temporary file: the last one's stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces a file atomically.

    Args:
      path: the file.
      text: its new content, written as UTF-8.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replaces a file atomically by indented, strict JSON.

    Args:
      path: the file.
      values: the JSON object.

    Raises:
      ValueError: a value is NaN or infinite, which strict readers refuse.
    """
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def write_cache(path: Path, content: bytes) -> None:
    """Replaces a file of a cache, if that is possible: without it the next start takes longer, and nothing else.

    Args:
      path: the file.
      content: its new content.
    """
    with contextlib.suppress(OSError), replacing(path) as temporary:
        temporary.write_bytes(content)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      UserError: the file is missing or is not a JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); is this the --workdir of a run?") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no JSON object; is this the --workdir of a run?")
    return values
