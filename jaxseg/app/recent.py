"""A dictionary of bounded size: what was not used for longest is forgotten."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """The values that were used last, up to a number of bytes; safe to use from several threads.

    The newest value is kept whatever its size.

    Args:
      limit_bytes: most bytes of all values together.
      size_of: returns the size of a value, bytes.
    """

    def __init__(self, limit_bytes: int, size_of: Callable[[T], int]):
        self._limit = limit_bytes
        self._size_of = size_of
        self._values: OrderedDict[str, T] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def put(self, key: str, value: T) -> None:
        """Adds or replaces a value.

        Args:
          key: its key.
          value: the value.
        """
        with self._lock:
            if key in self._values:
                self._total -= self._size_of(self._values.pop(key))
            self._values[key] = value
            self._total += self._size_of(value)
            while self._total > self._limit and len(self._values) > 1:
                self._total -= self._size_of(self._values.popitem(last=False)[1])

    def get(self, key: str) -> T | None:
        """Returns a value, or None where it was never there or was forgotten."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)
