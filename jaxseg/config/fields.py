"""Settings: fields of frozen dataclasses that carry their help text and allowed values.

A setting is declared once; the command line (`jaxseg.cli`), the checks and the documentation all read that declaration.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

from jaxseg.errors import UserError, shown, suggestion


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    resumable: bool = False,
) -> Any:
    """Declares one setting.

    Args:
      default: the paper's value, or the customary one where the paper is silent.
      help: meaning and unit, shown by `--help`.
      choices: the allowed strings; None allows all.
      minimum: the smallest allowed number, for every item of a tuple.
      maximum: the largest allowed number, for every item of a tuple.
      resumable: whether a run may be resumed with another value, because the setting changes where, how fast or how
        long a run computes, but not what its epochs compute.

    Returns:
      A dataclass field; the type is that of its annotation in a `Section`.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "resumable": resumable}
    return dataclasses.field(default=default, metadata=metadata)


class Section:
    """Base of the dataclasses of settings; checks every field against its declaration.

    A wrong value therefore fails where it is set, with a `UserError`, and not an hour later.
    """

    def __post_init__(self):
        section = type(self).__name__.removesuffix("Config").lower()
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            name = f"{section}.{field.name}"
            value = _coerce(name, getattr(self, field.name), hints[field.name])
            if isinstance(value, str):
                _check_text(name, value, may_be_empty=not field.default)
            _check(name, value, field.metadata)
            object.__setattr__(self, field.name, value)


def _coerce(name: str, value: Any, kind: Any) -> Any:
    """Converts an int to a float and a list (from JSON) to a tuple; any other value must have the declared type."""
    if kind is float and type(value) is int:
        return float(value) if abs(value) < 2**1023 else math.inf
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        item = typing.get_args(kind)[0]
        return tuple(_coerce(name, v, item) for v in value)
    if type(value) is not kind:
        raise UserError(f"{name} = {shown(value)}: must be {_KIND_NAMES.get(kind, kind)}, not {_kind_of(value)}")
    return value


_KIND_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_KIND_NAMES[tuple[int, ...]] = "a list of whole numbers, as [256, 128]"


def _kind_of(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        return "a list" if not isinstance(value, dict) else "an object"
    return "nothing" if value is None else _KIND_NAMES.get(type(value), type(value).__name__)


def _check_text(name: str, value: str, *, may_be_empty: bool) -> None:
    if not value and not may_be_empty:
        raise UserError(f"{name} is empty: leave it out for its default, or give it a value")
    if "\0" in value:
        raise UserError(f"{name} = {shown(value)}: must not hold a NUL character")


def _check(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    if (choices := metadata["choices"]) and value not in choices:
        raise UserError(
            f"{name} = {shown(value)}: must be one of {', '.join(choices)}{suggestion(str(value), choices)}"
        )
    if isinstance(value, tuple) and not value:
        raise UserError(f"{name} is empty: give at least one number")
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, int | float) or isinstance(number, bool):
            continue
        low, high = metadata["minimum"], metadata["maximum"]
        finite = isinstance(number, int) or math.isfinite(number)
        if not finite or (low is not None and number < low) or (high is not None and number > high):
            bounds = [
                f"{word} {bound:,}" for word, bound in (("at least", low), ("at most", high)) if bound is not None
            ]
            raise UserError(f"{name} = {shown(number)}: must be {' and '.join(bounds) or 'finite'}")
