"""Which images train and which validate: stratified folds, and the splits that are files under version control."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxseg.errors import UserError

_SPLITS = Path(__file__).parent / "splits"


def folds(
    names: Sequence[str], groups: Sequence[str], k: int, seed: int = 0, kept_together: Sequence[str] = ()
) -> list[np.ndarray]:
    """Deals images into folds of equal size, each with its share of every group.

    Within a group the images are ordered by a hash of seed and name and dealt out in turn, one group after the other.
    So the folds depend on the names and groups alone, not on the order in which they come, the platform or a library's
    random numbers, and they hold for good.

    Args:
      names: one unique name per image.
      groups: per image what to stratify by, as its diagnosis; "" for all where unknown.
      k: number of folds, at least 2.
      seed: another seed deals otherwise.
      kept_together: per image the lesion or patient whose images must share a fold; empty: every image stands alone.

    Returns:
      k arrays, int64 [n], of the indices that validate in that fold, ascending. Sizes differ by 1 at most, or, with
      `kept_together`, as little as the largest lesion or patient allows.

    Raises:
      UserError: fewer images, or fewer lesions or patients, than folds.
    """
    if k < 2 or len(names) < k:
        raise UserError(f"{len(names)} images cannot be split into {k} folds: use at least 2 folds, one image for each")
    if kept_together:
        return _folds_of_units(names, groups, k, seed, kept_together)
    order = sorted(range(len(names)), key=lambda i: (groups[i], _hash(seed, names[i]), names[i]))
    return [np.sort(np.array(order[fold::k], dtype=np.int64)) for fold in range(k)]


def _folds_of_units(
    names: Sequence[str], groups: Sequence[str], k: int, seed: int, kept_together: Sequence[str]
) -> list[np.ndarray]:
    """Deals units, the lesions or patients, into folds: large ones first, each to the fold that needs it most."""
    members: dict[str, list[int]] = {}
    for index, unit in enumerate(kept_together):
        members.setdefault(unit, []).append(index)
    if len(members) < k:
        raise UserError(
            f"{len(members)} groups of images that stay together cannot be split into {k} folds: use fewer folds, or "
            "finer groups"
        )
    dealt: list[list[int]] = [[] for _ in range(k)]
    counts: list[Counter[str]] = [Counter() for _ in range(k)]
    for unit in sorted(members, key=lambda unit: (-len(members[unit]), _hash(seed, unit), unit)):
        stratum = groups[members[unit][0]]
        fold = min(range(k), key=lambda fold: (len(dealt[fold]), counts[fold][stratum], fold))
        dealt[fold] += members[unit]
        counts[fold].update(groups[i] for i in members[unit])
    return [np.sort(np.array(indices, dtype=np.int64)) for indices in dealt]


def _hash(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def make_split(dataset: str, names: Sequence[str], groups: Sequence[str], seed: int = 0) -> dict:
    """Returns a split file's content: one fifth of the images, stratified by group, validate.

    Args:
      dataset: the set's name.
      names: one unique name per image.
      groups: per image what to stratify by.
      seed: another seed splits otherwise.
    """
    held_out = set(folds(names, groups, 5, seed)[0].tolist())
    return {
        "dataset": dataset,
        "seed": seed,
        "train": sorted(n for i, n in enumerate(names) if i not in held_out),
        "validation": sorted(n for i, n in enumerate(names) if i in held_out),
    }


def committed_split(dataset: str) -> dict[str, list[str]]:
    """Returns the image names of each split of a set whose split is under version control ("ph2")."""
    content = json.loads((_SPLITS / f"{dataset}.json").read_text())
    return {split: content[split] for split in ("train", "validation")}
