"""The encoders, weight files, losses, optimiser and the whole recipe against Keras itself, on its JAX backend.

Needs `pip install -e '.[test,keras]'`; skipped without. The same comparisons with stored results, without Keras, are in
`test_resnet.py`, `test_weights.py`, `test_losses.py` and `test_optim.py`.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.parity.reference import recipe
from jaxseg import weights
from jaxseg.models import layers, resnet

keras = pytest.importorskip("keras", reason="needs Keras: pip install -e '.[test,keras]'")
from experiments.parity.reference import keras_measures as measures  # noqa: E402  it imports keras
from experiments.parity.reference import keras_recipe  # noqa: E402

# Keras' own warnings, as of the HDF5 format being legacy, are not ours to mend.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
for_both = pytest.mark.parametrize("encoder", measures.ENCODERS)


@pytest.mark.parametrize("shape", [(2, 224, 224, 3), recipe.IMAGE_SHAPE])
@for_both
def test_features(encoder, shape):
    """If broken, any difference in the networks; it would show at one of the five taps."""
    errors = measures.features(encoder, shape)
    # 53 layers of float32 sums in another order: measured 3e-6.
    assert max(errors.values()) < 1e-4, errors


@for_both
def test_batch_statistics_after_one_step(encoder):
    """If broken, another momentum than 0.99, or the unbiased variance where Keras keeps the biased."""
    errors = measures.batch_statistics(encoder)
    assert max(errors.values()) < 1e-4, max(errors, key=errors.get)


@for_both
def test_gradients(encoder):
    """If broken, a layer is detached or used twice. Of a loss on all taps, for every parameter."""
    errors = measures.gradients(encoder)
    # In float64; the parameters and what is compared are float32.
    assert max(errors.values()) < 1e-5, max(errors, key=errors.get)


@for_both
def test_parameter_counts_and_layer_order(encoder):
    """If broken, files without names. Keras' loader goes by the order of the layers, and so does ours without names."""
    mine, theirs = measures.parameters(encoder)
    assert mine == theirs
    model = measures.reference.keras_encoder(encoder)
    names = [f"{layer.name}/{w.name}" for layer in model.layers for w in layer.weights]
    assert [t.keras_key for t in weights.expected_tensors(encoder)] == names


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("name", measures.FILES)
@for_both
def test_files_that_keras_writes(tmp_path, encoder, name, top):
    """If broken, what a user saves in Keras does not arrive, every tensor, whichever way it was saved."""
    assert measures.file_from_keras(tmp_path, encoder, name, top) == 0


@for_both
def test_keras_loads_what_is_written_for_it(tmp_path, encoder):
    """If broken, an encoder fine-tuned here cannot go back."""
    assert measures.file_to_keras(tmp_path, encoder) == 0


def test_layers_and_preprocessing():
    """If broken, the transposed convolution's kernel is not Keras' with its last axes swapped; or the images' scale."""
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


@pytest.mark.parametrize(("alpha", "gamma"), [(0.8, 2.0), (0.25, 1.0), (0.5, 0.0)])
def test_class_balanced_focal_loss(alpha, gamma):
    """If broken, alpha weights skin, gamma focuses otherwise, or the mean is over other pixels than Keras'."""
    errors = measures.focal_loss(alpha, gamma)
    # Ours is float32, Keras' side float64.
    assert max(errors.values()) < 1e-6, errors


def test_schedules():
    """If broken, learning rate, stop or best epoch differ in one of thousands of sequences, ties and NaN among them."""
    assert measures.schedule_mismatches(2000) == {"learning rates": 0, "stop": 0, "best epoch": 0}


def test_adam():
    """If broken, epsilon or the moments are not Keras', for gradients from 1e-11 to 10."""
    # Measured 1e-5 of one step, after 300 float32 additions.
    assert measures.adam() < 1e-4


def test_the_whole_recipe(tmp_path):
    """If broken, any of model, loss, gradient, statistics, Adam, or how the step joins them, over 20 steps in float64.

    Differences grow from 1e-16 as chaos makes them, to 1e-11; a real one, as of an epsilon of 1e-7, would show.
    """
    losses = keras_recipe.run_apart("float64", tmp_path / "losses.json")
    mine, theirs = np.array(losses["jaxseg"]), np.array(losses["keras"])
    assert mine.shape == (keras_recipe.STEPS,)
    np.testing.assert_allclose(mine, theirs, rtol=1e-9)
    assert theirs[-5:].mean() < theirs[:5].mean()
