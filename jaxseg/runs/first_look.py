"""What a first look at a run's images tells: near-duplicates across the split, lesions brighter than their skin."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from jaxseg.data import Examples
from jaxseg.data.listing import named
from jaxseg.data.looks import BRIGHTER, Album, Look, near_copies
from jaxseg.runs.images import Entry

log = logging.getLogger("jaxseg.train")

_MANY_BRIGHT = 0.3
"""Share of the lesions that may be brighter than the skin beside them; of PH2's 200 lesions, 5 are."""


def warn_of_looks(
    parts: Sequence[Examples], entries: Sequence[Sequence[Entry]], seen: Sequence[Mapping[int, Look]]
) -> list[list[Look]]:
    """Warns, in a line each, of what is suspicious about images and masks together.

    Args:
      parts: training and validation images.
      entries: their list.
      seen: the looks of those that have been decoded, by index.

    Returns:
      The looks of all training and validation images, in order.
    """
    album = Album(parts[0].dataset)
    looks = [
        album.looks(part, [entry.identity for entry in listed], known)
        for part, listed, known in zip(parts, entries, seen, strict=True)
    ]
    album.save()
    # Identical images are left to another line, which counts them.
    pairs = [
        (entries[0][i].name, entries[1][j].name)
        for i, j in near_copies(*looks)
        if not entries[0][i].identity.images() & entries[1][j].identity.images()
    ]
    if pairs:
        log.warning(
            "%d of the %d validation images look like training images (%s): near-duplicates make scores too good; "
            "--data.groups keeps them on one side, python -m jaxseg.inspect --data %s --out DIR lists them",
            len({validation for _, validation in pairs}),
            len(entries[1]),
            named(f"{validation} like {train}" for train, validation in pairs),
            parts[0].dataset,
        )
    contrasts = np.array([look.contrast for part in looks for look in part])
    bright = int((contrasts < -BRIGHTER).sum())
    if bright > _MANY_BRIGHT * np.isfinite(contrasts).sum():
        log.warning(
            "%d of the %d lesions are brighter than the skin beside them: masks may be inverted (--data.mask-invert "
            "true) or belong to other images; look at them: python -m jaxseg.inspect --data %s --out DIR",
            bright,
            int(np.isfinite(contrasts).sum()),
            parts[0].dataset,
        )
    return looks
