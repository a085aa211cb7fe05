"""Which images show the same lesion or patient, from a CSV file of the user (`--data.groups`)."""

import csv
import io
import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from jaxseg.data.listing import HEIF_SUFFIXES, SUFFIXES, named
from jaxseg.errors import UserError

_IMAGE_COLUMNS = ("image", "image_id", "image_name", "name", "file", "filename", "isic_id")
_GROUP_COLUMNS = ("group", "lesion_id", "patient_id", "lesion", "patient", "group_id")

_NO_GROUP = {
    *("nan", "na", "n/a", "n.a.", "<na>", "nat", "none", "null", "unknown", "missing", "-", "--", "?", "."),
    *("#n/a", "#nv", "#ref!", "#value!", "#name?", "#null!", "#div/0!", "#num!"),
}
"""What people, pandas and spreadsheets (also for a lookup that failed) write where a group is not known, in lower case.
"""

_log = logging.getLogger(__name__)


def read_groups(file: str, names: Sequence[str]) -> tuple[str, ...]:
    """Reads the group of each image.

    The file has two columns, the image's name or path (with or without its ending) and its group, separated by comma,
    semicolon or tab; a header is optional. Of more columns, those with a header such as `image` and `group` or
    `lesion_id` count.

    Args:
      file: path of the CSV file.
      names: the images of the set.

    Returns:
      The group of each image, in the order of `names`.

    Raises:
      UserError: no such file, no such columns, an image without a group or with two; "nan" and the like
        are no group.
    """
    called = f"--data.groups {file}"
    rows = _rows(Path(file).expanduser(), called)
    groups, strangers = _by_image(rows, names, called)
    if missing := [name for name in names if name not in groups]:
        raise UserError(
            f"{called}: {len(missing)} of {len(names)} images have no line in it ({named(missing)})"
            f"{_instead(strangers)}; add a line with image and group for each"
        )
    if strangers:
        _log.info("%s: %d lines name no image of the set (%s)", called, len(strangers), named(strangers))
    return _merged([groups[name] for name in names], called)


def _rows(path: Path, called: str) -> list[list[str]]:
    """Returns the cells of a CSV file by row, without the spaces around them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{called}: cannot be read ({error.strerror}); give a CSV file of images and groups") from None
    except UnicodeDecodeError:
        raise UserError(f"{called}: not a text file in UTF-8; give a CSV file of images and groups") from None
    first = text.lstrip().partition("\n")[0]
    if told := re.fullmatch(r"sep=(.)", first.strip("\r\n "), re.IGNORECASE):  # Excel's note to itself
        delimiter, text = told[1], text.replace(first, "", 1)
    else:
        delimiter = max(",;\t", key=first.count)
    try:
        return [
            [unicodedata.normalize("NFC", cell.strip()) for cell in row]
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        ]
    except csv.Error as error:
        raise UserError(
            f"{called}: cannot be read as CSV ({error}); look for a quotation mark without its pair"
        ) from None


def _by_image(rows: list[list[str]], names: Sequence[str], called: str) -> tuple[dict[str, str], list[str]]:
    """Returns the groups by the image's name, and what the lines name that is no image of the set."""
    known = {name: name for name in names}
    groups: dict[str, str] = {}
    strangers: list[str] = []
    image_column, group_column, has_header = _columns(rows, known, called)
    first = next(line for line, row in enumerate(rows) if any(row))
    start = first + has_header
    for line, row in enumerate(rows[start:], 1 + start):
        if not any(row):
            continue
        if any(row[len(rows[first]) :]):
            raise UserError(
                f"{called}: line {line} has {len(row)} cells and line {1 + first} has {len(rows[first])}, so which is "
                "the group is not clear; begin with the header, and put cells that hold the separator in quotes"
            )
        group = row[group_column] if len(row) > max(image_column, group_column) else ""
        if not group or group.lower() in _NO_GROUP:
            raise UserError(
                f"{called}: line {line} has no group{f' but {group!r}' if group else ''}; give two columns, image and "
                "group, where an image whose patient is not known has a group of its own"
            )
        name = _image(row[image_column], known)
        if name is None:
            strangers.append(row[image_column])
        elif groups.setdefault(name, group) != group:
            raise UserError(
                f"{called}: line {line} puts {row[image_column]} in group {group}, an earlier line in "
                f"{groups[name]}; keep one of them"
            )
    return groups, strangers


def _instead(strangers: Sequence[str]) -> str:
    return f", but other images have ({named(strangers)})" if strangers else ""


def _merged(groups: Sequence[str], called: str) -> tuple[str, ...]:
    """Returns the groups; those that differ in case or spaces alone become one, lest a patient stands on two sides."""
    spellings: dict[str, str] = {}
    for group in groups:
        spellings.setdefault(_key(group), group)
    if others := sorted({group for group in groups if spellings[_key(group)] != group}):
        _log.warning(
            "%s: groups that differ in case or spaces alone are taken for one: %s",
            called,
            named([f"{group!r} and {spellings[_key(group)]!r}" for group in others]),
        )
    return tuple(spellings[_key(group)] for group in groups)


def _key(group: str) -> str:
    # pandas writes whole numbers as 7.0 where one of the column is missing.
    return re.sub(r"^(\d+)\.0+$", r"\1", "".join(group.casefold().split()))


def check_apart(train: Mapping[str, str], validation: Mapping[str, str], called: str) -> None:
    """Checks that no group has images on both sides of a split.

    Args:
      train: the group of each training image, by the image's name.
      validation: the group of each validation image, by the image's name.
      called: what to call the groups' file.

    Raises:
      UserError: a group has images on both sides.
    """
    # The two sides are read one by one, so that a group may be spelt otherwise on the other side.
    of_train, of_validation = ({_key(group): name for name, group in side.items()} for side in (train, validation))
    if shared := sorted(of_train.keys() & of_validation.keys()):
        first, second = of_train[shared[0]], of_validation[shared[0]]
        raise UserError(
            f"{called}: {len(shared)} groups have images in training and in validation, as {train[first]} ({first} and "
            f"{second}); move those images to one side, or let --data.folds 5 split by groups"
        )


def _columns(rows: list[list[str]], known: Mapping[str, str], called: str) -> tuple[int, int, bool]:
    """Returns the columns of images and groups, and whether the first row is a header."""
    head = next((row for row in rows if any(row)), None)
    if head is None:
        raise UserError(f"{called}: is empty; give two columns, image and group")
    first = [cell.lower() for cell in head]
    images = [first.index(name) for name in _IMAGE_COLUMNS if name in first]
    groups = [first.index(name) for name in _GROUP_COLUMNS if name in first]
    if images and groups:
        if len(groups) > 1:
            _log.warning(
                "%s: the groups are those of the column %s, not of %s; leave the others out to choose another",
                called,
                first[groups[0]],
                named([first[column] for column in groups[1:]]),
            )
        return images[0], groups[0], True
    if len(first) != 2:
        raise UserError(
            f"{called}: has {len(first)} columns; give two, image and group, or a header with these two names"
        )
    return 0, 1, _image(head[0], known) is None


def _image(cell: str, known: Mapping[str, str]) -> str | None:
    """Returns the image that a cell names, with or without its ending, and the folders that it may lie in."""
    parts = PurePosixPath(cell.replace("\\", "/")).parts
    if "images" in parts[1:-1]:  # of a set with train/ and validation/, whose names leave it out: train/a
        last = len(parts) - 1 - parts[::-1].index("images")
        if found := _image("/".join((*parts[:last], *parts[last + 1 :])), known):
            return found
    for start in range(len(parts)):
        path = PurePosixPath(*parts[start:])
        bare = path.with_suffix("").as_posix() if path.suffix.lower() in SUFFIXES + HEIF_SUFFIXES else ""
        if found := known.get(path.as_posix()) or known.get(bare):
            return found
    return None
