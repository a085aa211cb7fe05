"""The eight symmetries of the square, over which test-time augmentation averages."""

import jax
import jax.numpy as jnp

SYMMETRIES = tuple((quarters, mirrored) for quarters in range(4) for mirrored in (False, True))
"""The eight symmetries of the square: number of quarter turns, and whether the image is mirrored first."""


def turned(images: jax.Array, quarters: int, mirrored: bool) -> jax.Array:
    """Applies a symmetry of the square.

    Args:
      images: [B, S, S, ...].
      quarters: number of quarter turns.
      mirrored: whether the image is mirrored first.

    Returns:
      The turned images.
    """
    return jnp.rot90(images[:, :, ::-1] if mirrored else images, quarters, axes=(1, 2))


def turned_back(images: jax.Array, quarters: int, mirrored: bool) -> jax.Array:
    """Undoes `turned`.

    Args:
      images: [B, S, S, ...].
      quarters: number of quarter turns.
      mirrored: whether the image was mirrored first.

    Returns:
      The images as they were.
    """
    images = jnp.rot90(images, -quarters, axes=(1, 2))
    return images[:, :, ::-1] if mirrored else images
