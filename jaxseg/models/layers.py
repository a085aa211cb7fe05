"""Layers of the encoders and the decoders.

Parameters and batch statistics are float32, whatever the compute type `dtype` is. Kernels are initialised as in Keras
(Glorot uniform), biases with zeros.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseg.models.ops import batch_norm, convolve, matmul, normalise

Initializer = Callable[..., jax.Array]

KERNEL_INIT: Initializer = nn.initializers.glorot_uniform()
"""Keras' default for convolutions: fans are the last two axes of a kernel times its receptive field."""

_UPCONV_INIT: Initializer = nn.initializers.glorot_uniform(batch_axis=(0, 1))
"""Every output pixel of a 2x2 stride-2 transposed convolution sees one tap of the kernel: taps do not add to fan-in."""


class PointwiseConv(nn.Module):
    """A 1x1 convolution as a matrix product, which is several times faster than XLA's convolution on a CPU.

    Parameters are those of a Keras `Conv2D` of kernel size 1: `kernel` [1, 1, C, features] and `bias` [features].

    Attributes:
      features: channels of the output.
      use_bias: whether a bias is added.
      stride: step in both directions, pixels; skipped pixels are dropped before the product.
      dtype: compute type.
      kernel_init: initialiser of the kernel.
    """

    features: int
    use_bias: bool = True
    stride: int = 1
    dtype: Any = jnp.float32
    kernel_init: Initializer = KERNEL_INIT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `x` [B, H, W, C] to `dtype` [B, ceil(H / stride), ceil(W / stride), features]."""
        kernel = self.param("kernel", self.kernel_init, (1, 1, x.shape[-1], self.features), jnp.float32)
        y = matmul(subsample(x, self.stride).astype(self.dtype), kernel[0, 0].astype(self.dtype))
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
        return y


class Conv(nn.Module):
    """A convolution after explicit zero padding of `kernel_size // 2` pixels on every side.

    Keras' ResNets pad in this way (`ZeroPadding2D`, then a valid convolution). "SAME" agrees with it at stride 1, but
    at stride 2 it pads by the parity of the input size. Parameters: `kernel` [k, k, C, features], `bias` [features].

    Attributes:
      features: channels of the output.
      kernel_size: side of the kernel, pixels, odd.
      stride: step in both directions, pixels.
      use_bias: whether a bias is added.
      dtype: compute type.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `x` [B, H, W, C] to `dtype` [B, ceil(H / stride), ceil(W / stride), features]."""
        kernel_shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", KERNEL_INIT, kernel_shape, jnp.float32)
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
        return y


class UpConv(nn.Module):
    """A 2x2 stride-2 transposed convolution as one matrix product and depth-to-space.

    Output pixel (2i + p, 2j + q) is `x[i, j] @ kernel[p, q] + bias`: windows do not overlap. Parameters: `kernel`
    [2, 2, C, features], `bias` [features]. The kernel of a Keras `Conv2DTranspose` has the last two axes swapped, and
    that of a Flax `nn.ConvTranspose` is rotated by 180 degrees (`kernel[::-1, ::-1]`).

    Attributes:
      features: channels of the output.
      dtype: compute type.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `x` [B, H, W, C] to `dtype` [B, 2 H, 2 W, features]."""
        batch, height, width, channels = x.shape
        kernel = self.param("kernel", _UPCONV_INIT, (2, 2, channels, self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        matrix = kernel.astype(self.dtype).transpose(2, 0, 1, 3).reshape(channels, 4 * self.features)
        y = matmul(x.astype(self.dtype), matrix).reshape(batch, height, width, 2, 2, self.features)
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, self.features)
        return y + bias.astype(self.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over batch, height and width; parameters and statistics are float32.

    Parameters: `scale`, `bias`; batch statistics: `mean`, `var`; all [C]. They are directly in this module, so that the
    module can have the name of a Keras layer. New statistics are `momentum * old + (1 - momentum) * batch`, with the
    biased variance of the batch.

    Attributes:
      momentum: share of the old running statistics kept per step.
      epsilon: added to the variance.
      dtype: type of the output; the reductions over the batch are always float32.
      axis_name: mapped axis over which the batch is spread, or None; statistics are those of the whole batch.
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises `x` [B, H, W, C] by the batch's statistics if `train`, else by the running statistics.

        Returns:
          `dtype` [B, H, W, C].
        """
        # flax.linen's BatchNorm took a third of the time that tracing a training step takes.
        channels = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        if not train:
            return normalise(x, mean.value, var.value, scale, bias, self.epsilon, self.dtype)
        # `init` runs outside of the mapped function.
        axis_name = None if self.is_initializing() else self.axis_name
        y, batch_mean, batch_var = batch_norm(x, scale, bias, self.epsilon, self.dtype, axis_name)
        if not self.is_initializing():
            mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
            var.value = self.momentum * var.value + (1 - self.momentum) * batch_var
        return y


class Dropout(nn.Module):
    """Elementwise dropout whose draws do not depend on how the batch is spread over devices.

    The random stream "dropout" must have the same key on every device. The key is folded with the example's position in
    the whole batch, and every example draws its own mask.

    Attributes:
      rate: share of values set to zero, in [0, 1), rounded to 1/256; all others are scaled to preserve the mean.
      axis_name: mapped axis over which the batch is spread, in order and evenly, or None.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Drops values of `x` [B, ...] if `train`, else returns `x` unchanged."""
        # `init` runs outside of the mapped function, where axis_index does not exist.
        if not train or self.rate == 0.0 or self.is_initializing():
            return x
        index = jnp.arange(x.shape[0])
        if self.axis_name is not None:
            index += jax.lax.axis_index(self.axis_name) * x.shape[0]
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.make_rng("dropout"), index)
        draws = jax.vmap(lambda key: _random_bytes(key, x.shape[1:]))(keys)
        dropped = min(round(256 * self.rate), 255)
        return jnp.where(draws >= dropped, x * (256 / (256 - dropped)), jnp.zeros_like(x))


def _random_bytes(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws uint8 of a shape, four from each word: `jax.random.bits` of type uint8 would draw one word per byte."""
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 4),), jnp.uint32)
    return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:size].reshape(shape)


def subsample(x: jax.Array, stride: int) -> jax.Array:
    """Keeps every `stride`-th row and column, beginning with the first, like a 1x1 pooling with a stride.

    Args:
      x: [B, H, W, C].
      stride: step in both directions, pixels.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), C].
    """
    return x[:, ::stride, ::stride, :] if stride > 1 else x
