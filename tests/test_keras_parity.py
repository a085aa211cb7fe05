"""The encoders and their weight files against Keras itself, on its JAX backend. Needs `pip install keras`.

The same comparison with stored results, without Keras, is in `test_resnet.py`.
"""

import functools
import os

os.environ["KERAS_BACKEND"] = "jax"

import chex
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import recipe

from jaxseg import weights
from jaxseg.models import layers, resnet

keras = pytest.importorskip("keras", reason="needs `pip install keras`")
from reference import make_keras_reference as reference  # noqa: E402  it imports keras

ENCODERS = ("resnet50v2", "resnet50")
# Keras' own warnings, as of the HDF5 format being legacy, are not ours to mend.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@functools.cache
def keras_results(encoder):
    return reference.run(encoder)


@functools.cache
def variables_of(encoder):
    variables = {"params": {}, "batch_stats": {}}
    for t in weights.expected_tensors(encoder):
        variables[t.collection].setdefault(t.layer, {})[t.name] = recipe.weight(t.layer, t.variable, t.shape)
    return variables


def relative_error(mine, theirs):
    """Returns the largest difference as a share of the largest value."""
    return float(np.abs(mine - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("shape", [(2, 224, 224, 3), recipe.IMAGE_SHAPE])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_features(encoder, shape, record_property):
    """Any difference in the networks would show at one of the five taps."""
    images = recipe.images(encoder, shape)
    model = reference.keras_features(reference.keras_encoder(encoder), encoder)
    theirs = model.predict(images, verbose=0)
    mine = jax.jit(resnet.ENCODERS[encoder]().apply)(variables_of(encoder), images)
    assert tuple(mine) == reference.TAPS[encoder]
    for tap, values in mine.items():
        record_property(tap, relative_error(values, theirs[tap]))
        assert relative_error(values, theirs[tap]) < 1e-4, tap


@pytest.mark.parametrize("encoder", ENCODERS)
def test_batch_statistics_after_one_step(encoder):
    """Keras keeps the biased variance, at momentum 0.99."""
    step = functools.partial(resnet.ENCODERS[encoder]().apply, train=True, mutable=["batch_stats"])
    updated = jax.jit(step)(variables_of(encoder), recipe.images(encoder))[1]
    theirs = keras_results(encoder)["stats"]
    stats = [t for t in weights.expected_tensors(encoder) if t.collection == "batch_stats"]
    assert {t.keras_key for t in stats} == set(theirs)
    for t in stats:
        assert relative_error(t.of(updated), theirs[t.keras_key]) < 1e-4, t.keras_key


@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradients(encoder, record_property):
    """Of a loss on all taps, for every parameter, in float64 (`reference.run` says why)."""
    params = [t for t in weights.expected_tensors(encoder) if t.collection == "params"]
    variables = variables_of(encoder)
    with jax.enable_x64(True):
        apply = resnet.ENCODERS[encoder](dtype=jnp.float64).apply

        def loss(params, stats, images):
            return recipe.loss(apply({"params": params, "batch_stats": stats}, images))

        images = recipe.images(encoder).astype(np.float64)
        grads = jax.jit(jax.grad(loss))(variables["params"], variables["batch_stats"], images)
    theirs = keras_results(encoder)["grads"]
    assert {t.keras_key for t in params} == set(theirs)
    errors = {}
    for t in params:
        error = np.linalg.norm(t.of({"params": grads}) - theirs[t.keras_key]) / np.linalg.norm(theirs[t.keras_key])
        errors[t.keras_key] = float(error)
    record_property("worst", max(errors.values()))
    assert max(errors.values()) < 1e-5, max(errors, key=errors.get)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_parameter_counts_and_layer_order(encoder):
    """Keras' loader of layer-by-name files goes by the order of the layers, and so does ours without names."""
    model = reference.keras_encoder(encoder)
    tensors = weights.expected_tensors(encoder)
    assert sum(np.prod(t.shape) for t in tensors) == model.count_params()
    theirs = [f"{layer.name}/{w.name}" for layer in model.layers for w in layer.weights]
    assert [t.keras_key for t in tensors] == theirs


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("name", ["w.weights.h5", "w.h5", "nested.weights.h5", "nameless.weights.h5"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_files_that_keras_writes(tmp_path, encoder, name, top):
    """What a user saves in Keras must arrive, every tensor, whichever way it was saved."""
    model = reference.keras_encoder(encoder, top)
    if name == "nested.weights.h5":
        inputs = keras.Input((224, 224, 3))
        model = keras.Model(inputs, keras.layers.Dense(2)(model(keras.layers.Conv2D(3, 1)(inputs))))
    path = tmp_path / name
    model.save(path) if name == "w.h5" else model.save_weights(path)
    if name == "nameless.weights.h5":
        with h5py.File(path, "r+") as file:
            file["layers"].visititems(lambda _, item: item.attrs.pop("name", None) and None)
    chex.assert_trees_all_equal(weights.load_keras(path, encoder), variables_of(encoder))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_keras_loads_what_is_written_for_it(tmp_path, encoder):
    """An encoder fine-tuned here can go back."""
    weights.save_keras(tmp_path / "w.h5", variables_of(encoder), encoder)
    model = {"resnet50v2": keras.applications.ResNet50V2, "resnet50": keras.applications.ResNet50}[encoder](
        weights=str(tmp_path / "w.h5"), include_top=False
    )
    for layer in model.layers:
        for w in layer.weights:
            chex.assert_trees_all_equal(np.asarray(w), recipe.weight(layer.name, w.name, tuple(w.shape)))


def test_layers_and_preprocessing():
    """The transposed convolution's kernel is Keras' with its last axes swapped; images are normalised alike."""
    x, kernel, bias = recipe.draw("x", (2, 3, 5, 4)), recipe.draw("k", (2, 2, 4, 6)), recipe.draw("b", (6,))
    up = keras.layers.Conv2DTranspose(6, 2, strides=2)
    up.build(x.shape)
    up.set_weights([kernel.swapaxes(2, 3), bias])
    mine = layers.UpConv(6).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    chex.assert_trees_all_close(mine, np.asarray(up(x)), atol=1e-5)
    images = np.round(recipe.draw("images", (2, 5, 7, 3), 0, 255))
    for encoder, module in (("resnet_v2", resnet.ResNet50V2), ("resnet", resnet.ResNet50)):
        theirs = getattr(keras.applications, encoder).preprocess_input(images.copy())
        chex.assert_trees_all_close(module.preprocess(jnp.asarray(images)), np.asarray(theirs), atol=1e-4)
