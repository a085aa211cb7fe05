"""The eight symmetries of the square, over which test-time augmentation averages."""

import jax
import jax.numpy as jnp
import numpy as np

Images = jax.Array | np.ndarray

SYMMETRIES = tuple((quarters, mirrored) for quarters in range(4) for mirrored in (False, True))
"""The eight symmetries of the square: number of quarter turns, and whether the image is mirrored first."""


def turned(images: Images, quarters: int, mirrored: bool) -> Images:
    """Applies a symmetry of the square.

    Args:
      images: [B, S, S, ...].
      quarters: number of quarter turns.
      mirrored: whether the image is mirrored first.

    Returns:
      The turned images.
    """
    return _rotated(images[:, :, ::-1] if mirrored else images, quarters)


def turned_back(images: Images, quarters: int, mirrored: bool) -> Images:
    """Undoes `turned`.

    Args:
      images: [B, S, S, ...].
      quarters: number of quarter turns.
      mirrored: whether the image was mirrored first.

    Returns:
      The images as they were.
    """
    images = _rotated(images, -quarters)
    return images[:, :, ::-1] if mirrored else images


def _rotated(images: Images, quarters: int) -> Images:
    """Rotates images; those of NumPy stay in NumPy, because JAX would recompile for every new size."""
    return (jnp if isinstance(images, jax.Array) else np).rot90(images, quarters, axes=(1, 2))
