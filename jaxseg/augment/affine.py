"""One affine warp for an image and its mask (paper, 3.3.1), drawn per example, on the device.

The warp gathers: four neighbours for the image (bilinear), one for the mask (nearest). Beyond the border both are
mirrored, so that image and mask stay aligned and no black frame appears.
"""

import jax
import jax.numpy as jnp

from jaxseg.config import AugmentConfig


def draw_affine(key: jax.Array, config: AugmentConfig) -> jax.Array:
    """Draws the matrix that maps the (y, x) offset of an output pixel from the centre to that of its input pixel.

    Args:
      key: a `jax.random` key, split into five: rotation, shear, zoom, horizontal flip, vertical flip.
      config: the ranges. Every parameter is uniform within its range; every flip has probability 1/2.

    Returns:
      float32 [2, 2], flip @ rotation @ shear / zoom.
    """
    rotation_key, shear_key, zoom_key, horizontal_key, vertical_key = jax.random.split(key, 5)
    angle = jnp.deg2rad(jax.random.uniform(rotation_key, minval=-config.rotation, maxval=config.rotation))
    shear = jnp.deg2rad(jax.random.uniform(shear_key, minval=-config.shear, maxval=config.shear))
    zoom = jax.random.uniform(zoom_key, minval=config.zoom_min, maxval=config.zoom_max)
    flip_x = jnp.where(config.flip_horizontal & jax.random.bernoulli(horizontal_key), -1.0, 1.0)
    flip_y = jnp.where(config.flip_vertical & jax.random.bernoulli(vertical_key), -1.0, 1.0)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    rotate = jnp.array([[cos, -sin], [sin, cos]])
    slant = jnp.array([[1.0, 0.0], [jnp.tan(shear), 1.0]])
    # Full precision: some devices multiply float32 matrices in fewer bits, which would move pixels.
    return jnp.array([[flip_y], [flip_x]]) * jnp.matmul(rotate, slant, precision="highest") / zoom


def warp(
    image: jax.Array, mask: jax.Array, matrix: jax.Array, shift: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Resamples one image and its mask by a linear map about the centre.

    Args:
      image: uint8 or float [H, W, C]; interpolated bilinearly, and rounded if uint8.
      mask: [H, W, 1] of any dtype; interpolated by the nearest pixel, so that no new values appear.
      matrix: float32 [2, 2], maps the (y, x) offset of an output pixel from the centre to that of its input pixel.
      shift: float32 [2], translation of the warped image down and to the right, pixels; None for no translation.

    Returns:
      Image and mask of the same shapes and dtypes.
    """
    height, width = image.shape[:2]
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    rows = jnp.arange(height) - centre[0]
    columns = jnp.arange(width) - centre[1]
    if shift is not None:
        rows, columns = rows - shift[0], columns - shift[1]
    y = centre[0] + matrix[0, 0] * rows[:, None] + matrix[0, 1] * columns
    x = centre[1] + matrix[1, 0] * rows[:, None] + matrix[1, 1] * columns

    def pixel(source: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        return source[_mirror(row, height), _mirror(column, width)]

    top, left = jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32)
    down, right = (y - top)[..., None], (x - left)[..., None]
    upper = pixel(image, top, left) * (1 - right) + pixel(image, top, left + 1) * right
    lower = pixel(image, top + 1, left) * (1 - right) + pixel(image, top + 1, left + 1) * right
    warped = upper * (1 - down) + lower * down
    if jnp.issubdtype(image.dtype, jnp.integer):
        warped = jnp.round(warped)
    nearest = pixel(mask, jnp.round(y).astype(jnp.int32), jnp.round(x).astype(jnp.int32))
    return warped.astype(image.dtype), nearest


def _mirror(index: jax.Array, size: int) -> jax.Array:
    """Reflects indices at the border pixels, which are not repeated: -1 becomes 1, `size` becomes `size - 2`."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return jnp.minimum(index, period - index) if size > 1 else index
