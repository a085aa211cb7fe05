"""What cameras do to an image: each change does what it says, and nothing moves."""

import functools

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.augment import camera

KEYS = jax.random.split(jax.random.key(0), 200)
IMAGE = np.clip(
    128 + ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 150, (48, 64, 3)), (1, 1, 0)), 0, 255
).astype(np.float32)


@functools.cache
def changed(name: str) -> np.ndarray:
    """Returns the image after one change under each key, [200, 48, 64, 3]."""
    return np.asarray(jax.jit(jax.vmap(lambda key: getattr(camera, name)(key, IMAGE)))(KEYS))


def detail(images: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of the differences of neighbouring pixels."""
    return np.diff(images, axis=-2).std(axis=(-3, -2, -1))


def test_scaling_loses_detail_and_moves_nothing():
    """If broken, a smaller image comes back shifted by half a pixel of its own, away from its mask."""
    scaled = changed("_rescale")
    assert detail(scaled).min() < 0.4 * detail(IMAGE)
    assert detail(scaled).max() < 1.01 * detail(IMAGE)
    down, across = np.mgrid[:48, :64].astype(np.float32)
    for slope in (down, across):
        image = np.repeat(slope[..., None], 3, axis=-1)
        moved = np.asarray(jax.vmap(camera._rescale, in_axes=(0, None))(KEYS[:20], image))
        # At the edges means over the large pixels cannot go on with the slope.
        np.testing.assert_allclose(moved[:, 6:-6, 6:-6], image[6:-6, 6:-6] * np.ones((20, 1, 1, 1)), atol=0.5)


def test_noise_is_of_all_strengths_and_without_bias():
    """If broken, noise brightens images, or is the same in all channels or of one strength."""
    noise = changed("_add_noise") - IMAGE
    strengths = noise.std(axis=(1, 2, 3))
    assert strengths.min() < 1
    assert 10 < strengths.max() < 15
    assert abs(noise.mean()) < 0.05
    flat = noise[strengths > 5].reshape(-1, 48 * 64, 3)
    assert abs(np.corrcoef(flat[0].T)[0, 1]) < 0.1
    bright, dark = IMAGE > 160, IMAGE < 90
    assert 1.05 < noise[:, bright].std() / noise[:, dark].std() < 1.3


def test_sharpening_adds_detail():
    """If broken, it blurs."""
    sharp = detail(changed("_sharpen"))
    assert sharp.min() > 0.99 * detail(IMAGE)
    assert sharp.max() > 1.05 * detail(IMAGE)
    np.testing.assert_allclose(changed("_sharpen").mean(axis=(1, 2)).mean(axis=0), IMAGE.mean(axis=(0, 1)), atol=0.5)


def test_compression_is_of_many_qualities():
    """If broken, no image is compressed, or all are alike."""
    # Of the luma: colour is at half the resolution at every quality.
    errors = np.abs((changed("_compress") - IMAGE) @ np.float32([0.299, 0.587, 0.114])).mean(axis=(1, 2))
    assert errors.min() < 0.4 * errors.max()
    assert errors.max() < 15


def test_each_change_comes_as_often_as_asked():
    """If broken, one chance decides for all changes, or images are always changed."""
    images = np.asarray(jax.jit(jax.vmap(lambda key: camera.photograph(key, IMAGE, 0.3)))(KEYS))
    same = (images == IMAGE).all(axis=(1, 2, 3)).mean()
    assert same == pytest.approx(0.7**4, abs=0.08)
    assert np.isfinite(images).all()
    assert images.min() >= 0
    assert images.max() <= 255
    never = jax.vmap(lambda key: camera.photograph(key, IMAGE, 0.0))(KEYS[:5])
    np.testing.assert_array_equal(never, IMAGE * np.ones((5, 1, 1, 1), np.float32))
