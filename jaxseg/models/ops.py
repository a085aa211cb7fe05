"""Operations whose gradient XLA derives to a slow program, with the same gradient written so that it is fast.

Each equals the plain form beside it in `tests/test_ops.py`. With the dropout of `layers.py` they took a step of the
default network from 4.4 to 3.9 s of processor time on two CPU cores (batch 8, 224 px).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_FEW_CHANNELS = 32
"""Up to here a convolution's gradient by its input is faster if the kernel is first turned round in memory."""


@jax.custom_vjp
def matmul(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Multiplies the last axis of `x` [..., C] by a matrix [C, F]; gives [..., F]."""
    return jnp.dot(x, matrix)


def _matmul_forward(x: jax.Array, matrix: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return jnp.dot(x, matrix), (x, matrix)


def _matmul_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, matrix = saved
    rows, grad_rows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    # The product over all pixels transposes its first factor in memory: that is to be the narrower one. The barrier
    # keeps XLA from turning the product round again.
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
    """Pools by 3x3 maxima at stride 2, after a border of one pixel of zeros.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, ceil(H / 2), ceil(W / 2), C]. The gradient goes to the first of equal maxima, row by row, as XLA's does.
    """
    return _max_pool(x)


def _max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), strides=(2, 2), padding="VALID")


def _max_pool_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _max_pool(x)
    return y, (x, y)


def _max_pool_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array]:
    """Gathers the gradient tap by tap; XLA's select-and-scatter is several times slower on a CPU."""
    x, y = saved
    (height, width), (rows, columns) = x.shape[1:3], y.shape[1:3]
    # In the padded image, pixel (2 r + i, 2 c + j) is tap (i, j) of window (r, c).
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

    # Pixels of even and odd row and column belong to other taps: four sums, woven together.
    even_even = at((0, 0), 0, 0) + at((0, 2), 0, 1) + at((2, 0), 1, 0) + at((2, 2), 1, 1)
    even_odd = at((0, 1), 0, 0) + at((2, 1), 1, 0)
    odd_even = at((1, 0), 0, 0) + at((1, 2), 0, 1)
    odd_odd = at((1, 1), 0, 0)
    woven = jnp.stack([jnp.stack([even_even, even_odd], 3), jnp.stack([odd_even, odd_odd], 3)], 2)
    woven = woven.reshape(x.shape[0], 2 * rows + 2, 2 * columns + 2, x.shape[3])
    return (woven[:, 1 : height + 1, 1 : width + 1],)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolves after zero padding of half the kernel's side on every side.

    Under `jax.vmap` over kernels, as when networks are trained together, it becomes as many convolutions; XLA's own
    form, one of many groups, is hundreds of times slower on a CPU.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, F], k odd.
      stride: step in both directions, pixels.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), F].
    """
    return _unrolled(functools.partial(_convolve, stride=stride))(x, kernel)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=_DIMENSIONS
    )


def _unrolled(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns the function, of arrays, with a rule for `jax.vmap`: one call after the other."""
    call = jax.custom_batching.custom_vmap(function)

    @call.def_vmap
    def stacked(size: int, batched: Sequence[bool], *args: jax.Array) -> tuple[jax.Array, bool]:
        picked = [[arg[i] if many else arg for arg, many in zip(args, batched, strict=True)] for i in range(size)]
        return jnp.stack([call(*one) for one in picked]), True

    return call


def _convolve_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel, stride), (x, kernel)


def _convolve_backward(stride: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    # Of one member: under vmap these are shapes without the mapped axis, as are the arguments of the two functions.
    x_shape, kernel_shape = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in saved)

    def by_input(kernel: jax.Array, grad: jax.Array) -> jax.Array:
        if stride == 1 and max(kernel.shape[2:]) <= _FEW_CHANNELS:
            # XLA's own form leaves the kernel as it lies and reads it turned.
            return _convolve(grad, kernel[::-1, ::-1].transpose(0, 1, 3, 2), 1)
        return jax.linear_transpose(lambda x: _convolve(x, kernel, stride), x_shape)(grad)[0]

    def by_kernel(x: jax.Array, grad: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda kernel: _convolve(x, kernel, stride), kernel_shape)(grad)[0]

    return _unrolled(by_input)(kernel, grad), _unrolled(by_kernel)(x, grad)


convolve.defvjp(_convolve_forward, _convolve_backward)


@functools.partial(jax.jit, static_argnames=("epsilon", "dtype"))  # as the two below
def normalise(
    x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: Any
) -> jax.Array:
    """Returns `x` [B, H, W, C] of mean `bias` and standard deviation `scale`, all four [C], as `dtype`."""
    return ((x - mean) * (jax.lax.rsqrt(var + epsilon) * scale) + bias).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, dtype: Any, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the batch's own statistics.

    Its gradient takes two sums over the batch, where the derived one takes three.

    Args:
      x: [B, H, W, C].
      scale: [C], standard deviation of the result.
      bias: [C], mean of the result.
      epsilon: added to the variance.
      dtype: type of the result; the sums are at least float32 all the same.
      axis_name: mapped axis over which the batch is spread, or None; statistics are those of the whole batch.

    Returns:
      The result [B, H, W, C], and the batch's mean and biased variance [C]. No gradient flows through the latter two.
    """
    return _batch_norm_forward(x, scale, bias, epsilon, dtype, axis_name)[0]


# Compiled by themselves only in name: XLA puts them in their places. But layers of one shape are traced once.
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
    """Ioffe and Szegedy 2015, section 3, with the sums over the batch drawn out."""
    del dtype
    x, mean, var, scale = saved
    grad, centred, inverse = grads[0].astype(mean.dtype), x - mean, jax.lax.rsqrt(var + epsilon)
    sums = jnp.stack([grad.sum((0, 1, 2)), (grad * centred).sum((0, 1, 2))])
    means = sums * (x.shape[-1] / x.size)
    through_mean, through_var = means if axis_name is None else jax.lax.pmean(means, axis_name)
    x_grad = scale * inverse * (grad - through_mean - centred * (through_var * jax.lax.square(inverse)))
    # Of scale and bias, a device's gradient is that of its share of the batch, as all other parameters' are.
    return x_grad.astype(x.dtype), sums[1] * inverse, sums[0]


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
