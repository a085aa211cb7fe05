"""Measures what the custom gradients of `jaxseg.models.ops` gain over those that JAX derives.

    python -m experiments.benchmarks.gradients

Compiles both forms of each operation at sizes of the networks (batch 8, 224 px), checks that their gradients
agree, and prints the processor time of each and their ratio. Processor time depends less on other work on the machine
than wall time; it exists for CPUs only. Takes one to two minutes on two cores of an AMD EPYC. Expect the ratios in the
docstrings of `ops.py`.
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseg.models import ops
from jaxseg.system import heap

REPEATS = 7


class Case(NamedTuple):
    """An operation at one size: our form, the plain form, and the shapes of their arguments."""

    name: str
    ours: Callable[..., jax.Array]
    plain: Callable[..., jax.Array]
    shapes: tuple[tuple[int, ...], ...]


def plain_convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolves as `ops.convolve` does.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, F], k odd.
      stride: step in both directions, pixels.
    """
    pad = (kernel.shape[0] // 2,) * 2
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (pad, pad), dimension_numbers=dimensions)


def plain_max_pool(x: jax.Array) -> jax.Array:
    """Pools as `ops.max_pool` does."""
    return nn.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), strides=(2, 2), padding="VALID")


def plain_max_pool_2x2(x: jax.Array) -> jax.Array:
    """Pools as `ops.max_pool_2x2` does."""
    return nn.max_pool(x, (2, 2), strides=(2, 2))


def plain_batch_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Normalises as `ops.batch_norm` does.

    Args:
      x: [B, H, W, C].
      scale: [C], standard deviation of the result.
      bias: [C], mean of the result.
    """
    mean, square = x.mean((0, 1, 2)), (x * x).mean((0, 1, 2))
    return (x - mean) * (jax.lax.rsqrt(square - mean * mean + 1e-3) * scale) + bias


def batch_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns the first result of `ops.batch_norm`: no gradient flows through the others.

    Args:
      x: [B, H, W, C].
      scale: [C], standard deviation of the result.
      bias: [C], mean of the result.
    """
    return ops.batch_norm(x, scale, bias, 1e-3, jnp.float32, None)[0]


def convolution(side: int, channels: int, features: int) -> Case:
    """Returns the case of a 3x3 convolution of 8 square images.

    Args:
      side: of the images, pixels.
      channels: of the input.
      features: channels of the result.
    """
    shapes = ((8, side, side, channels), (3, 3, channels, features))
    return Case(f"convolve, {channels} to {features} channels, {side} px", ops.convolve, plain_convolve, shapes)


CASES = (
    Case("matmul, 256 to 64 channels", ops.matmul, jnp.dot, ((8, 56, 56, 256), (256, 64))),
    Case("matmul, 64 to 256 channels", ops.matmul, jnp.dot, ((8, 56, 56, 64), (64, 256))),
    Case("max_pool", ops.max_pool, plain_max_pool, ((8, 112, 112, 64),)),
    Case("max_pool_2x2", ops.max_pool_2x2, plain_max_pool_2x2, ((8, 224, 224, 64),)),
    Case(
        "convolve, 3 networks under vmap",
        jax.vmap(ops.convolve),
        jax.vmap(plain_convolve),
        ((3, 2, 8, 8, 16), (3, 3, 3, 16, 16)),
    ),
    convolution(56, 64, 64),
    convolution(28, 128, 128),
    convolution(14, 256, 256),
    convolution(7, 512, 512),
    convolution(56, 320, 64),
    convolution(14, 1280, 256),
    Case(
        "convolve, 3 to 64 channels, 224 px, 7x7 at stride 2",
        functools.partial(ops.convolve, stride=2),
        functools.partial(plain_convolve, stride=2),
        ((8, 224, 224, 3), (7, 7, 3, 64)),
    ),
    convolution(112, 96, 32),
    convolution(112, 32, 32),
    convolution(112, 64, 128),
    convolution(224, 64, 64),
    Case("batch_norm", batch_norm, plain_batch_norm, ((8, 112, 112, 64), (64,), (64,))),
)


def gradient(function: Callable[..., jax.Array], arguments: list[jax.Array]) -> Callable[..., tuple[jax.Array, ...]]:
    """Returns the compiled gradient of an operation: a function of a cotangent and the operation's arguments.

    Args:
      function: the operation.
      arguments: arrays of the shapes to compile for.
    """
    cotangent = jax.eval_shape(function, *arguments)
    derivative = jax.jit(lambda grad, *inputs: jax.vjp(function, *inputs)[1](grad))
    return derivative.lower(cotangent, *arguments).compile()


def processor_seconds(compiled: Callable[..., tuple[jax.Array, ...]], arguments: list[jax.Array]) -> float:
    """Returns the processor time of one call over all threads, seconds.

    Args:
      compiled: a compiled function.
      arguments: its arguments.
    """
    start = time.process_time()
    jax.block_until_ready(compiled(*arguments))
    return time.process_time() - start


def measure(case: Case) -> tuple[float, float]:
    """Returns the least processor time of the gradient, seconds: ours and the derived one, measured in turn.

    Raises:
      AssertionError: the two gradients differ.
    """
    keys = jax.random.split(jax.random.key(0), len(case.shapes) + 1)
    arguments = [jax.random.normal(key, shape) for key, shape in zip(keys[1:], case.shapes, strict=True)]
    shape = jax.eval_shape(case.ours, *arguments).shape
    inputs = [jax.random.normal(keys[0], shape), *arguments]
    ours, plain = gradient(case.ours, arguments), gradient(case.plain, arguments)
    for found, expected in zip(ours(*inputs), plain(*inputs), strict=True):
        # Sums of up to 400,000 products in another order.
        chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-4 * float(jnp.abs(expected).max()))
    times = [[processor_seconds(compiled, inputs) for compiled in (ours, plain)] for _ in range(REPEATS)]
    return tuple(min(column) for column in zip(*times, strict=True))


def main() -> None:
    """Measures every case and prints a table."""
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    heap.keep_freed_memory()  # as in training
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, processor time, best of {REPEATS}, milliseconds")
    print("| Operation | By hand | Derived | Derived / by hand |\n| --- | --- | --- | --- |")
    for case in CASES:
        ours, plain = measure(case)
        print(f"| {case.name} | {1000 * ours:.1f} | {1000 * plain:.1f} | {plain / ours:.1f} |", flush=True)


if __name__ == "__main__":
    main()
