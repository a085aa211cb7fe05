"""Small pictures of noise for predict to segment, and the pixels of what it leaves."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(path: Path) -> np.ndarray:
    """Returns the pixels of a picture as they are stored."""
    with Image.open(path) as image:
        return np.asarray(image)


def save_noise(folder: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Writes RGB pictures of noise: (height, width) by file name, which may have folders in it."""
    rng = np.random.default_rng(0)
    for name, size in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
