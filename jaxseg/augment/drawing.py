"""What drawing on the device needs: coordinates, soft edges, lines, layers, blur, and random numbers by the handful.

Lengths are shares of the image's shorter side, so that small and large images look alike.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Grid(NamedTuple):
    """Coordinates in units of the image's shorter side.

    Attributes:
      row: float32 [H, 1], centres of the pixels.
      column: float32 [1, W], centres of the pixels.
      height: height of the image.
      width: width of the image.
      pixel: side of a pixel.
    """

    row: jax.Array
    column: jax.Array
    height: float
    width: float
    pixel: float


class Layer(NamedTuple):
    """A layer over the image.

    Attributes:
      cover: float32 [H, W] in [0, 1], opacity.
      colour: float32 [3] or [H, W, 3], RGB in [0, 255].
    """

    cover: jax.Array
    colour: jax.Array


def grid_of(height: int, width: int) -> Grid:
    """Returns the coordinates of the pixels of an image.

    Args:
      height: height of the image, pixels.
      width: width of the image, pixels.
    """
    side = min(height, width)
    rows, columns = (jnp.arange(height) + 0.5) / side, (jnp.arange(width) + 0.5) / side
    return Grid(rows[:, None], columns[None], height / side, width / side, 1 / side)


def blend(image: jax.Array, layer: Layer) -> jax.Array:
    """Lays a layer over an image.

    Args:
      image: float32 [H, W, 3] in [0, 255].
      layer: the layer, of the same height and width.

    Returns:
      float32 [H, W, 3] in [0, 255].
    """
    return image + layer.cover[..., None] * (layer.colour - image)


def ramp(value: jax.Array, low: jax.Array | float, high: jax.Array | float) -> jax.Array:
    """Rises smoothly from 0 where value <= low to 1 where value >= high.

    Args:
      value: an array of any shape.
      low: the largest value that gives 0.
      high: the smallest value that gives 1, above `low`.
    """
    t = jnp.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def line(distance: jax.Array, width: jax.Array | float, pixel: float) -> jax.Array:
    """Returns the share of a pixel that a line covers; a line thinner than a pixel covers its width.

    Args:
      distance: distance from the pixel's centre to the middle of the line, in shorter sides.
      width: width of the line, in shorter sides.
      pixel: side of a pixel, in shorter sides.

    Returns:
      float32 in [0, 1], of the shape of `distance`.
    """
    return jnp.clip((width / 2 - distance) / pixel + 0.5, 0, jnp.minimum(1, width / pixel))


def blurred(image: jax.Array, deviation: jax.Array | float) -> jax.Array:
    """Blurs an image by a Gaussian.

    Args:
      image: float32 [H, W, C].
      deviation: the Gaussian's standard deviation, pixels; above 0, may be traced.

    Returns:
      float32 [H, W, C].
    """

    def blurring(size: int) -> jax.Array:
        offsets = (jnp.arange(size)[:, None] - jnp.arange(size)) / deviation
        return jax.nn.softmax(-0.5 * offsets**2, axis=-1)

    height, width = image.shape[:2]
    return jnp.einsum("yh,xw,hwc->yxc", blurring(height), blurring(width), image, precision="highest")


def uniform(key: jax.Array, *ranges: tuple[float, float], count: int | None = None) -> jax.Array:
    """Draws a number, or `count` numbers, from every range; one draw compiles faster than many.

    Args:
      key: a `jax.random` key.
      *ranges: lowest and highest number of each.
      count: how many numbers of each range; None: one.

    Returns:
      float32 [R] or [R, count].
    """
    low, high = jnp.array(ranges).T
    if count is None:
        return low + (high - low) * jax.random.uniform(key, (len(ranges),))
    return low[:, None] + (high - low)[:, None] * jax.random.uniform(key, (len(ranges), count))
