"""Random changes of texture and colour that keep shapes, for images of other cameras, on the device."""

import jax
import jax.numpy as jnp
import numpy as np

_SIDES = np.array([1, 3, 5, 7])
"""Sides of the random kernels, pixels."""


def mix_amplitudes(key: jax.Array, image: jax.Array, others: jax.Array, probability: float) -> jax.Array:
    """Mixes the amplitudes of an image's Fourier transform with those of another image, and keeps the phases.

    Amplitudes hold most of colours, light and texture, phases the shapes (Xu et al., A Fourier-based Framework for
    Domain Generalization, CVPR 2021, arXiv 2105.11120): with a share s uniform in [0, 1] and A the amplitudes,
    A = (1 - s) A(image) + s A(other).

    Args:
      key: a `jax.random` key.
      image: float32 [H, W, 3], RGB in [0, 255].
      others: [N, H, W, 3] in [0, 255]; one of these is drawn, which may be the image itself.
      probability: how often the image changes, in [0, 1].

    Returns:
      float32 [H, W, 3] in [0, 255].
    """
    chance, pick, degree = jax.random.split(key, 3)
    other = jax.random.choice(pick, others).astype(jnp.float32)
    share = jax.random.uniform(degree)
    own, foreign = (jnp.fft.rfft2(x, axes=(0, 1)) for x in (image, other))
    amplitude = jnp.abs(own)
    factor = (1 - share) + share * jnp.abs(foreign) / jnp.maximum(amplitude, 1e-6)
    mixed = jnp.fft.irfft2(own * factor, s=image.shape[:2], axes=(0, 1))
    return jnp.where(jax.random.bernoulli(chance, probability), jnp.clip(mixed, 0, 255), image)


def convolve_at_random(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Mixes an image with its convolution with a random kernel, which gives it other textures and colours.

    Random convolutions keep shapes (Xu et al., Robust and Generalizable Visual Representation Learning via Random
    Convolutions, ICLR 2021, arXiv 2007.13003): the kernel's side is 1, 3, 5 or 7 pixels, its weights are normal,
    and the share of the result is uniform in [0, 1]. Here both, and their mixture, have the image's mean colour and
    standard deviation, so that light stays what it is (as in Ouyang et al., IEEE TMI 2023, arXiv 2111.12525).

    Args:
      key: a `jax.random` key.
      image: float32 [H, W, 3], RGB in [0, 255].
      probability: how often the image changes, in [0, 1].

    Returns:
      float32 [H, W, 3] in [0, 255].
    """
    chance, weights, side, degree = jax.random.split(key, 4)
    largest, share = int(_SIDES.max()), jax.random.uniform(degree)
    from_middle = np.abs(np.arange(largest) - largest // 2)
    inside = from_middle <= jax.random.choice(side, _SIDES) // 2
    kernel = jax.random.normal(weights, (largest, largest, 3, 3)) * (inside[:, None] & inside)[..., None, None]
    mean = image.mean(axis=(0, 1))
    plain = image - mean
    mixed = (1 - share) * plain + share * _as_strong(_convolve(plain, kernel), plain)
    mixed = jnp.clip(mean + _as_strong(mixed, plain), 0, 255)
    return jnp.where(jax.random.bernoulli(chance, probability), mixed, image)


def _as_strong(image: jax.Array, other: jax.Array) -> jax.Array:
    """Scales an image, [H, W, 3] of mean 0, to the standard deviation of another."""
    return image * (jnp.linalg.norm(other) / jnp.maximum(jnp.linalg.norm(image), 1e-6))


def _convolve(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves an image with a kernel [k, k, 3, 3], k odd, by way of Fourier transforms; edges are mirrored.

    The kernels of a batch differ: under `jax.vmap` a convolution would become one with groups, slow on a CPU.
    """
    beyond = kernel.shape[0] // 2
    padded = jnp.pad(image, ((beyond, beyond), (beyond, beyond), (0, 0)), mode="reflect")
    shape = padded.shape[:2]
    waves, answer = (jnp.fft.rfft2(x, s=shape, axes=(0, 1)) for x in (padded, kernel))
    product = sum(waves[..., i, None] * answer[..., i, :] for i in range(3))
    # The result of the first pixel that the whole kernel covers is at the kernel's last place.
    return jnp.fft.irfft2(product, s=shape, axes=(0, 1))[2 * beyond :, 2 * beyond :]
