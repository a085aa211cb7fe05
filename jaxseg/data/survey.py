"""What a data set holds, as training will read it: sizes, masks, groups, and what to doubt before training."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.config import DataConfig
from jaxseg.config.datasets import DATA_SETS
from jaxseg.data.colours import kinds_of_colours
from jaxseg.data.examples import Examples
from jaxseg.data.folder import ALSO, SIDES, has_own_validation
from jaxseg.data.listing import list_images
from jaxseg.data.looks import BRIGHTER, Look, look_at, near_copies
from jaxseg.data.plausibility import MaskFacts, facts_of
from jaxseg.errors import UserError, printable

_SAID = {
    "empty": "no lesion",
    "full": "lesion all over",
    "corners": "lesion in all four corners",
    "outline": "a thin outline with skin inside",
}
"""What is said of a mask, by `MaskFacts.kind`."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of one image.

    Attributes:
      name: the image's name.
      split: "train" or "validation".
      group: lesion or patient, or else the group of the set, as a diagnosis; "" where unknown.
      width: pixels.
      height: pixels.
      mask: what its mask shows; None if image or mask cannot be read.
      contrast: how much darker the lesion is than the skin around it, of 1; None without lesion or skin.
      error: why image or mask cannot be read; "" if they can.
      look: of the image; None if it cannot be read.
      colour: of the lesion in the mask's file, (red, green, blue) in [0, 255]; None where that says nothing.
      beside: what is suspicious about the mask beside those of other images, from `compared`; "" if nothing is.
    """

    name: str
    split: str
    group: str
    width: int = 0
    height: int = 0
    mask: MaskFacts | None = None
    contrast: float | None = None
    error: str = ""
    look: Look | None = None
    colour: tuple[int, int, int] | None = None
    beside: str = ""

    @property
    def doubt(self) -> str:
        """What is suspicious about image and mask; "" if nothing is."""
        if self.error:
            return self.error
        if self.mask.kind:
            return _SAID[self.mask.kind]
        if self.contrast is not None and self.contrast < -BRIGHTER:
            return "the lesion is brighter than its skin"
        return self.beside

    def to_json(self) -> dict[str, Any]:
        """Returns the row as JSON types."""
        return {
            "name": self.name,
            "split": self.split,
            "group": self.group,
            "width": self.width,
            "height": self.height,
            "lesion_share": round(self.mask.share, 6) if self.mask else None,
            "contrast": None if self.contrast is None else round(self.contrast, 4),
            "doubt": self.doubt,
        }


def survey(parts: Sequence[Examples], workers: int) -> Iterator[Row]:
    """Reads every image and mask of some splits once.

    Args:
      parts: the splits.
      workers: threads that decode.

    Yields:
      A row for each image, split by split. An image or mask that cannot be read is told in its row.
    """
    items = [(part, index) for part in parts for index in range(len(part))]
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        yield from pool.map(lambda item: _row(*item), items)


def _row(part: Examples, index: int) -> Row:
    group = part.kept_together[index] if part.kept_together else part.groups[index]
    row = Row(part.names[index], part.split, group)
    try:
        example = part.load(index)
    except UserError as error:
        return dataclasses.replace(row, error=str(error))
    height, width = example.image.shape[:2]
    look = look_at(example)
    return dataclasses.replace(
        row,
        width=width,
        height=height,
        mask=facts_of(example.mask),
        contrast=None if math.isnan(look.contrast) else look.contrast,
        look=look,
        colour=part.lesion_colour(index) if part.lesion_colour else None,
    )


def compared(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows with what only all masks together tell: lesions in another colour, and one mask for two images.

    Args:
      rows: what `survey` found, of all splits.
    """
    by_colour = kinds_of_colours([row.colour for row in rows])
    usual = next(iter(by_colour), "")
    beside = {
        i: f"the lesion is {colour} here and {usual} elsewhere; --data.mask-lesion says which one is lesion"
        for colour, some in by_colour.items()
        for i in some
        if colour != usual
    }
    by_digest: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.mask and row.mask.digest:
            by_digest.setdefault(row.mask.digest, []).append(i)
    for same in by_digest.values():
        if len(same) > 1:
            for i, other in zip(same, same[1:] + same[:1], strict=True):
                beside[i] = f"pixel by pixel the mask of {rows[other].name} too"
    return [dataclasses.replace(row, beside=beside.get(i, "")) for i, row in enumerate(rows)]


def near_duplicates(rows: Sequence[Row]) -> list[tuple[Row, Row, int | None]]:
    """Finds images of different splits that show nearly the same picture.

    Args:
      rows: images of two splits.

    Returns:
      (training image, validation image, number of different bits of 256), the nearest first; then, with None for the
      number, those that are turned or mirrored.
    """
    train, validation = ([row for row in rows if row.split == split and row.look] for split in ("train", "validation"))
    found = near_copies([row.look for row in train], [row.look for row in validation])
    return [(train[i], validation[j], bits) for (i, j), bits in found.items()]


def worth_a_look(rows: Sequence[Row], count: int) -> list[int]:
    """Picks images to show: the suspicious ones first, then others, evenly spaced.

    Args:
      rows: all images.
      count: how many to pick.

    Returns:
      Indices of rows that can be read.
    """
    readable = [i for i, row in enumerate(rows) if row.mask]
    doubted = [i for i in readable if rows[i].doubt][:count]
    others = [i for i in readable if not rows[i].doubt]
    free = min(count - len(doubted), len(others))
    return doubted + [others[int(i)] for i in np.linspace(0, len(others) - 1, free)]


def summary(config: DataConfig, parts: Sequence[Examples], rows: Sequence[Row]) -> dict[str, Any]:
    """Returns all numbers of a survey as JSON types.

    Args:
      config: how the set was opened.
      parts: its splits.
      rows: what `survey` found in them.
    """
    read = [row for row in rows if row.mask]
    shares = [row.mask.share for row in read]
    sizes = Counter((row.width, row.height) for row in read)
    groups = Counter(row.group for row in rows if row.group)
    sides = {split: {row.group for row in rows if row.split == split and row.group} for split in SIDES}
    settings = {name: value for name, value in vars(config).items() if name.startswith("mask_") or name == "groups"}
    return {
        "dataset": parts[0].dataset,
        "images": len(rows),
        "splits": {part.split: len(part) for part in parts},
        "left_out": left_out(config),
        "settings": settings | {"folds": config.folds, "fold": config.fold},
        "sizes": {f"{width}x{height}": count for (width, height), count in sizes.most_common()},
        "masks": {
            "unreadable": len(rows) - len(read),
            **{kind: sum(row.mask.kind == kind for row in read) for kind in ("empty", "full", "corners", "outline")},
            "lesion_share": {
                name: float(np.quantile(shares, q)) if shares else None
                for name, q in (("least", 0), ("median", 0.5), ("most", 1))
            },
        },
        "groups": {
            "count": len(groups),
            "largest": groups.most_common(1)[0][1] if groups else 0,
            "kept_together": any(part.kept_together for part in parts),
            "on_both_sides": len(sides["train"] & sides["validation"]),
        },
        "suspicious": [{"name": row.name, "split": row.split, "doubt": row.doubt} for row in rows if row.doubt],
        "near_duplicates": [
            {"train": train.name, "validation": validation.name, "different_bits": bits}
            for train, validation, bits in near_duplicates(rows)
        ],
        "rows": [row.to_json() for row in rows],
    }


def left_out(config: DataConfig) -> dict[str, dict[str, list[str]]]:
    """Returns what is left out of each folder of images and masks, by reason; empty for a known set.

    Args:
      config: which set.
    """
    if config.name in DATA_SETS:
        return {}
    root = Path(config.name).expanduser()
    homes = [root / side for side in SIDES] if has_own_validation(config.name) else [root]
    result = {}
    for folder in (home / part for home in homes for part in ("images", "masks")):
        listing = list_images(folder, also=ALSO[folder.name])
        if listing.left_out:
            result[folder.relative_to(root).as_posix()] = {
                reason: [printable(path.relative_to(folder).as_posix()) for path in paths]
                for reason, paths in listing.left_out.items()
            }
    return result
