"""Folders of small drawn skin images with lesions, as users keep their own pictures."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def drawn_pair(number: int, width: int = 64, height: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Draws an image uint8 [H, W, 3] and its mask bool [H, W].

    The lesion lies in the upper left quarter, so that a flip or turn shows. Another number draws another image.
    """
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    centre_x, centre_y = width * rng.uniform(0.25, 0.4), height * rng.uniform(0.25, 0.4)
    a, b = width * rng.uniform(0.12, 0.2), height * rng.uniform(0.12, 0.2)
    mask = ((x - centre_x) / a) ** 2 + ((y - centre_y) / b) ** 2 < 1
    skin = np.array([225, 180, 150]) + rng.normal(0, 6, (height, width, 3))
    lesion = np.array([110, 70, 50]) + rng.normal(0, 10, (height, width, 3))
    return np.clip(np.where(mask[..., None], lesion, skin), 0, 255).astype(np.uint8), mask


def draw_folder(root: Path, numbers: Iterable[int], suffix: str = ".png") -> Path:
    """Writes images `imgNN` and their masks into `images/` and `masks/`; what is there already stays."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        image, mask = drawn_pair(number)
        Image.fromarray(image).save(root / "images" / f"img{number:02d}{suffix}")
        Image.fromarray(mask.astype(np.uint8) * 255).save(root / "masks" / f"img{number:02d}.png")
    return root


def rename(root: Path, old: str, new: str) -> None:
    """Renames an image and its mask."""
    for part in ("images", "masks"):
        path = root / part / f"{old}.png"
        path.rename(path.with_name(f"{new}.png"))


def remove(root: Path, name: str) -> None:
    """Removes an image and its mask."""
    for part in ("images", "masks"):
        (root / part / f"{name}.png").unlink()


def reencode(root: Path, target: Path) -> Path:
    """Copies a folder pixel by pixel into files of another kind and other bytes: BMP images and TIFF masks."""
    for part, suffix in (("images", ".bmp"), ("masks", ".tif")):
        (target / part).mkdir(parents=True)
        for path in (root / part).iterdir():
            with Image.open(path) as image:
                image.save(target / part / f"{path.stem}{suffix}")
    return target
