"""Progress of long work: a bar on a terminal, a line every ten seconds elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

_log = logging.getLogger(__name__)

LINE_EVERY_SECS = 10.0
"""Seconds between lines where there is no terminal."""


def progress(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yields the items and shows how many are done, the rate and the time left, on stderr.

    Args:
      items: the items of the work.
      label: a name for the work, as "ph2 train".
      total: number of items.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label, total=total, unit=" images", dynamic_ncols=True, file=sys.stderr)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECS or done == total:
            last = now
            _log.info("%s: %s", label, _line(done, total, now - start))


def _line(done: int, total: int, elapsed_secs: float) -> str:
    layout = "{n_fmt}/{total_fmt} images, {rate_fmt}, {remaining} left"
    return tqdm.format_meter(done, total, elapsed_secs, unit=" images", bar_format=layout)
