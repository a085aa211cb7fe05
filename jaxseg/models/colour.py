"""Colour constancy: what the network does to an image before anything else, on request."""

import jax
import jax.numpy as jnp


def shades_of_gray(images: jax.Array, *, power: int = 6) -> jax.Array:
    """Takes an image's colour cast away: "Shades of Gray" (Finlayson and Trezzi 2004).

    The light's colour is taken to be that of the image's mean, of Minkowski norm `power`, and each channel is divided
    by it (von Kries), so that skin looks alike under any lamp. Brightness stays about the same.

    Args:
      images: uint8 or float [..., H, W, 3], RGB in [0, 255]; each is corrected by itself.
      power: 1 is the grey world; the larger, the more the brightest pixels count.

    Returns:
      float32 [..., H, W, 3] in [0, 255]; what the correction makes brighter than white is white.
    """
    images = images.astype(jnp.float32)
    # The floor, a hundredth of a grey level, keeps black images black instead of dividing by 0.
    norm = jnp.mean((images / 255) ** power, axis=(-3, -2), keepdims=True) ** (1 / power)
    norm = jnp.maximum(norm, 0.01 / 255)
    grey = jnp.sqrt(jnp.mean(norm**2, axis=-1, keepdims=True))
    return jnp.clip(images * (grey / norm), 0, 255)
