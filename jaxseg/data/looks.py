"""What images look like: which of them are near-duplicates, and which lesions are brighter than their skin."""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxseg.data.examples import Example, Examples
from jaxseg.data.identity import Identity, cache_file, hash_bytes
from jaxseg.system.files import write_cache
from jaxseg.system.machine import cores

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
"""Minimum excess of a lesion's brightness over the skin around it, of 1, from which its mask is doubted."""

TURNED_SAME = 0.9972
"""Correlation from which small grey pictures are the same, turned or mirrored.

Of 447,000 pairs of PH2 and ISIC 2016 in seven positions none reaches 0.97; a copy that is not cut reaches 0.998.
"""

TURNED = 0.96
"""Least correlation of turned pictures whose hashes are near."""

TURNED_DISTANCE = 24
"""Most of the 240 bits by which the hashes of turned copies differ; less than half of what others differ by."""

_COARSE = 0.93
"""Correlation of means over 8 x 8 areas below which two pictures are not compared further: saves most of the time."""

_BLOCK = 256
"""Images that are compared with all others at once: bounds the memory, 4 bytes for each pair."""

_SIDE = 32
"""Areas of the small grey picture on each side."""


class Look(NamedTuple):
    """What is kept of an image and its mask.

    Attributes:
      bits: uint8 [32], the 256 bits of a difference hash: whether each of 16 x 16 areas is brighter than its left
        neighbour.
      grey: uint8 [1024], the brightness of 32 x 32 areas.
      contrast: how much darker the lesion is than the skin beside it, of 1; NaN without lesion or skin.
    """

    bits: np.ndarray
    grey: np.ndarray
    contrast: float = float("nan")


def look_at(example: Example) -> Look:
    """Returns what is kept of an image and its mask."""
    return fingerprint(example.image)._replace(contrast=contrast(example))


def fingerprint(image: np.ndarray) -> Look:
    """Returns what recognises a picture after scaling and compression, without its mask.

    Args:
      image: uint8 [H, W, 3].
    """
    small = Image.fromarray(image).convert("L").resize((64, 64), Image.Resampling.BOX)
    areas = np.asarray(small.resize((17, 16), Image.Resampling.BOX)).astype(int)
    grey = np.asarray(small.resize((_SIDE, _SIDE), Image.Resampling.BOX)).ravel()
    return Look(np.packbits((areas[:, 1:] > areas[:, :-1]).ravel()), grey)


def contrast(example: Example) -> float:
    """Returns how much darker a lesion is than the skin beside it, of 1; NaN if either is missing.

    Args:
      example: image and mask.
    """
    # A pixel of each block of a photograph is enough, and much faster.
    step = max(1, min(example.image.shape[:2]) // 128)
    grey = example.image[::step, ::step].mean(axis=-1) / 255
    lesion = example.mask[::step, ::step, 0].astype(bool)
    if lesion.all() or not lesion.any():
        return float("nan")
    # Beside it, and not all over: many dermoscopes leave dark corners.
    reach = max(2, round(0.15 * max(lesion.any(axis=0).sum(), lesion.any(axis=1).sum())))
    rows, columns = np.flatnonzero(lesion.any(axis=1)), np.flatnonzero(lesion.any(axis=0))
    box = (
        slice(max(0, rows[0] - reach), rows[-1] + reach + 1),
        slice(max(0, columns[0] - reach), columns[-1] + reach + 1),
    )
    skin = grey[box][~lesion[box]]
    return float(skin.mean() - grey[lesion].mean()) if skin.size else float("nan")


def alike(first: Sequence[Look], second: Sequence[Look]) -> list[tuple[int, int, int]]:
    """Finds images of two sets that show nearly the same picture.

    Args:
      first: images of one set.
      second: images of the other.

    Returns:
      (index in `first`, index in `second`, number of different bits of 256), the nearest first.
    """
    if not first or not second:
        return []
    (signs, greys), (other_signs, other_greys) = _arrays(first), _arrays(second)
    found = []
    for start in range(0, len(second), _BLOCK):
        block = slice(start, start + _BLOCK)
        # Products of matrices: a comparison pair by pair takes seconds for thousands of images.
        distances = np.rint((256 - other_signs[block] @ signs.T) / 2)
        correlations = other_greys[block] @ greys.T
        same = ((distances <= DISTANCE) & (correlations >= CORRELATION)) | (correlations >= SAME)
        found += [(int(j), start + int(i), int(distances[i, j])) for i, j in np.argwhere(same)]
    return sorted(found, key=lambda pair: pair[2])


def alike_turned(first: Sequence[Look], second: Sequence[Look]) -> list[tuple[int, int]]:
    """Finds images of two sets that show nearly the same picture, turned by a quarter or half, or mirrored.

    Args:
      first: images of one set.
      second: images of the other.

    Returns:
      (index in `first`, index in `second`), in the order of `second`.
    """
    if not first or not second:
        return []
    greys, others = (np.stack([look.grey for look in looks]).reshape(-1, _SIDE, _SIDE) for looks in (first, second))
    coarse, fine, bits = _normalised(_means(greys, 8)), _normalised(greys), _bits(greys)
    found = set()
    for turned in _turns(others):
        turned_coarse, turned_fine, turned_bits = _normalised(_means(turned, 8)), _normalised(turned), _bits(turned)
        for start in range(0, len(second), _BLOCK):
            block = slice(start, start + _BLOCK)
            places, their = np.nonzero(turned_coarse[block] @ coarse.T >= _COARSE)
            # Unequal numbers of candidates: row by row, a product of the candidates alone.
            for i in np.unique(places):
                candidates = their[places == i]
                correlations = fine[candidates] @ turned_fine[start + i]
                close = correlations >= TURNED
                if close.any():
                    candidates, correlations = candidates[close], correlations[close]
                    near = (bits[candidates] != turned_bits[start + i]).sum(axis=1) <= TURNED_DISTANCE
                    found |= {(int(j), start + int(i)) for j in candidates[near | (correlations >= TURNED_SAME)]}
    return sorted(found, key=lambda pair: pair[::-1])


def near_copies(first: Sequence[Look], second: Sequence[Look]) -> dict[tuple[int, int], int | None]:
    """Finds images of two sets that show nearly the same picture, as it is, turned by a quarter or half, or mirrored.

    Args:
      first: images of one set.
      second: images of the other.

    Returns:
      By (index in `first`, index in `second`) the number of different bits of 256, the nearest first; then, with None
      for the number, those that are turned or mirrored.
    """
    found: dict[tuple[int, int], int | None] = {(i, j): bits for i, j, bits in alike(first, second)}
    return found | {pair: found.get(pair) for pair in alike_turned(first, second)}


def _turns(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """Yields square pictures [N, S, S] as they look after each of the seven turns and mirrorings."""
    for mirrored in (pictures, pictures[..., ::-1]):
        for quarters in range(4):
            if quarters or mirrored is not pictures:
                yield np.rot90(mirrored, quarters, axes=(1, 2))


def _means(pictures: np.ndarray, side: int) -> np.ndarray:
    """Returns the means over `side` x `side` areas of pictures [N, S, S], float32 [N, side, side]."""
    step = _SIDE // side
    return pictures.reshape(-1, side, step, side, step).mean(axis=(2, 4), dtype=np.float32)


def _bits(pictures: np.ndarray) -> np.ndarray:
    """Returns a difference hash of pictures [N, S, S], bool [N, 240]: whether areas are brighter than their left."""
    areas = _means(pictures, 16)
    return (areas[:, :, 1:] > areas[:, :, :-1]).reshape(len(pictures), -1)


def _normalised(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures [N, ...] as float32 [N, P] of mean 0 and norm 1; an even picture as zeros."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, norm, out=flat, where=norm > 0)


def _arrays(looks: Sequence[Look]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bits, float32 [N, 256] of -1 and 1, and the brightness, float32 [N, 1024] of mean 0 and norm 1."""
    signs = np.unpackbits(np.stack([look.bits for look in looks]), axis=1).astype(np.float32) * 2 - 1
    return signs, _normalised(np.stack([look.grey for look in looks]))


def packed(looks: Mapping[str, Look]) -> bytes:
    """Returns the content of a file of looks.

    Args:
      looks: at least one, by key.
    """
    listed, content = list(looks.values()), io.BytesIO()
    np.savez(
        content,
        keys=np.array(list(looks)),
        bits=np.stack([look.bits for look in listed]),
        grey=np.stack([look.grey for look in listed]),
        contrast=np.array([look.contrast for look in listed]),
    )
    return content.getvalue()


def unpacked(path: Path) -> dict[str, Look]:
    """Reads a file of looks; one that is damaged raises whatever numpy and zipfile raise."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        rows = zip(stored["keys"], stored["bits"], stored["grey"], stored["contrast"], strict=True)
        return {str(key): Look(bits, grey, float(value)) for key, bits, grey, value in rows}


class Album:
    """The looks of a data set's images, by the content of image and mask; kept in the user's cache folder.

    Args:
      dataset: the set's name, or its folder.
    """

    def __init__(self, dataset: str):
        self._path = cache_file(dataset, ".npz")
        self._looks: dict[str, Look] = {}
        self._used: dict[str, Look] = {}
        # A cache that is damaged or cannot be read costs time, and nothing else.
        with contextlib.suppress(Exception):
            if self._path and self._path.exists():
                self._looks = unpacked(self._path)

    def looks(self, examples: Examples, identities: Sequence[Identity], seen: Mapping[int, Look]) -> list[Look]:
        """Returns the looks of images; only those are decoded that are neither seen nor kept.

        Args:
          examples: the images.
          identities: what they hold.
          seen: the looks of those that were decoded for another purpose, by index.
        """
        keys = [hash_bytes((identity.image + identity.mask).encode()) for identity in identities]
        known = [seen.get(i) or self._looks.get(key) for i, key in enumerate(keys)]
        missing = [i for i, look in enumerate(known) if look is None]
        with ThreadPoolExecutor(cores()) as threads:
            for i, look in zip(missing, threads.map(lambda i: look_at(examples.load(i)), missing), strict=True):
                known[i] = look
        self._used |= dict(zip(keys, known, strict=True))
        return known

    def save(self) -> None:
        """Writes the looks that were asked for."""
        if self._path is None or self._used.keys() <= self._looks.keys():
            return
        write_cache(self._path, packed(self._used))


def seeing(seen: dict[int, Look], keep: Callable[[int, Example], object]) -> Callable[[int, Example], None]:
    """Returns a callback for decoded images that looks at each and hands it on.

    Args:
      seen: takes the look of each image, by index.
      keep: what else to do with each image.
    """

    def decoded(index: int, example: Example) -> None:
        seen[index] = look_at(example)
        keep(index, example)

    return decoded
