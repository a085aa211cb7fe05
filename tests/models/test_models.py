"""The segmentation networks: shapes, input, wiring of the skips, sizes that do not fit, number types."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.config import ModelConfig
from jaxseg.models import create_model
from jaxseg.models.colour import shades_of_gray
from jaxseg.models.resnet import _ResNet50Tiny, _ResNet50V2Tiny
from jaxseg.models.unet import ResNetUNet, UNet

TINY = {
    "resnet50v2": ResNetUNet(encoder=_ResNet50V2Tiny(), decoder_channels=(8, 8, 8, 4, 4)),
    "resnet50": ResNetUNet(encoder=_ResNet50Tiny(), decoder_channels=(8, 8, 8, 4, 4)),
    "none": UNet(channels=(4, 8, 8)),
}


@pytest.fixture(scope="module", params=TINY)
def network(request):
    """Returns a small network, its variables with nothing at its initial zero, an image batch, and its prediction."""
    model = TINY[request.param]
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    variables = jax.jit(lambda k: model.init(k, images, train=False))(jax.random.key(0))
    # One function for all tests, so that each kind of images is compiled once.
    return model, variables, images, jax.jit(functools.partial(model.apply, train=False))


def test_logits_are_float32_per_pixel(network):
    """If broken, the size or type of the logits differs from the contract's float32 [B, H, W, 1]."""
    _, variables, images, predict = network
    logits = predict(variables, images)
    chex.assert_shape(logits, (2, 64, 96, 1))
    assert logits.dtype == jnp.float32
    chex.assert_tree_all_finite(logits)


def test_uint8_and_float_images_are_the_same(network):
    """If broken, uint8 arithmetic wraps in the normalisation, or float images are normalised twice."""
    _, variables, images, predict = network
    # Two programs: XLA may fuse the conversion from uint8, which moves logits of about 1 by rounding.
    logits, from_floats = (predict(variables, x) for x in (images, images.astype(np.float32)))
    np.testing.assert_allclose(logits, from_floats, rtol=1e-4, atol=1e-4)


def test_every_parameter_matters(network):
    """If broken, a skip or a layer is not connected; its parameters would have no gradient."""
    model, variables, images, _ = network

    def loss(params):
        logits = model.apply({**variables, "params": params}, images, train=False)
        return jnp.sum(logits * jax.random.normal(jax.random.key(1), logits.shape))

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    dead = [jax.tree_util.keystr(p) for p, g in jax.tree_util.tree_leaves_with_path(gradients) if not jnp.any(g)]
    assert not dead


def test_a_size_that_does_not_fit_names_the_size_to_use():
    """If broken, an image of odd size fails deep in the decoder with an uninformative message about shapes."""
    with pytest.raises(
        ValueError, match="100 x 64 pixels: both sides must be multiples of 32; pad or resize to 128 x 64"
    ):
        jax.eval_shape(lambda: TINY["resnet50v2"].init(jax.random.key(0), jnp.zeros((1, 100, 64, 3)), train=False))
    with pytest.raises(ValueError, match=r"must be \[B, H, W, 3\], RGB"):
        jax.eval_shape(lambda: TINY["none"].init(jax.random.key(0), jnp.zeros((1, 64, 64, 1)), train=False))


@pytest.mark.parametrize(
    ("encoder", "parameters"), [("resnet50v2", 28_204_417), ("resnet50", 30_549_761), ("none", 31_049_409)]
)
def test_configured_networks_have_the_documented_size(encoder, parameters):
    """If broken, the configured network is not the documented one; the counts include batch-norm statistics."""
    model = create_model(ModelConfig(encoder=encoder))
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
    shapes = jax.eval_shape(lambda k, x: model.init(k, x, train=False), jax.random.key(0), images)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


def test_decoder_widths_and_skips_are_the_papers():
    """If broken, the decoder's channels are reversed, or a skip joins at the wrong stage."""
    model = create_model(ModelConfig())
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
    params = jax.eval_shape(lambda k, x: model.init(k, x, train=False), jax.random.key(0), images)["params"]
    for i, (channels, skip) in enumerate(zip((256, 128, 64, 32, 16), (256, 128, 64, 64, 0), strict=True), start=1):
        assert params[f"decoder{i}"]["block"]["conv1"]["kernel"].shape == (3, 3, channels + skip, channels)


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    """If broken, a bfloat16 run stores its weights or running averages in 8 bits and stops learning."""
    model = TINY["resnet50v2"].clone(dtype=jnp.bfloat16, encoder=_ResNet50V2Tiny(dtype=jnp.bfloat16))
    images = jnp.zeros((1, 32, 32, 3), jnp.uint8)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, updates = jax.eval_shape(
        lambda v: model.apply(v, images, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}),
        variables,
    )
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}


def test_dropout_only_in_training(network):
    """If broken, predictions are random, or training never drops anything."""
    model, variables, images, _ = network

    @jax.jit
    def train(key):
        return model.apply(variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key})[0]

    first, second = jax.random.key(0), jax.random.key(1)
    assert not np.array_equal(train(first), train(second))
    np.testing.assert_array_equal(train(first), train(first))


def test_colour_constancy_is_part_of_the_network(network):
    """If broken, a network trained on corrected colours predicts from uncorrected ones, or the setting does nothing."""
    plain, variables, images, predict = network
    constant = plain.clone(colour_constancy="shades_of_gray")
    apply = jax.jit(lambda x: constant.apply(variables, x, train=False))
    uncorrected = functools.partial(predict, variables)
    images = images * np.array([1.0, 0.7, 0.5], np.float32)
    logits = apply(images)
    # One program or two: rounding moves the correction in the last bit.
    np.testing.assert_allclose(logits, uncorrected(shades_of_gray(images)), atol=1e-3)
    np.testing.assert_allclose(logits[::-1], apply(images[::-1]), atol=1e-3)  # every image is corrected separately
    assert np.abs(np.asarray(logits - uncorrected(images))).max() > 0.01


@pytest.mark.parametrize("encoder", ["resnet50v2", "none"])
def test_colour_constancy_is_a_setting(encoder):
    """If broken, the setting is accepted and has no effect."""
    assert create_model(ModelConfig(encoder=encoder)).colour_constancy == "none"
    config = ModelConfig(encoder=encoder, colour_constancy="shades_of_gray")
    assert create_model(config).colour_constancy == "shades_of_gray"
