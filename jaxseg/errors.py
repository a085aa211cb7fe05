"""The two failures that jaxseg explains in one line instead of a traceback."""

import difflib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn


class UserError(ValueError):
    """A mistake in what the user gave: a setting, a path, a file.

    The message is one line that says what was wrong, where, and what to do. Commands print it on stderr and exit with
    code 2.
    """


class RunError(RuntimeError):
    """A run that cannot go on although its input is sound: a diverged loss, a full disk.

    The message is one line as for `UserError`. Commands print it on stderr and exit with code 1.
    """


def refuse_unreadable(error: OSError) -> NoReturn:
    """Refuses a folder that cannot be listed, because its files would be left out in silence.

    Raises:
      UserError: always.
    """
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); make it readable, or take it out") from error


def is_address(path: str | Path) -> bool:
    """Returns whether a text is an address such as gs://bucket/run, and no file or folder of this machine.

    Args:
      path: what was given where a path is wanted.
    """
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path))) and not os.path.lexists(path)


def refuse_address(path: str | Path, what: str) -> None:
    """Refuses an address where a path is wanted: as a path, gs://bucket/run would be a new folder of this machine.

    Args:
      path: what was given.
      what: where it was given, such as "--workdir".

    Raises:
      UserError: it begins like an address, and no file or folder has that name.
    """
    if is_address(path):
        raise UserError(
            f"{what} {path}: is an address; must be a file or folder on this machine: copy it to a local disk, or "
            "mount it, and give its path"
        )


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the nearest known name, or an empty string if none is near.

    Args:
      name: what was typed.
      known: names that could have been meant.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def printable(text: str) -> str:
    """Returns a text without control characters and bytes that are no UTF-8, which names of files may hold.

    Args:
      text: any text.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def shown(value: Any) -> str:
    """Returns a value of any kind as short text for an error message."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of over 30 digits"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


def out_of_space(error: BaseException) -> bool:
    """Returns whether an error means that the disk, or the user's quota on it, is full."""
    return _answer(error, (errno.ENOSPC, errno.EDQUOT)) is not None


def disk_fault(error: BaseException) -> str:
    """Returns what a disk that is not full answered, as "Input/output error"; "" for errors of another kind."""
    number = _answer(error, (errno.EIO, errno.ESTALE, errno.EROFS, errno.EFBIG))
    if number is None:
        return ""
    why = " (for the disk's file system, or the limit of ulimit -f)" if number == errno.EFBIG else ""
    return os.strerror(number) + why


def _answer(error: BaseException, numbers: Iterable[int]) -> int | None:
    """Returns which of some errors of the system an error is or, as of tensorstore's, holds the text of."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in numbers else None
    return next((number for number in numbers if os.strerror(number) in str(error)), None)


def one_line(error: BaseException, limit: int = 200) -> str:
    """Returns an error's type and message on one line.

    Args:
      error: any exception.
      limit: largest length, characters.
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
