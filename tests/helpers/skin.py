"""Small generated skin images with lesions off the centre, and folders of them as users bring them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def pair(number: int, width: int = 64, height: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Returns image uint8 [H, W, 3] and mask bool [H, W]; the lesion is in the upper left quarter: flips show."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    centre_x, centre_y = width * random.uniform(0.25, 0.4), height * random.uniform(0.25, 0.4)
    radius_x, radius_y = width * random.uniform(0.12, 0.2), height * random.uniform(0.12, 0.2)
    mask = ((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2 < 1
    skin = np.array([225, 180, 150]) + random.normal(0, 6, (height, width, 3))
    image = np.where(mask[..., None], np.array([110, 70, 50]) + random.normal(0, 10, (height, width, 3)), skin)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def save(path: Path, picture: np.ndarray | Image.Image, **options) -> Path:
    """Writes a picture, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def grey(mask: np.ndarray) -> np.ndarray:
    """Returns a mask as uint8 [H, W] of 0 and 255."""
    return mask.astype(np.uint8) * np.uint8(255)


def two_colours(mask: np.ndarray, lesion: tuple[int, ...], skin: tuple[int, ...]) -> np.ndarray:
    """Returns a mask drawn in two colours, uint8 [H, W, C]."""
    return np.where(mask[..., None], np.array(lesion), np.array(skin)).astype(np.uint8)


def folder(
    root: Path,
    count: int = 10,
    draw: Callable[[np.ndarray], np.ndarray | Image.Image] = grey,
    *,
    width: int = 64,
    height: int = 48,
    first: int = 0,
    **image_options,
) -> Path:
    """Writes a folder of pairs img00.png and on, whose masks are drawn by a function of the true mask."""
    for number in range(first, first + count):
        image, mask = pair(number, width, height)
        ending = "jpg" if image_options else "png"
        save(root / "images" / f"img{number:02d}.{ending}", image, **image_options)
        save(root / "masks" / f"img{number:02d}.png", draw(mask))
    return root
