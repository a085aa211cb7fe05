"""The loss of JPEG compression, on the device: 8x8 cosine transform and quantisation as in libjpeg.

Only the lossy stages are computed; the entropy coder is lossless and left out.
"""

import jax
import jax.numpy as jnp
import numpy as np

_LUMINANCE = np.float32([
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
"""Quantisation steps of luminance at quality 50 (the standard's table K.1), by vertical and horizontal frequency."""

_CHROMINANCE = np.full((8, 8), 99, np.float32)
"""Quantisation steps of both colour differences at quality 50 (table K.2)."""
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

_COSINES = np.cos(np.arange(8)[:, None] * (2 * np.arange(8) + 1) * (np.pi / 16)) / 2
_COSINES[0] /= np.sqrt(2)
_COSINES = _COSINES.astype(np.float32)
"""The orthonormal cosine transform of 8 values, one frequency per row."""

_YCBCR = np.float32([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
"""From RGB to luminance and colour differences, one per row (JFIF)."""
_RGB = np.linalg.inv(_YCBCR.astype(np.float64)).astype(np.float32)


def jpeg(image: jax.Array, quality: jax.Array | float) -> jax.Array:
    """Compresses an image as a JPEG with colour at half the resolution (4:2:0), and decodes it.

    Args:
      image: float32 [H, W, 3], RGB in [0, 255].
      quality: libjpeg's (and Pillow's) quality in [1, 100]; may be traced, and need not be an integer.

    Returns:
      float32 [H, W, 3] in [0, 255].
    """
    height, width = image.shape[:2]
    # Intermediate values are integers, as in libjpeg. Full precision: some devices multiply float32 matrices in fewer
    # bits, which would quantise some frequencies to other steps.
    planes = jnp.einsum("hwc,pc->phw", image, _YCBCR, precision="highest").round()
    planes = jnp.pad(planes, ((0, 0), (0, -height % 16), (0, -width % 16)), mode="edge")
    padded = planes.shape[1:]
    luminance = _quantise(planes[:1] - 128, _LUMINANCE, quality) + 128
    halves = planes[1:].reshape(2, padded[0] // 2, 2, padded[1] // 2, 2).mean(axis=(2, 4)).round()
    # Bilinear interpolation by a factor of two is libjpeg's "fancy" upsampling.
    colour = jax.image.resize(_quantise(halves, _CHROMINANCE, quality), (2, *padded), "bilinear")
    planes = jnp.concatenate([luminance, colour])[:, :height, :width]
    return jnp.clip(jnp.einsum("phw,cp->hwc", planes, _RGB, precision="highest"), 0, 255)


def _quantise(planes: jax.Array, table: np.ndarray, quality: jax.Array | float) -> jax.Array:
    """Rounds the frequencies of each 8x8 block to multiples of the table's steps, scaled to a quality as in libjpeg.

    Args:
      planes: float32 [P, H, W] in [-128, 127]; H and W are multiples of 8.
      table: float32 [8, 8], quantisation steps at quality 50.
      quality: quality in [1, 100].

    Returns:
      float32 [P, H, W] in [-128, 127].
    """
    count, height, width = planes.shape
    percent = jnp.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    steps = jnp.clip(jnp.floor((table * percent + 50) / 100), 1, 255)
    blocks = planes.reshape(count, height // 8, 8, width // 8, 8)
    waves = jnp.einsum("pyixj,ui,vj->pyxuv", blocks, _COSINES, _COSINES, precision="highest")
    waves = jnp.round(waves / steps) * steps
    blocks = jnp.einsum("pyxuv,ui,vj->pyixj", waves, _COSINES, _COSINES, precision="highest")
    return jnp.clip(blocks.reshape(planes.shape).round(), -128, 127)
