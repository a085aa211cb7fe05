"""Light and colour: each setting does what it says, within its range and independently of the others."""

import functools

import jax
import numpy as np
import pytest

from jaxseg.augment.light import changes_light, relight
from jaxseg.config import AugmentConfig

SETTINGS = ("brightness", "contrast", "saturation", "gamma", "colour_cast", "illumination")
KEYS = jax.random.split(jax.random.key(0), 200)
# Far enough from black and white that a change of 0.3 clips nothing.
IMAGE = np.random.default_rng(0).uniform([90, 80, 70], [150, 130, 120], (12, 16, 3)).astype(np.float32)
GREY = IMAGE @ np.float32([0.299, 0.587, 0.114])


@functools.cache
def relit(**changes: float) -> np.ndarray:
    """Returns the image relit under each key, [200, 12, 16, 3]."""
    config = AugmentConfig(**changes)
    return np.asarray(jax.jit(jax.vmap(lambda key: relight(key, IMAGE, config)))(KEYS))


def spans(values: np.ndarray, low: float, high: float) -> None:
    """Asserts that draws keep within a range and come near both of its ends."""
    margin = 0.05 * (high - low)
    assert low - 1e-4 <= values.min() < low + margin
    assert high - margin < values.max() <= high + 1e-4


def test_brightness_is_one_factor():
    """If broken, images only become brighter, or change by more than the setting allows."""
    factors = relit(brightness=0.3) / IMAGE
    np.testing.assert_allclose(factors, factors[:, :1, :1, :1] * np.ones_like(IMAGE), rtol=1e-5)
    spans(factors[:, 0, 0, 0], 0.7, 1.3)


def test_contrast_is_about_the_mean_grey():
    """If broken, contrast changes brightness, or changes the channels differently."""
    new = relit(contrast=0.3)
    factors = (new - GREY.mean()) / (IMAGE - GREY.mean())
    spans(np.median(factors, axis=(1, 2, 3)), 0.7, 1.3)
    np.testing.assert_allclose((new @ np.float32([0.299, 0.587, 0.114])).mean(axis=(1, 2)), GREY.mean(), rtol=1e-4)


def test_saturation_is_about_each_pixels_grey():
    """If broken, saturation changes brightness, so that a lesion's outline moves."""
    new = relit(saturation=0.3)
    np.testing.assert_allclose(new @ np.float32([0.299, 0.587, 0.114]), GREY * np.ones((200, 1, 1)), rtol=1e-4)
    spans(np.median((new - GREY[..., None]) / (IMAGE - GREY[..., None]), axis=(1, 2, 3)), 0.7, 1.3)


def test_gamma_keeps_black_and_white():
    """If broken, the power is taken of values in [0, 255], which makes images black or white."""
    exponents = np.log(relit(gamma=0.5) / 255) / np.log(IMAGE / 255)
    np.testing.assert_allclose(exponents, exponents[:, :1, :1, :1] * np.ones_like(IMAGE), rtol=1e-4)
    spans(np.log(exponents[:, 0, 0, 0]), -np.log(1.5), np.log(1.5))


def test_a_cast_is_a_gain_per_channel():
    """If broken, a colour cast changes no colour, because the channels share one gain."""
    gains = relit(colour_cast=0.3) / IMAGE
    np.testing.assert_allclose(gains, gains[:, :1, :1] * np.ones_like(IMAGE), rtol=1e-5)
    for channel in range(3):
        spans(np.log(gains[:, 0, 0, channel]), -np.log(1.3), np.log(1.3))
    assert np.abs(np.corrcoef(gains[:, 0, 0].T) - np.eye(3)).max() < 0.3


def test_illumination_is_a_slope():
    """If broken, light is a step, always from the same side, or goes beyond its range at the corners."""
    light = (relit(illumination=0.3) / IMAGE)[..., 0]
    np.testing.assert_allclose(np.diff(light, 2, axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(np.diff(light, 2, axis=2), 0, atol=1e-4)
    np.testing.assert_allclose(light.mean(axis=(1, 2)), 1, atol=1e-4)
    spans(light, 0.7, 1.3)
    down, across = light[:, -1, 0] > light[:, 0, 0], light[:, 0, -1] > light[:, 0, 0]
    assert 0.3 < down.mean() < 0.7
    assert 0.3 < across.mean() < 0.7


def test_a_draw_does_not_depend_on_the_others():
    """If broken, an ablation of one setting changes the draws of all others."""
    both = relit(brightness=0.3, colour_cast=0.05)
    np.testing.assert_allclose(both, relit(brightness=0.3) * relit(colour_cast=0.05) / IMAGE, rtol=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_values_stay_in_range(name):
    """If broken, a bright image wraps around when it is rounded to uint8, or a power of a negative number is NaN."""
    assert changes_light(AugmentConfig(**{name: 0.1}))
    config = AugmentConfig(**{name: 0.9}, gamma=1.0) if name != "gamma" else AugmentConfig(gamma=4.0)
    image = np.random.default_rng(1).choice(np.float32([0, 1, 254, 255]), (8, 8, 3))
    new = np.asarray(jax.vmap(lambda key: relight(key, image, config))(KEYS))
    assert np.isfinite(new).all()
    assert new.min() >= 0
    assert new.max() <= 255


def test_nothing_is_on_by_default():
    """If broken, the paper's recipe changes light, which the paper does not do."""
    assert not changes_light(AugmentConfig())
