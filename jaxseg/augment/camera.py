"""Random changes that a camera and its software make to an image behind the lens, on the device."""

import jax
import jax.numpy as jnp

from jaxseg.augment.drawing import blurred, uniform
from jaxseg.augment.jpeg import jpeg


def photograph(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Scales an image down and up, adds noise, sharpens and compresses it, each at random.

    Args:
      key: a `jax.random` key, folded with the number of the change: the draws of one do not depend on the others.
      image: float32 [H, W, 3], RGB in [0, 255].
      probability: how often each of the four changes is made, in [0, 1].

    Returns:
      float32 [H, W, 3] in [0, 255].
    """
    for i, change in enumerate((_rescale, _add_noise, _sharpen, _compress)):
        chance, own_key = jax.random.split(jax.random.fold_in(key, i))
        image = jnp.where(jax.random.bernoulli(chance, probability), jnp.clip(change(own_key, image), 0, 255), image)
    return image


def _rescale(key: jax.Array, image: jax.Array) -> jax.Array:
    """Reduces an image to 1/4 to all of its pixels along each side, by means, and enlarges it again, bilinearly."""
    (share,) = uniform(key, (0.25, 1))

    def matrix(size: int) -> jax.Array:
        fewer = jnp.floor(share * size)
        edges = jnp.arange(size + 1) / size * fewer
        cell = jnp.arange(size)[:, None]
        covered = jnp.clip(jnp.minimum(edges[1:], cell + 1) - jnp.maximum(edges[:-1], cell), 0)
        place = jnp.clip((jnp.arange(size)[:, None] + 0.5) / size * fewer - 0.5, 0, fewer - 1)
        return jnp.dot(jnp.clip(1 - jnp.abs(place - jnp.arange(size)), 0), covered, precision="highest")

    down, across = (matrix(size) for size in image.shape[:2])
    return jnp.einsum("yh,xw,hwc->yxc", down, across, image, precision="highest")


def _add_noise(key: jax.Array, image: jax.Array) -> jax.Array:
    """Adds the noise of a sensor: half of its variance is of the dark, half grows with the light. 0 to 15 levels."""
    degree, own_key = jax.random.split(key)
    deviation = jax.random.uniform(degree, maxval=15.0) * jnp.sqrt((1 + image / 255) / 2)
    return image + deviation * jax.random.normal(own_key, image.shape)


def _sharpen(key: jax.Array, image: jax.Array) -> jax.Array:
    """Adds up to twice what a blur by 0.3 to 1 % of the shorter side takes away (unsharp masking)."""
    amount, deviation = uniform(key, (0, 2), (0.003, 0.01))
    return image + amount * (image - blurred(image, deviation * min(image.shape[:2])))


def _compress(key: jax.Array, image: jax.Array) -> jax.Array:
    """Compresses an image as a JPEG of quality 30 to 95."""
    (quality,) = uniform(key, (30, 95))
    return jpeg(image, quality)
