"""Measures the differences between jaxseg and Keras, one function each. Needs Keras.

`tests/experiments/test_keras_parity.py` asserts on the results, and `python -m experiments.parity` writes their table.
Differences are relative to the largest value, or norm, of Keras' tensor.
"""

import functools
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np

from experiments.parity.reference import keras_optim, recipe, schedules
from experiments.parity.reference import make_keras_reference as reference
from jaxseg import losses, weights
from jaxseg.models import resnet

ENCODERS = ("resnet50v2", "resnet50")
FILES = ("w.weights.h5", "w.h5", "nested.weights.h5", "nameless.weights.h5")
"""Files for `file_from_keras`: Keras 3's layout, its old layout, a model within a model, and a file without names."""


@functools.cache
def keras_results(encoder: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns `reference.run`, which takes half a minute."""
    return reference.run(encoder)


@functools.cache
def variables_of(encoder: str) -> weights.Variables:
    """Returns the recipe's weights as jaxseg nests them."""
    variables = {"params": {}, "batch_stats": {}}
    for t in weights.expected_tensors(encoder):
        variables[t.collection].setdefault(t.layer, {})[t.name] = recipe.weight(t.layer, t.variable, t.shape)
    return variables


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the largest difference of two arrays of one shape, as a share of the largest value of the second.

    Args:
      ours: jaxseg's values.
      theirs: Keras' values.
    """
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def features(encoder: str, shape: tuple[int, ...]) -> dict[str, float]:
    """Returns the difference of each feature map.

    Args:
      encoder: name of the network.
      shape: shape of the images, [B, H, W, 3].
    """
    images = recipe.images(encoder, shape)
    model = reference.keras_features(reference.keras_encoder(encoder), encoder)
    theirs = model.predict(images, verbose=0)
    mine = jax.jit(resnet.ENCODERS[encoder]().apply)(variables_of(encoder), images)
    assert tuple(mine) == reference.TAPS[encoder]
    return {tap: relative_error(values, theirs[tap]) for tap, values in mine.items()}


def batch_statistics(encoder: str) -> dict[str, float]:
    """Returns the difference of each running mean and variance after one step of training."""
    step = functools.partial(resnet.ENCODERS[encoder]().apply, train=True, mutable=["batch_stats"])
    updated = jax.jit(step)(variables_of(encoder), recipe.images(encoder))[1]
    theirs = keras_results(encoder)["stats"]
    stats = [t for t in weights.expected_tensors(encoder) if t.collection == "batch_stats"]
    assert {t.keras_key for t in stats} == set(theirs)
    return {t.keras_key: relative_error(t.of(updated), theirs[t.keras_key]) for t in stats}


def gradients(encoder: str) -> dict[str, float]:
    """Returns, in float64 (`reference.run` says why), the difference of each parameter's gradient over its norm."""
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
    return {
        t.keras_key: float(
            np.linalg.norm(t.of({"params": grads}) - theirs[t.keras_key]) / np.linalg.norm(theirs[t.keras_key])
        )
        for t in params
    }


def parameters(encoder: str) -> tuple[int, int]:
    """Returns jaxseg's and Keras' number of parameters, without top."""
    mine = sum(int(np.prod(t.shape)) for t in weights.expected_tensors(encoder))
    return mine, reference.keras_encoder(encoder).count_params()


def file_from_keras(folder: Path, encoder: str, name: str, top: bool) -> int:
    """Has Keras write a file, and returns the number of tensors that jaxseg reads differently.

    Args:
      folder: where to write.
      encoder: name of the network.
      name: name of the file, one of `FILES`.
      top: whether the network has its classification layers.
    """
    model = reference.keras_encoder(encoder, top)
    if name == "nested.weights.h5":
        inputs = keras.Input((224, 224, 3))
        model = keras.Model(inputs, keras.layers.Dense(2)(model(keras.layers.Conv2D(3, 1)(inputs))))
    path = folder / name
    model.save(path) if name == "w.h5" else model.save_weights(path)
    if name == "nameless.weights.h5":
        with h5py.File(path, "r+") as file:
            file["layers"].visititems(lambda _, item: item.attrs.pop("name", None) and None)
    loaded, expected = weights.load_keras(path, encoder), variables_of(encoder)
    return sum(not np.array_equal(t.of(loaded), t.of(expected)) for t in weights.expected_tensors(encoder))


def file_to_keras(folder: Path, encoder: str) -> int:
    """Has jaxseg write a file, and returns the number of tensors that Keras reads differently.

    Args:
      folder: where to write.
      encoder: name of the network.
    """
    weights.save_keras(folder / "w.h5", variables_of(encoder), encoder)
    model = {"resnet50v2": keras.applications.ResNet50V2, "resnet50": keras.applications.ResNet50}[encoder](
        weights=str(folder / "w.h5"), include_top=False
    )
    pairs = [(layer.name, w) for layer in model.layers for w in layer.weights]
    return sum(not np.array_equal(w, recipe.weight(name, w.name, tuple(w.shape))) for name, w in pairs)


def focal_loss(alpha: float = 0.8, gamma: float = 2.0) -> dict[str, float]:
    """Returns the differences of the class-balanced loss per pixel, of its mean and of its gradient.

    Keras' side is in float64, as its `1 - p` loses digits in float32: 4e-5 at a logit of 8. Logits are within 8 of
    zero, as Keras clips probabilities at 1e-7: beyond 16 its loss stays, where equation 2 goes on.

    Args:
      alpha: factor of lesion pixels; skin has 1 - alpha.
      gamma: exponent of the focus.
    """
    shape = (4, 32, 32, 1)
    logits, targets = recipe.draw("logits", shape, -8, 8), (recipe.draw("targets", shape) > 0.4).astype(np.float32)
    settings = {"alpha": alpha, "gamma": gamma}

    def theirs(z, reduction="sum_over_batch_size"):
        loss = keras.losses.BinaryFocalCrossentropy(
            apply_class_balancing=True, from_logits=True, reduction=reduction, dtype="float64", **settings
        )
        return loss(targets.astype(np.float64), z)

    def mine(z, reduction="mean"):
        return losses.focal_loss(z, targets, class_balanced=True, reduction=reduction, **settings)

    with jax.enable_x64(True):
        exact = logits.astype(np.float64)
        pixels, mean, gradient = (np.asarray(f(exact)) for f in (lambda z: theirs(z, None), theirs, jax.grad(theirs)))
    return {
        "pixels": relative_error(mine(logits, "none")[..., 0], pixels),
        "mean": relative_error(mine(logits), mean),
        "gradient": relative_error(jax.grad(mine)(logits), gradient),
    }


def equation_2() -> float:
    """Returns the largest relative difference of the focal loss from equation 2 in float64, logits -60 to 60."""
    logits, worst = np.linspace(-60, 60, 4801, dtype=np.float32), 0.0
    for target in (0, 1):
        targets = np.full(logits.shape, target)
        exact = recipe.equation_2(logits, targets, 0.8, 2.0)
        mine = np.asarray(losses.focal_loss(logits, targets, reduction="none"), np.float64)
        kept = exact > 1e-37  # below, float32 has no digits
        worst = max(worst, float((np.abs(mine - exact) / exact)[kept].max()))
    return worst


def schedule_mismatches(count: int) -> dict[str, int]:
    """Returns in how many of `count` sequences learning rates, stop and best epoch differ, to the last digit."""
    model, wrong = keras_optim.model_of_one_weight(), {"learning rates": 0, "stop": 0, "best epoch": 0}
    for seed in range(count):
        case = schedules.case(seed)
        for name, mine, theirs in zip(
            wrong, schedules.schedule(*case), keras_optim.schedule(model, *case), strict=True
        ):
            wrong[name] += mine != theirs
    return wrong


def adam(steps: int = schedules.STEPS) -> float:
    """Returns the largest difference of parameters after any of the steps, as a share of the learning rate."""
    grads = schedules.gradients(steps)
    return float(np.abs(schedules.adam(grads) - keras_optim.adam(grads)).max() / 1e-4)
