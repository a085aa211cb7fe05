"""The colours of a mask's pixels: how often each occurs, how they lie to each other, and what they are called."""

from collections.abc import Iterable, Sequence

import numpy as np

NEAR = 40
"""Distance of levels, of 255, within which JPEG moves a value."""


def full_scale(values: np.ndarray) -> float:
    """Returns what stands for white in a mask's values: the highest of 1, 8 or 16 bits.

    Args:
      values: numbers from 0 on, of any shape.
    """
    highest = float(values.max())
    return next((top for top in (1, 255, 65535) if highest <= top), highest)


def pack(colours: np.ndarray) -> np.ndarray:
    """Returns colours as single numbers, int32 [...], in the order of their hexadecimal names.

    Args:
      colours: red, green and blue in [0, 255], [..., 3].
    """
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return (red << 16) | (green << 8) | blue


def by_frequency(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the colours of a picture, uint8 [N, 3], the most frequent first, and how often each occurs, int [N].

    Args:
      packed: a colour for each pixel, from `pack`, of any shape.
    """
    numbers, counts = np.unique(packed, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    numbers = numbers[order]
    return np.stack([numbers >> 16, (numbers >> 8) & 255, numbers & 255], axis=-1).astype(np.uint8), counts[order]


def along(colours: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where colours lie between two, 0 at the start and 1 at the end, and how far from the line, of 255.

    Args:
      colours: [N, 3].
      start: a colour, [3].
      end: another colour, [3].
    """
    axis = end.astype(float) - start
    offset = colours.astype(float) - start
    position = offset @ axis / (axis @ axis)
    return position, np.abs(offset - np.clip(position, 0, 1)[:, None] * axis).max(axis=-1)


def hex_name(colour: Iterable[int]) -> str:
    """Returns what a colour is called on the web and in `data.mask_lesion`, as "#ff0000".

    Args:
      colour: red, green and blue in [0, 255].
    """
    return f"#{bytes(map(int, colour)).hex()}"


def most_frequent(values: np.ndarray, part: np.ndarray) -> tuple[int, int, int] | None:
    """Returns the most frequent colour within a part of a mask, in [0, 255]; None if the part is empty.

    Args:
      values: [H, W] grey in any range, or uint8 [H, W, 3] in RGB.
      part: bool [H, W].
    """
    if not part.any():
        return None
    if values.ndim == 2:
        grey = np.rint(values[part] * (255 / full_scale(values))).astype(np.uint8)
        level = int(np.bincount(grey).argmax())
        return level, level, level
    colours, _ = by_frequency(pack(values[part]))
    return tuple(colours[0].tolist())


def kinds_of_colours(colours: Sequence[tuple[int, int, int] | None]) -> dict[str, list[int]]:
    """Sorts masks by the colours of their lesions, which JPEG may have moved a little.

    Args:
      colours: from `most_frequent`, one for each mask.

    Returns:
      Indices of the masks by colour, as "#ff0000", the most frequent colour first; masks without lesion are left out.
    """
    kinds: dict[tuple[int, int, int], list[int]] = {}
    for i, colour in enumerate(colours):
        if colour is not None:
            near = (kind for kind in kinds if max(abs(a - b) for a, b in zip(kind, colour, strict=True)) <= 2 * NEAR)
            kinds.setdefault(next(near, colour), []).append(i)
    return {hex_name(kind): kinds[kind] for kind in sorted(kinds, key=lambda kind: -len(kinds[kind]))}
