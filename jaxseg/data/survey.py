"""What a data set holds, as training will read it: sizes, masks, groups, and what to doubt before training."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxseg.config import DataConfig
from jaxseg.config.datasets import DATA_SETS
from jaxseg.data.examples import Example, Examples
from jaxseg.data.folder import SIDES, has_own_validation
from jaxseg.data.listing import list_images
from jaxseg.data.plausibility import MaskFacts, facts_of
from jaxseg.errors import UserError

DISTANCE = 30
"""Most of the 256 bits by which the difference hashes of near-duplicates differ.

Of 50,000 pairs of different images of PH2 and ISIC 2016 the nearest differ by 31; an image and its copy at half the
size, cut by a few pixels and stored as JPEG of quality 60, differ by 12 in the median and 24 in one of a hundred.
"""

CORRELATION = 0.94
"""Least correlation of the small grey pictures of near-duplicates whose hashes are near."""

SAME = 0.99
"""Correlation of the small grey pictures from which they are near-duplicates whatever their hashes.

On smooth skin noise decides the bits of a hash. Of 447,000 pairs of PH2 and ISIC 2016 none reaches 0.98.
"""

BRIGHTER = 0.05
"""How much brighter than the skin around it, of 1, a lesion is doubted to be one."""


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What recognises a picture after scaling and compression.

    Attributes:
      bits: bool [256], a difference hash: whether each of 16 x 16 areas is brighter than its left neighbour.
      grey: float32 [1024], 32 x 32 areas, of mean 0 and norm 1.
    """

    bits: np.ndarray
    grey: np.ndarray


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
      fingerprint: of the image; None if it cannot be read.
    """

    name: str
    split: str
    group: str
    width: int = 0
    height: int = 0
    mask: MaskFacts | None = None
    contrast: float | None = None
    error: str = ""
    fingerprint: Fingerprint | None = None

    @property
    def doubt(self) -> str:
        """What is suspicious about image and mask; "" if nothing is."""
        if self.error:
            return self.error
        if self.mask.kind:
            return {"empty": "no lesion", "full": "lesion all over", "corners": "lesion in all four corners"}[
                self.mask.kind
            ]
        if self.contrast is not None and self.contrast < -BRIGHTER:
            return "the lesion is brighter than its skin"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Returns the row as JSON types."""
        return {
            "name": self.name,
            "split": self.split,
            "group": self.group,
            "width": self.width,
            "height": self.height,
            "lesion_share": self.mask and round(self.mask.share, 6),
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
    return dataclasses.replace(
        row,
        width=width,
        height=height,
        mask=facts_of(example.mask),
        contrast=contrast(example),
        fingerprint=fingerprint(example.image),
    )


def contrast(example: Example) -> float | None:
    """Returns how much darker a lesion is than the skin beside it, of 1; None if either is missing.

    Args:
      example: image and mask.
    """
    # Every fourth pixel or so of a photograph is enough, and much faster.
    step = max(1, min(example.image.shape[:2]) // 256)
    grey = example.image[::step, ::step].mean(axis=-1) / 255
    lesion = example.mask[::step, ::step, 0].astype(bool)
    if lesion.all() or not lesion.any():
        return None
    # Beside it, and not all over: many dermoscopes leave dark corners.
    reach = max(2, round(0.15 * max(lesion.any(axis=0).sum(), lesion.any(axis=1).sum())))
    rows, columns = np.flatnonzero(lesion.any(axis=1)), np.flatnonzero(lesion.any(axis=0))
    box = (
        slice(max(0, rows[0] - reach), rows[-1] + reach + 1),
        slice(max(0, columns[0] - reach), columns[-1] + reach + 1),
    )
    skin = grey[box][~lesion[box]]
    return float(skin.mean() - grey[lesion].mean()) if skin.size else None


def fingerprint(image: np.ndarray) -> Fingerprint:
    """Returns what recognises an image, uint8 [H, W, 3]."""
    picture = Image.fromarray(image)
    small = picture.convert("L").resize((64, 64), Image.Resampling.BOX)
    areas = np.asarray(small.resize((17, 16), Image.Resampling.BOX)).astype(int)
    grey = np.asarray(small.resize((32, 32), Image.Resampling.BOX)).astype(np.float32).ravel()
    grey -= grey.mean()
    norm = float(np.linalg.norm(grey))
    return Fingerprint((areas[:, 1:] > areas[:, :-1]).ravel(), grey / norm if norm else grey)


def near_duplicates(rows: Sequence[Row]) -> list[tuple[Row, Row, int]]:
    """Finds images of different splits that show nearly the same picture.

    Args:
      rows: images of two splits.

    Returns:
      (training image, validation image, number of different bits of 256), the nearest first.
    """
    train, validation = (
        [row for row in rows if row.split == split and row.fingerprint is not None] for split in ("train", "validation")
    )
    if not train or not validation:
        return []
    packed = np.packbits([row.fingerprint.bits for row in train], axis=1).view(np.uint64)
    grey = np.stack([row.fingerprint.grey for row in train])
    found = []
    for row in validation:
        bits = np.packbits(row.fingerprint.bits).view(np.uint64)
        distances = np.bitwise_count(packed ^ bits).sum(axis=1)
        correlations = grey @ row.fingerprint.grey
        same = ((distances <= DISTANCE) & (correlations >= CORRELATION)) | (correlations >= SAME)
        found += [(train[index], row, int(distances[index])) for index in np.flatnonzero(same)]
    return sorted(found, key=lambda pair: pair[2])


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
            **{kind: sum(row.mask.kind == kind for row in read) for kind in ("empty", "full", "corners")},
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
        listing = list_images(folder)
        if listing.left_out:
            result[folder.relative_to(root).as_posix()] = {
                reason: [path.relative_to(folder).as_posix() for path in paths]
                for reason, paths in listing.left_out.items()
            }
    return result
