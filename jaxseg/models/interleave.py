"""The inverse of taking every second row and column."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def interleave(quarters: Sequence[Sequence[jax.Array]]) -> jax.Array:
    """Joins the pixels of four maps: `quarters[i][j]` becomes `result[:, i::2, j::2]`.

    Args:
      quarters: two rows of two arrays [B, H, W, C].

    Returns:
      [B, 2 H, 2 W, C].
    """
    batch, height, width, channels = quarters[0][0].shape
    woven = jnp.stack([jnp.stack(row, 3) for row in quarters], 2)
    return woven.reshape(batch, 2 * height, 2 * width, channels)
