"""`predictions.csv`: a line per segmented image of a folder, the least trusted first.

The file grows with every call: lines of images that a call does not segment are kept, and so are columns that the user
added. It is written every half minute, so that a call that is stopped loses little.
"""

import csv
import io
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.data.listing import named
from jaxseg.errors import RunError, UserError, one_line
from jaxseg.inference.inputs import InputImage
from jaxseg.inference.measurements import columns
from jaxseg.system.files import write_text

FIRST = ("name", "trust")
"""Columns that every table has."""

_AREA = "area_pixels"

_MEASURED = frozenset(columns(pixels_per_mm=1.0))
"""All columns of measurements."""

SAVE_EVERY_SECS = 30.0


class GrowingFile:
    """A file with an entry for each image, which is written in one step, every half minute and at the end.

    Attributes:
      path: the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._saved = time.monotonic()

    def put(self, entries: dict[str, Any], name: str, entry: Any) -> None:
        """Puts an entry among those of the file, and writes the file if it is time to.

        Args:
          entries: the entries of the file by name.
          name: the entry's name.
          entry: the entry.
        """
        with self._lock:
            entries[name] = entry
            due = time.monotonic() - self._saved > SAVE_EVERY_SECS
        if due:
            self.save()

    def save(self) -> None:
        """Writes the file.

        Raises:
          RunError: it cannot be written.
        """
        with self._lock:
            try:
                write_text(self.path, self.text())
            except OSError as error:
                raise RunError(f"{self.path}: cannot be written ({error.strerror or error})") from error
            self._saved = time.monotonic()

    def text(self) -> str:
        """Returns the content of the file."""
        raise NotImplementedError

    def holds(self, image: InputImage) -> bool:
        """Returns whether there is a complete entry of an image."""
        raise NotImplementedError

    def tell(self) -> None:
        """Warns of what `holds` found and kept although it looks wrong."""


class Table(GrowingFile):
    """The lines of `predictions.csv`, by image; safe to use from several threads.

    Attributes:
      path: the file.
      columns: names of the columns that are written for every new line.
      needed: columns without which a line is not complete, and the value that they must have; None for any.
      rows: values by column of each image.
    """

    def __init__(self, path: Path, columns: Sequence[str] = (), needed: Mapping[str, str | None] | None = None):
        """Reads the file, if there is one.

        Args:
          path: the file.
          columns: names of the columns after "name" and "trust" that every new line has.
          needed: columns that a complete line has filled, and with what; None for any value.

        Raises:
          UserError: there is a file of that name that is no such table.
        """
        super().__init__(path)
        self.columns = (*FIRST, *columns)
        self.needed = {"trust": None, **(needed or {})}
        self.rows: dict[str, dict[str, str]] = _read(path) if path.exists() else {}

    def holds(self, image: InputImage) -> bool:
        """Returns whether an image has a complete line."""
        row = self.rows.get(image.name, {})
        complete = all(row.get(column) and value in (None, row[column]) for column, value in self.needed.items())
        # A mask may have been edited since it was measured.
        return complete and (_AREA not in self.needed or row[_AREA] == str(image.mask_area))

    def add(self, image: InputImage, trust: float, values: Mapping[str, Any]) -> None:
        """Adds or replaces the line of an image; columns that the user added keep their values.

        What was measured of an earlier mask is dropped.

        Args:
          image: the image.
          trust: its score, in [0, 1].
          values: values of the columns of the table; None for an empty cell.
        """
        before = self.rows.get(image.name, {})
        others = {column: value for column, value in before.items() if column not in _MEASURED}
        kept = before if "mask" not in image.products else others
        self.put(self.rows, image.name, kept | row_of(image.name, trust, values))

    def text(self) -> str:
        """Returns the content of the file, the least trusted image first."""
        rows = sorted(self.rows.values(), key=lambda row: (_number(row["trust"]), row["name"]))
        others = dict.fromkeys(column for row in rows for column in row if column not in self.columns)
        text = io.StringIO()
        table = csv.DictWriter(text, [*self.columns, *others], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        return text.getvalue()


def row_of(name: str, trust: float, values: Mapping[str, Any]) -> dict[str, str]:
    """Returns the cells of one image by column.

    Args:
      name: what its results are called.
      trust: its score, in [0, 1].
      values: values of the further columns; None for an empty cell.
    """
    return {"name": name, "trust": f"{trust:.4f}", **{column: _as_text(value) for column, value in values.items()}}


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path}: cannot be read ({one_line(error)}); take it away, or give another --output"
        ) from error
    if len(columns) == 1 and (other := next((mark for mark in ";\t" if mark in columns[0]), None)):
        raise UserError(
            f"{path}: its columns are separated by {other!r}, as some spreadsheets save them, and predict reads commas "
            "alone; save it with commas, or take it away"
        )
    if missing := [name for name in FIRST if name not in columns]:
        raise UserError(
            f"{path}: has no column {missing[0]!r}, so it is no table by predict, which would write its own there; "
            "take it away, or give another --output"
        )
    if any(None in row or None in row.values() for row in rows):
        raise UserError(f"{path}: has lines that are shorter or longer than its head; mend it, or take it away")
    if twice := [name for name, count in Counter(row["name"] for row in rows).items() if count > 1]:
        raise UserError(f"{path}: has more than one line for {named(twice)}; keep one of each, or take the file away")
    if spoilt := [row for row in rows if re.fullmatch(r"\s*\d+,\d+\s*", row["trust"])]:
        raise UserError(
            f"{path}: trust of {spoilt[0]['name']} is {spoilt[0]['trust']!r}, with a decimal comma, as some "
            "spreadsheets save numbers; save it with points, or take it away"
        )
    return {row["name"]: row for row in rows}


def _number(text: str) -> float:
    """Returns a score for sorting; what is no number comes first, to be looked at."""
    try:
        return float(text)
    except ValueError:
        return -1.0


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
