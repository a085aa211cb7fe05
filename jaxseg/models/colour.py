"""Colour constancy: the optional first step of a network."""

import jax
import jax.numpy as jnp


def shades_of_gray(images: jax.Array, *, power: int = 6) -> jax.Array:
    """Removes the colour cast of images: "Shades of Gray" (Finlayson and Trezzi 2004).

    The Minkowski mean of the image, of order `power`, is the estimate of the light's colour. Each channel is divided by
    it (von Kries), so that skin looks alike under any lamp. Brightness stays about the same.

    Args:
      images: uint8 or float [..., H, W, 3], RGB in [0, 255]; every image is corrected separately.
      power: order of the mean; 1 is the grey world. The higher, the more the brightest pixels count.

    Returns:
      float32 [..., H, W, 3] in [0, 255]; values that the correction raises above 255 are clipped.
    """
    images = images.astype(jnp.float32)
    # The floor, a hundredth of a grey level, keeps black images black instead of dividing by 0.
    norm = jnp.mean((images / 255) ** power, axis=(-3, -2), keepdims=True) ** (1 / power)
    norm = jnp.maximum(norm, 0.01 / 255)
    grey = jnp.sqrt(jnp.mean(norm**2, axis=-1, keepdims=True))
    return jnp.clip(images * (grey / norm), 0, 255)
