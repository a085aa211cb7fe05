"""Gradients written by hand equal those that JAX derives from the plain form."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.models import ops, winograd

RNG = np.random.default_rng(0)


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def assert_same(ours, plain, *inputs: jax.Array) -> None:
    """Compares two functions' values, and their gradients along a random direction by every input."""
    direction = normal(*jax.eval_shape(plain, *inputs).shape)

    @functools.partial(jax.jit, static_argnums=0)  # each operation by itself would be compiled by itself
    def both(function, direction, *inputs):
        value, back = jax.vjp(function, *inputs)
        return value, back(direction)

    (value, gradients), (expected, plain_gradients) = (both(f, direction, *inputs) for f in (ours, plain))
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-5)
    for got, want in zip(gradients, plain_gradients, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)  # sums of some hundred products in another order


@pytest.mark.parametrize(("channels", "features"), [(3, 17), (17, 3), (8, 8), (16, 1)])
def test_matmul(channels, features):
    """If broken, 1x1 and transposed convolutions get a wrong gradient where they widen, or where they narrow."""
    assert_same(ops.matmul, jnp.dot, normal(2, 5, 4, channels), normal(channels, features))


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolve(size, stride):
    """If broken, a stride or the border, off by a pixel, is lost in the gradient."""
    channels, features = 3, 16

    def plain(x, kernel):
        pad = size // 2
        padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        return nn.Conv(features, (size, size), stride, padding="VALID", use_bias=False).apply(
            {"params": {"kernel": kernel}}, padded
        )

    x, kernel = normal(2, 9, 12, channels), normal(size, size, channels, features)
    assert_same(lambda x, kernel: ops.convolve(x, kernel, stride), plain, x, kernel)


@pytest.mark.parametrize(("size", "channels", "features"), [((6, 8), 64, 64), ((7, 5), 128, 144), ((1, 2), 136, 128)])
def test_convolve_with_fewer_products(size, channels, features, monkeypatch):
    """If broken, a tile's pixels are exchanged, an odd side's last ones are lost, or images of another chunk are."""
    monkeypatch.setattr(winograd, "CHUNK_BYTES", 4 * size[0] * size[1] * max(channels, features) * 4 * 2)  # two images
    kernel = normal(3, 3, channels, features) / 3 / channels**0.5
    assert winograd.suits((6, *size, channels), kernel, 1)
    assert winograd.suits_gradient_by_kernel(kernel, 1)

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert_same(ops.convolve, plain, normal(6, *size, channels), kernel)


@pytest.mark.parametrize(("kernel", "stride"), [((3, 3, 64, 64), 2), ((1, 1, 64, 64), 1), ((3, 3, 63, 64), 1)])
def test_other_convolutions_stay_direct(kernel, stride):
    """If broken, a stride or a kernel for which the tiles are not made is convolved by them."""
    shape = (2, 8, 8, kernel[2])
    assert not winograd.suits(shape, jax.ShapeDtypeStruct(kernel, jnp.float32), stride)
    assert not winograd.suits(shape, jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.bfloat16), 1)


@pytest.mark.parametrize(("side", "channels"), [(224, 64), (112, 32)])
def test_large_maps_of_few_channels_have_fewer_products_for_the_kernel_alone(side, channels):
    """If broken, their values take tiles that no cache holds, or the gradient by the kernel XLA's slow program."""
    kernel = jax.ShapeDtypeStruct((3, 3, channels, channels), jnp.float32)
    assert not winograd.suits((2, side, side, channels), kernel, 1)
    assert winograd.suits_gradient_by_kernel(kernel, 1)
    x = jax.ShapeDtypeStruct((2, side, side, channels), jnp.float32)
    gradients = jax.jit(jax.grad(lambda x, kernel: ops.convolve(x, kernel).sum(), argnums=(0, 1)))
    program = gradients.trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    assert program.count("stablehlo.convolution") == 1  # the gradient by the input


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "left"),
    [(6, (3, 3, 128, 128), 1, 0), (8, (7, 7, 3, 16), 2, 1), (8, (3, 3, 3, 16), 1, 1)],
)
def test_programs_for_cpus_stay_there(side, kernel, stride, left):
    """If broken, a GPU or TPU, whose library chooses among such algorithms itself, gets the one made for CPUs.

    Args:
      side: of the images, pixels.
      kernel: shape of the kernel.
      stride: step in both directions, pixels.
      left: how many of the two gradients are direct convolutions on a CPU, too.
    """
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, side, side, kernel[2]), kernel)]

    def gradients(x, kernel):
        return jax.grad(lambda x, kernel: ops.convolve(x, kernel, stride).sum(), argnums=(0, 1))(x, kernel)

    traced = jax.jit(gradients).trace(*shapes)
    count = {p: traced.lower(lowering_platforms=(p,)).as_text().count("stablehlo.convolution") for p in ("cpu", "tpu")}
    assert count == {"cpu": left, "tpu": 2}  # without the value, which the gradients do not need


def plain_max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), strides=(2, 2), padding="VALID")


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (8, 5), (1, 1), (2, 3)])
def test_max_pool(size):
    """If broken, even or odd rows and columns get their neighbour's gradient, or the edge of an odd image is lost."""
    assert_same(ops.max_pool, plain_max_pool, normal(2, *size, 3))


def test_max_pool_gives_ties_to_the_first():
    """If broken, all equal maxima, such as zeros after a ReLU, get the gradient, which is counted several times."""
    tied = jnp.asarray(RNG.integers(-1, 2, (2, 9, 8, 4)), jnp.float32)
    assert_same(ops.max_pool, plain_max_pool, tied)


@pytest.mark.parametrize("values", [normal(2, 6, 8, 3), jnp.asarray(RNG.integers(-1, 2, (2, 6, 8, 4)), jnp.float32)])
def test_max_pool_2x2(values):
    """If broken, a pixel of the four gets its neighbour's gradient, or equal maxima get it more than once."""
    assert_same(ops.max_pool_2x2, lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)), values)


def test_under_vmap():
    """If broken, networks trained together under vmap get gradients that differ from those of each alone."""
    x, kernels = normal(3, 2, 6, 6, 4), normal(3, 3, 3, 4, 4)

    def loss(x, kernel):
        return (ops.max_pool(ops.matmul(ops.convolve(x, kernel), kernel[0, 0])) ** 2).sum()

    together, alone = jax.jit(jax.vmap(jax.grad(loss, argnums=1)))(x, kernels), jax.jit(jax.grad(loss, argnums=1))
    for i in range(3):
        np.testing.assert_allclose(together[i], alone(x[i], kernels[i]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("channels", "features", "stride"), [(3, 8, 1), (3, 8, 2), (128, 128, 1)])
def test_convolve_under_vmap(channels, features, stride):
    """If broken, networks that share their images get each other's gradients, or a sum of all."""
    x, kernels = normal(2, 7, 6, channels), normal(3, 3, 3, channels, features) / channels

    def loss(x, kernel):
        return (ops.convolve(x, kernel, stride) ** 2).sum()

    both = jax.jit(jax.grad(loss, argnums=(0, 1)))
    by_x, by_kernel = jax.jit(jax.vmap(both, in_axes=(None, 0)))(x, kernels)
    for i, kernel in enumerate(kernels):
        expected = both(x, kernel)
        np.testing.assert_allclose(by_x[i], expected[0], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(by_kernel[i], expected[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("devices", [1, 4])
def test_batch_norm(devices):
    """If broken, a sum over the batch is missing from the gradient, or covers one device's share only."""

    def ours(x, scale, bias):
        return ops.batch_norm(x, scale, bias, 1e-3, jnp.float32, "batch")[0]

    def plain(x, scale, bias):
        mean, square = jax.lax.pmean((x.mean((0, 1, 2)), (x * x).mean((0, 1, 2))), "batch")
        return (x - mean) / jnp.sqrt(square - mean * mean + 1e-3) * scale + bias

    x, direction = 2 + normal(devices, 3, 5, 4, 6), normal(devices, 3, 5, 4, 6)
    scale, bias = normal(6), normal(6)

    def both(function, x, direction):  # on one device, as a step differentiates
        value, back = jax.vjp(function, x, scale, bias)
        return value, back(direction)

    got, want = (
        jax.jit(jax.vmap(functools.partial(both, function), axis_name="batch"))(x, direction)
        for function in (ours, plain)
    )
    chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-4)
