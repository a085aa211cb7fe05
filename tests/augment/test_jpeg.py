"""JPEG on the device against Pillow's."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from jaxseg.augment.jpeg import jpeg


def picture() -> np.ndarray:
    """Returns a dark blot on skin with grain and coloured waves of several frequencies, uint8 [70, 90, 3]."""
    y, x = np.mgrid[:70, :90]
    blot = np.exp(-12 * ((y / 70 - 0.5) ** 2 + (x / 70 - 0.7) ** 2))[..., None]
    grain = np.random.default_rng(0).normal(0, 5, (70, 90, 1))
    skin = np.clip(np.array([220, 170, 150]) - blot * [120, 110, 90] + grain, 0, 255)
    waves = [np.sin(x / 3 + y / 7), np.sin(y / 4), np.cos(x / 9 - y / 5)]
    return (skin * 0.7 + 35 * np.stack(waves, axis=-1) + 20).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [10, 30, 60, 90])
def test_jpeg_is_pillows(quality):
    """If broken, tables, quality or colour subsampling differ from JPEG's, and something else is measured."""
    image = picture()
    ours = jax.jit(jpeg)
    # Where a frequency is half-way between two steps, the last bit decides; more often so of averaged colours.
    for original, tolerance in ((np.repeat(image[..., :1], 3, axis=-1), 0.3), (image, 1.0)):
        file = io.BytesIO()
        Image.fromarray(original).save(file, "JPEG", quality=quality, subsampling=2)
        theirs = np.asarray(Image.open(file), np.float32)
        found = np.asarray(ours(original.astype(np.float32), np.float32(quality)))
        assert np.abs(found - theirs).mean() < tolerance
        lost = np.abs(theirs - original).mean()
        assert np.abs(found - original).mean() == pytest.approx(lost, rel=0.05)
