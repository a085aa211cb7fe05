"""The layers that both the encoders and the decoders are made of.

Parameters and batch statistics are float32 whatever the compute type `dtype` is. Kernels start as Keras' do (Glorot,
uniform) and biases at zero.
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
"""Keras' default for convolutions; fans are taken over the last two axes of a kernel times its receptive field."""

_UPCONV_INIT: Initializer = nn.initializers.glorot_uniform(batch_axis=(0, 1))
"""Each output pixel of a 2x2 stride-2 transposed convolution sees one tap of the kernel, so taps are not fan-in."""


class PointwiseConv(nn.Module):
    """A 1x1 convolution as a matrix product, several times faster than XLA's convolution on a CPU.

    Parameters are those of a Keras `Conv2D` of kernel size 1: `kernel` [1, 1, C, features] and `bias` [features].

    Attributes:
      features: channels of the output.
      use_bias: whether a bias is added.
      stride: step in both directions, pixels; skipped pixels are dropped before the product, not after.
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

    Unlike "SAME", which at stride 2 pads by the input's parity, this is what Keras' ResNets do (`ZeroPadding2D`, then a
    valid convolution). At stride 1 the two agree. Parameters: `kernel` [k, k, C, features], `bias` [features].

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

    Output pixel (2i + p, 2j + q) is `x[i, j] @ kernel[p, q] + bias`: windows do not overlap. The kernel
    [2, 2, C, features] is that of a Keras `Conv2DTranspose` with its last two axes swapped, and that of a Flax
    `nn.ConvTranspose` turned by 180 degrees (`kernel[::-1, ::-1]`).

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

    Parameters `scale`, `bias`; batch statistics `mean`, `var`, all [C] and directly in this module, so that they carry
    a Keras layer's name. New statistics are `momentum * old + (1 - momentum) * batch`, of the batch's biased variance.

    Attributes:
      momentum: share of the old running statistics kept per step.
      epsilon: added to the variance.
      dtype: type of the output; the reductions over the batch are float32 all the same.
      axis_name: mapped axis over which the batch is spread, or None; statistics are those of the whole batch.
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises `x` [B, H, W, C] by the batch's statistics if `train`, else by the running ones."""
        # Not flax.linen's, which took a third of a training step's time to trace.
        channels = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        if not train:
            return normalise(x, mean.value, var.value, scale, bias, self.epsilon, self.dtype)
        # `init` runs outside of the mapped axis.
        axis_name = None if self.is_initializing() else self.axis_name
        y, batch_mean, batch_var = batch_norm(x, scale, bias, self.epsilon, self.dtype, axis_name)
        if not self.is_initializing():
            mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
            var.value = self.momentum * var.value + (1 - self.momentum) * batch_var
        return y


class Dropout(nn.Module):
    """Elementwise dropout whose draws do not depend on how the batch is spread over devices.

    The stream "dropout" must be given the same key on every device. It is folded with the example's place in the whole
    batch, and each example draws its own mask.

    Attributes:
      rate: share of the values set to zero, in [0, 1), rounded to 1/256; the others are scaled so
        that the mean stays.
      axis_name: mapped axis over which the batch is spread, in order and evenly, or None.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Drops values of `x` [B, ...] if `train`, else returns it as it is."""
        # `init` runs outside of the mapped axis, where axis_index does not exist.
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
    """Draws uint8 of a shape, four to a word: `jax.random.bits` of type uint8 draws a whole word for each."""
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 4),), jnp.uint32)
    return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:size].reshape(shape)


def subsample(x: jax.Array, stride: int) -> jax.Array:
    """Keeps every `stride`-th row and column of `x` [B, H, W, C], from the first: a 1x1 pooling with a stride."""
    return x[:, ::stride, ::stride, :] if stride > 1 else x
