"""Operations with gradients written by hand, because XLA compiles the derived gradient to a slow program.

Each operation gives the plain form, the reason for the slowness, and the gain: the processor time of the derived
gradient divided by that of the gradient here, measured by

    python -m experiments.benchmarks.gradients

on two cores of an AMD EPYC with jax 0.10.2 (batch 8, float32). `tests/models/test_ops.py` compares every operation and
its gradient with the plain form. Together with the dropout of `layers.py` they reduced a training step of the default
network from 4.4 to 3.9 s of processor time on two CPU cores (batch 8, 224 px; commit 8adc034).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseg.models import winograd
from jaxseg.models.interleave import interleave

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

_FEW_CHANNELS = 4
"""Images, such as RGB, to which `_gradient_by_patches` applies; with more channels XLA's gradient is not slower."""


@jax.custom_vjp
def matmul(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Multiplies the last axis of an array by a matrix.

    Plain form: `jnp.dot(x, matrix)`. Its gradient by the matrix is a product over all pixels, for which XLA on a CPU
    transposes the first factor in memory, even if that is the wider one. Gain: 1.6 from 256 to 64 channels, 1.8 from
    64 to 256 (56 px).

    Args:
      x: [..., C].
      matrix: [C, F].

    Returns:
      [..., F].
    """
    return jnp.dot(x, matrix)


def _matmul_forward(x: jax.Array, matrix: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return jnp.dot(x, matrix), (x, matrix)


def _matmul_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, matrix = saved
    rows, grad_rows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    # XLA transposes the first factor in memory, so the first factor has to be the narrower one. The barrier keeps XLA
    # from merging the transposition of the result into the product, which would swap the factors again.
    if rows.shape[1] > grad_rows.shape[1]:
        matrix_grad = jax.lax.optimization_barrier(_sum_of_outer(grad_rows, rows)).T
    else:
        matrix_grad = _sum_of_outer(rows, grad_rows)
    return jnp.dot(grad, matrix.T), matrix_grad


def _sum_of_outer(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the sum of a[i] b[i]^T over the rows of `a` [N, A] and `b` [N, B], [A, B]."""
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())))


matmul.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Pools by 3x3 maxima at stride 2, after zero padding of one pixel on every side.

    Plain form: `_max_pool`, `nn.max_pool` of the padded array. XLA derives select-and-scatter, which on a CPU is a
    scalar loop over windows. Here nine comparisons of strided slices with the result, which XLA vectorises, find the
    pixel that each window has taken. Gain: 2.5 to 3.4 (112 px, 64 channels; two runs).

    Args:
      x: [B, H, W, C].

    Returns:
      [B, ceil(H / 2), ceil(W / 2), C]. Of equal maxima, the first in row-major order gets the gradient, as in XLA.
    """
    return _max_pool(x)


def _max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), strides=(2, 2), padding="VALID")


def _max_pool_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _max_pool(x)
    return y, (x, y)


def _max_pool_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array]:
    """Returns the gradient by the input.

    Windows overlap by one row and one column, so a padded pixel belongs to one, two or four windows. The parities of
    its row and column say which taps (i, j) of its windows it is:

        padded column    0   1   2   3   4        E = even row, even column: taps 00, 02, 20, 22 of four windows
        padded row   0   E   a   E   a   E        a = even row, odd column:  taps 01, 21 of two windows
                     1   b   O   b   O   b        b = odd row, even column:  taps 10, 12 of two windows
                     2   E   a   E   a   E        O = odd row, odd column:   tap  11 of one window
                     3   b   O   b   O   b
                     4   E   a   E   a   E        window (r, c) spans rows 2r to 2r + 2, columns 2c to 2c + 2

    Each of the four sums E, a, b, O has a quarter of the padded size; `interleave` joins them:

        E E E   a a   b b b   O O         E a E a E
        E E E + a a + b b b + O O   ->    b O b O b
        E E E   a a                       E a E a E
                                          b O b O b
                                          E a E a E
    """
    x, y = saved
    (height, width), (rows, columns) = x.shape[1:3], y.shape[1:3]
    # Padded pixel (2 r + i, 2 c + j) is tap (i, j) of window (r, c).
    padded = jnp.pad(x, ((0, 0), (1, 2 * rows - height), (1, 2 * columns - width), (0, 0)))
    unclaimed = jnp.ones(y.shape, bool)
    taps = {}
    for i in range(3):
        for j in range(3):
            tap = padded[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2]
            hit = unclaimed & (tap == y)
            unclaimed &= ~hit
            taps[i, j] = jnp.where(hit, grad, 0)

    def at(tap: tuple[int, int], down: int, right: int) -> jax.Array:
        return jnp.pad(taps[tap], ((0, 0), (down, 1 - down), (right, 1 - right), (0, 0)))

    # The sums E, a, b, O of the drawing. Tap 2 of a window is tap 0 of the next, one further down or to the right.
    even_even = at((0, 0), 0, 0) + at((0, 2), 0, 1) + at((2, 0), 1, 0) + at((2, 2), 1, 1)
    even_odd = at((0, 1), 0, 0) + at((2, 1), 1, 0)
    odd_even = at((1, 0), 0, 0) + at((1, 2), 0, 1)
    odd_odd = at((1, 1), 0, 0)
    woven = interleave([[even_even, even_odd], [odd_even, odd_odd]])
    return (woven[:, 1 : height + 1, 1 : width + 1],)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@jax.custom_vjp
def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Pools by 2x2 maxima at stride 2.

    Plain form: `_max_pool_2x2`, `nn.max_pool`. As for `max_pool`, XLA derives a scalar loop; here windows do not
    overlap, so that four comparisons do. Gain: 7.6 (224 px, 64 channels; Intel Xeon).

    Args:
      x: [B, H, W, C], H and W even.

    Returns:
      [B, H / 2, W / 2, C]. Of equal maxima, the first in row-major order gets the gradient, as in XLA.
    """
    return _max_pool_2x2(x)


def _max_pool_2x2(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (2, 2), strides=(2, 2))


def _max_pool_2x2_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _max_pool_2x2(x)
    return y, (x, y)


def _max_pool_2x2_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array]:
    x, y = saved
    unclaimed = jnp.ones(y.shape, bool)
    taps = {}
    for i in range(2):
        for j in range(2):
            hit = unclaimed & (x[:, i::2, j::2] == y)
            unclaimed &= ~hit
            taps[i, j] = jnp.where(hit, grad, 0)
    return (interleave([[taps[i, j] for j in range(2)] for i in range(2)]),)


max_pool_2x2.defvjp(_max_pool_2x2_forward, _max_pool_2x2_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolves after zero padding of half the kernel's side on every side.

    Plain form: `_convolve`, `jax.lax.conv_general_dilated`. Under `jax.vmap` over kernels, when networks are trained
    together, XLA derives one convolution with groups, which is slow on a CPU. Here there is one convolution per
    network. Gain: 9 for 3 networks on 2 images of 8 px (16 channels). On a CPU, 3x3 convolutions of many channels
    take fewer products (`winograd`). Gain: 1.0 to 3.3 (7 to 224 px, 32 to 1,280 channels; Intel Xeon with AVX-512).

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, F], k odd.
      stride: step in both directions, pixels.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), F].
    """
    direct = functools.partial(_convolve, stride=stride)
    has_fewer = winograd.suits(x.shape, kernel, stride)
    return _unrolled(_on_cpu(winograd.convolve, direct) if has_fewer else direct)(x, kernel)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=_DIMENSIONS
    )


def _on_cpu(function: Callable[..., jax.Array], elsewhere: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns a function that is one of two, by the platform that it is compiled for."""
    return lambda *args: jax.lax.platform_dependent(*args, cpu=function, default=elsewhere)


def _unrolled(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns a function of arrays that `jax.vmap` turns into one call per element of the mapped axis."""
    call = jax.custom_batching.custom_vmap(function)

    @call.def_vmap
    def stacked(size: int, batched: Sequence[bool], *args: jax.Array) -> tuple[jax.Array, bool]:
        calls = [[arg[i] if mapped else arg for arg, mapped in zip(args, batched, strict=True)] for i in range(size)]
        return jnp.stack([call(*elements) for elements in calls]), True

    return call


def _convolve_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel, stride), (x, kernel)


def _convolve_backward(stride: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    # Under vmap these shapes and the arguments of the two functions below are without the mapped axis.
    x_shape, kernel_shape = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in saved)

    def by_input(kernel: jax.Array, grad: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda x: _convolve(x, kernel, stride), x_shape)(grad)[0]

    def by_kernel(x: jax.Array, grad: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda kernel: _convolve(x, kernel, stride), kernel_shape)(grad)[0]

    if winograd.suits(x_shape.shape, kernel_shape, stride):
        by_input = _on_cpu(winograd.gradient_by_input, by_input)
    if winograd.suits_gradient_by_kernel(kernel_shape, stride):
        by_kernel = _on_cpu(winograd.gradient_by_kernel, by_kernel)
    elif kernel_shape.shape[2] <= _FEW_CHANNELS and kernel_shape.dtype == jnp.float32:
        by_patches = functools.partial(_gradient_by_patches, side=kernel_shape.shape[0], stride=stride)
        by_kernel = _on_cpu(by_patches, by_kernel)
    return _unrolled(by_input)(kernel, grad), _unrolled(by_kernel)(x, grad)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _gradient_by_patches(x: jax.Array, grad: jax.Array, side: int, stride: int) -> jax.Array:
    """Returns `convolve`'s gradient by a kernel of that side as one product for each image, [side, side, C, F].

    The factors are the gradient [N, F] and the patch of each of its N pixels [N, side^2 C]; all patches of a batch
    would take much memory.
    """
    (_, height, width, features), channels, pad = grad.shape, x.shape[-1], side // 2

    def add(total: jax.Array, image: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        padded, grad = image
        down, right = (slice(stride * (size - 1) + 1) for size in (height, width))
        taps = [padded[i:, j:][down, right][::stride, ::stride] for i in range(side) for j in range(side)]
        patches = jax.lax.optimization_barrier(jnp.concatenate(taps, -1).reshape(-1, side**2 * channels))
        return total + _sum_of_outer(grad.reshape(-1, features), patches), None

    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    total, _ = jax.lax.scan(add, jnp.zeros((features, side**2 * channels), x.dtype), (padded, grad))
    return total.T.reshape(side, side, channels, features)


# `jit` of `normalise` and of the two functions for batch norm only caches tracing: layers of equal shape are traced
# once; XLA inlines the calls.
@functools.partial(jax.jit, static_argnames=("epsilon", "dtype"))
def normalise(
    x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: Any
) -> jax.Array:
    """Normalises the channels of an array by given statistics.

    Args:
      x: [B, H, W, C].
      mean: [C], mean of `x`.
      var: [C], variance of `x`.
      scale: [C], standard deviation of the result.
      bias: [C], mean of the result.
      epsilon: constant added to the variance.
      dtype: type of the result.

    Returns:
      `dtype` [B, H, W, C].
    """
    return ((x - mean) * (jax.lax.rsqrt(var + epsilon) * scale) + bias).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: Any, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the statistics of the batch.

    Plain form: `normalise` with the mean and variance of `x`. The derived gradient takes three sums over the batch,
    this one two (Ioffe and Szegedy 2015, section 3). Gain: 1.1 (112 px, 64 channels). In the training step compiled for
    an H100 (batch 16, bfloat16) it saves 81 of 1,333 kernels and 4.5 % of the bytes that kernels exchange; tracing a
    step takes a tenth less time (both counted for commit 5de3df4).

    Args:
      x: [B, H, W, C].
      scale: [C], standard deviation of the result.
      bias: [C], mean of the result.
      epsilon: constant added to the variance.
      dtype: type of the result; sums are at least float32.
      axis_name: mapped axis over which the batch is spread, or None; statistics are those of the whole batch.

    Returns:
      The result [B, H, W, C], and the batch's mean and biased variance [C]. No gradient flows through the latter two.
    """
    return _batch_norm_forward(x, scale, bias, epsilon, dtype, axis_name)[0]


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _batch_norm_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: Any, axis_name: str | None
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    moments = jnp.stack([wide.mean((0, 1, 2)), jax.lax.square(wide).mean((0, 1, 2))])
    mean, square = moments if axis_name is None else jax.lax.pmean(moments, axis_name)
    var = jnp.maximum(0.0, square - jax.lax.square(mean))  # rounding may make it negative
    return (normalise(x, mean, var, scale, bias, epsilon, dtype), mean, var), (x, mean, var, scale)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _batch_norm_backward(
    epsilon: float,
    dtype: Any,
    axis_name: str | None,
    saved: tuple[jax.Array, ...],
    grads: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the gradients by `x`, `scale` and `bias` (Ioffe and Szegedy 2015, section 3, sums factored out)."""
    del dtype
    x, mean, var, scale = saved
    grad, centred, inverse = grads[0].astype(mean.dtype), x - mean, jax.lax.rsqrt(var + epsilon)
    sums = jnp.stack([grad.sum((0, 1, 2)), (grad * centred).sum((0, 1, 2))])
    means = sums * (x.shape[-1] / x.size)
    through_mean, through_var = means if axis_name is None else jax.lax.pmean(means, axis_name)
    x_grad = scale * inverse * (grad - through_mean - centred * (through_var * jax.lax.square(inverse)))
    # The gradients by scale and bias are those of this device's share of the batch, like those of all parameters: the
    # training step averages them over devices.
    return x_grad.astype(x.dtype), sums[1] * inverse, sums[0]


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
