"""How the images of a data set differ from those that a run was started with, and what to do about it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from jaxseg.data.identity import Identity
from jaxseg.errors import UserError
from jaxseg.runs.images import Entry, ImageList, dataset_of

_SHOWN = 3
"""How many names a message gives."""


@dataclasses.dataclass(frozen=True)
class Changes:
    """How a data set differs from a run's list.

    Attributes:
      added: names of images that the list does not hold.
      removed: names of images that are gone.
      edited: by position in the list, the index of the image that has its name and another content.
      edited_names: names of those, with "mask of" where the image is the same.
      all: number of images in the list.
    """

    added: list[str]
    removed: list[str]
    edited: dict[int, int]
    edited_names: list[str]
    all: int

    @classmethod
    def between(
        cls,
        entries: Sequence[Entry],
        found: Sequence[int | None],
        names: Sequence[str],
        identities: Sequence[Identity],
    ) -> "Changes":
        """Compares a list with what was found of it in a data set.

        Args:
          entries: the list.
          found: for each entry the index of its image in the set; None for one that is gone.
          names: names of the set's images.
          identities: identities of the set's images.
        """
        left = {names[i]: i for i in sorted(set(range(len(names))) - set(found))}
        missing = [i for i, place in enumerate(found) if place is None]
        edited = {i: left[entries[i].name] for i in missing if entries[i].name in left}
        same = {i for i, there in edited.items() if entries[i].identity.images() & identities[there].images()}
        return cls(
            added=[name for name, i in left.items() if i not in edited.values()],
            removed=[entries[i].name for i in missing if i not in edited],
            edited=edited,
            edited_names=[("mask of " if i in same else "") + entries[i].name for i in edited],
            all=len(entries),
        )

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.edited)

    def __str__(self) -> str:
        parts = (("added", self.added), ("removed", self.removed), ("edited", self.edited_names))
        return ", ".join(f"{len(names)} {what} ({some(names)})" for what, names in parts if names)


def that_changed_sides(stored: ImageList, found: Sequence[int | None], trained: int) -> list[str]:
    """Returns the names of the images that lie on the other side of the user's own split than in a run's list.

    Args:
      stored: the run's list.
      found: for each of its images, training ones first, the index in the data set; None for one that is gone.
      trained: number of the data set's training images, which come before those that validate.
    """
    listed = enumerate(zip((*stored.train, *stored.validation), found, strict=True))
    return [
        entry.name
        for position, (entry, i) in listed
        if i is not None and (position < len(stored.train)) != (i < trained)
    ]


def refuse(place: str, workdir: Path, changes: Changes, *, is_other: bool) -> NoReturn:
    """Refuses to go on with other images.

    Args:
      place: the data set.
      workdir: the run's folder.
      changes: how it differs from the run's list.
      is_other: whether the run was started with a data set of another name.

    Raises:
      UserError: always.
    """
    if is_other and len(changes.removed) + len(changes.edited) == changes.all:
        raise UserError(
            f"{workdir} holds a run with data.name = {dataset_of(workdir)!r}, and {place} holds none of its images; "
            "leave the setting out to resume that run, or give another --workdir"
        )
    raise UserError(
        f"{place}: the images have changed since {workdir} was started: {changes}; put them back, go on with the "
        "run's own images by --data.keep-split true, or give another --workdir"
    )


def some(names: Sequence[str]) -> str:
    """Returns the first names of a list for a message.

    Args:
      names: the names.
    """
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
