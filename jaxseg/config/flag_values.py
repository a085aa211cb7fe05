"""The texts of flags as values, and back: what `argparse` takes as the `type` of a flag."""

import contextlib
import typing
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any


def written(value: Any) -> str:
    """Returns the value of a setting as one would give it to its flag.

    Args:
      value: a number, a text, True or False, or a tuple of whole numbers.
    """
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def reader_of(kind: Any) -> Callable[[str], Any]:
    """Returns the function that turns the text of a setting's flag into a value.

    Args:
      kind: type of the setting: `bool`, `int`, `float`, `str`, or a tuple of `int`.
    """
    if kind is bool:
        return _true_or_false
    if typing.get_origin(kind) is tuple:
        return _whole_numbers
    return {int: _whole_number, float: _number, str: str}[kind]


def whole_number_from(least: int) -> Callable[[str], int]:
    """Returns the `type` of a flag that takes whole numbers from a least one on.

    Args:
      least: the lowest number allowed.
    """

    def read(text: str) -> int:
        if (number := _whole_number(text)) < least:
            raise ArgumentTypeError(f"{text!r} must be at least {least}")
        return number

    return read


def threshold(text: str) -> float | str:
    """Returns a probability between 0 and 1, or "auto".

    Args:
      text: what was given.

    Raises:
      ArgumentTypeError: it is neither.
    """
    if text == "auto":
        return text
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < 1:
            return value
    raise ArgumentTypeError(f"{text!r} is neither auto nor a number between 0 and 1, as 0.4")


def _true_or_false(text: str) -> bool:
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in values:
        raise ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.lower()]


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number") from None


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a list of whole numbers, as 256,128,64") from None
