"""Colour constancy: it removes a colour cast and is finite for flat images."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.colour import shades_of_gray

IMAGE = np.random.default_rng(0).uniform([90, 80, 70], [150, 130, 120], (12, 16, 3)).astype(np.float32)


def test_shades_of_gray_takes_a_cast_away():
    """If broken, the same skin has different colours under two lamps."""
    casts = np.float32([[1, 1, 1], [1.2, 0.9, 0.8], [0.7, 0.8, 1.3]])[:, None, None]
    balanced = np.asarray(shades_of_gray(IMAGE * casts))
    for image in balanced:
        norms = ((image.astype(float) ** 6).mean(axis=(0, 1))) ** (1 / 6)
        np.testing.assert_allclose(norms, norms.mean(), rtol=1e-4)
        np.testing.assert_allclose(image / balanced[0], image[0, 0, 0] / balanced[0][0, 0, 0], rtol=1e-4)
    neutral = np.repeat(IMAGE[..., :1], 3, axis=-1)
    np.testing.assert_allclose(shades_of_gray(neutral), neutral, rtol=1e-5)
    # Power 1 is the grey world, by hand.
    means = IMAGE.mean(axis=(0, 1))
    np.testing.assert_allclose(shades_of_gray(IMAGE, power=1), IMAGE * np.sqrt((means**2).mean()) / means, rtol=1e-4)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (1, 0, 0)])
def test_shades_of_gray_of_flat_images_is_finite(colour):
    """If broken, one black photograph turns a batch into NaN."""
    balanced = np.asarray(shades_of_gray(jnp.full((1, 4, 4, 3), jnp.array(colour, jnp.uint8))))
    assert balanced.dtype == np.float32
    assert np.isfinite(balanced).all()
    assert balanced.min() >= 0
    assert balanced.max() <= 255
