"""Random changes of light and colour for training, on the device."""

import math

import jax
import jax.numpy as jnp

from jaxseg.config import AugmentConfig


def changes_light(config: AugmentConfig) -> bool:
    """Returns whether any setting of `relight` is on."""
    parts = (config.illumination, config.colour_cast, config.brightness)
    return any((*parts, config.contrast, config.saturation, config.gamma))


def relight(key: jax.Array, image: jax.Array, config: AugmentConfig) -> jax.Array:
    """Changes the light and colours of one image: first the lamp, then the camera.

    Args:
      key: a `jax.random` key, split into six: illumination, colour cast, brightness, contrast, saturation, gamma. The
        draw of one does not depend on which others are on.
      image: float32 [H, W, 3], RGB in [0, 255].
      config: the ranges; changes whose range is 0 are not computed.

    Returns:
      float32 [H, W, 3] in [0, 255].
    """
    lamp, cast, exposure, spread, colour, curve = jax.random.split(key, 6)
    if config.illumination:
        image = image * _slope(lamp, image.shape[0], image.shape[1], config.illumination)[..., None]
    if config.colour_cast:
        image = image * _factor(cast, config.colour_cast, 3)
    if config.brightness:
        image = image * _about_one(exposure, config.brightness)
    if config.contrast:
        mean = jnp.mean(_grey(image))
        image = mean + _about_one(spread, config.contrast) * (image - mean)
    if config.saturation:
        grey = _grey(image)[..., None]
        image = grey + _about_one(colour, config.saturation) * (image - grey)
    image = jnp.clip(image, 0, 255)
    if config.gamma:
        image = 255 * (image / 255) ** _factor(curve, config.gamma)
    return image


def _grey(image: jax.Array) -> jax.Array:
    """Returns the luma [H, W] of RGB [H, W, 3] (ITU-R BT.601)."""
    return 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]


def _about_one(key: jax.Array, change: float) -> jax.Array:
    """Draws a factor uniform in [1 - change, 1 + change]."""
    return jax.random.uniform(key, minval=1 - change, maxval=1 + change)


def _factor(key: jax.Array, change: float, *shape: int) -> jax.Array:
    """Draws factors log-uniform in [1 / (1 + change), 1 + change]."""
    limit = math.log1p(change)
    return jnp.exp(jax.random.uniform(key, shape, minval=-limit, maxval=limit))


def _slope(key: jax.Array, height: int, width: int, change: float) -> jax.Array:
    """Draws a linear gradient of light [H, W] in a random direction, at most from 1 - change to 1 + change."""
    angle, steepness = jax.random.uniform(key, (2,)) * jnp.array([2 * math.pi, change])
    down, across = jnp.sin(angle), jnp.cos(angle)
    rows, columns = jnp.linspace(-1, 1, height)[:, None], jnp.linspace(-1, 1, width)
    return 1 + steepness * (down * rows + across * columns) / (jnp.abs(down) + jnp.abs(across))
