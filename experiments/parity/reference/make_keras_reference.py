"""Writes `keras_reference.npz`: results of Keras' ResNet50V2 and ResNet50 with the weights of `recipe`.

    python -m experiments.parity.reference.make_keras_reference      (needs `.[keras]`; a minute on two CPU cores)

The committed file was made with Keras 3.15.1 on its JAX 0.10.2 backend. It keeps for each encoder a sample of every
feature map with its mean and standard deviation, the batch statistics after one training step, and a sample and the
norm of every parameter's gradient. Expect a file of 35 kB.
"""

import functools
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np

from experiments.parity.reference import recipe
from experiments.parity.reference.keras_network import ENCODERS, TAPS

PATH = Path(__file__).with_name("keras_reference.npz")


def keras_encoder(name: str, top: bool = False) -> keras.Model:
    """Returns Keras' network with the weights of the recipe.

    Args:
      name: name of the network.
      top: whether it has its classification layers.
    """
    model = ENCODERS[name](weights=None, include_top=top)
    for layer in model.layers:
        layer.set_weights([recipe.weight(layer.name, w.name, tuple(w.shape)) for w in layer.weights])
    return model


def keras_features(model: keras.Model, name: str) -> keras.Model:
    """Returns a model of the network's feature maps, by name.

    Args:
      model: network of `keras_encoder`.
      name: name of the network.
    """
    return keras.Model(model.input, {tap: model.get_layer(tap).output for tap in TAPS[name]})


def by_key(model: keras.Model, variables: list[keras.Variable], values: list) -> dict[str, np.ndarray]:
    """Returns values by layer and variable, as `conv1_bn/gamma`.

    Args:
      model: network that has the variables.
      variables: variables.
      values: value of each variable.
    """
    keys = {id(w): f"{layer.name}/{w.name}" for layer in model.layers for w in layer.weights}
    return {keys[id(v)]: np.asarray(value) for v, value in zip(variables, values, strict=True)}


def run(name: str, shape: tuple[int, ...] = recipe.IMAGE_SHAPE) -> dict[str, dict[str, np.ndarray]]:
    """Returns Keras' feature maps, batch statistics after one training step, and gradients of `recipe.loss`.

    Gradients are computed in float64: in float32 they jump by up to 1 in 1000 of their norm, from one number of threads
    to the next, wherever rounding takes a ReLU to the other side of zero.

    Args:
      name: name of the network.
      shape: shape of the images, [B, H, W, 3].
    """
    with jax.enable_x64(True):
        grads = _run(name, shape, "float64")["grads"]
    return {**_run(name, shape, "float32"), "grads": grads}


def _run(name: str, shape: tuple[int, ...], dtype: str) -> dict[str, dict[str, np.ndarray]]:
    keras.config.set_floatx(dtype)  # of parameters
    keras.config.set_dtype_policy(dtype)  # of layers; fixed at the first layer unless it is set too
    model = keras_encoder(name)
    features = keras_features(model, name)
    images = recipe.images(name, shape).astype(dtype)
    trained = [v.value for v in features.trainable_variables]
    state = [v.value for v in features.non_trainable_variables]

    # Everything is an argument: XLA would spend minutes on folding closed-over arrays into constants.
    def apply(trained, state, images, *, train):
        return features.stateless_call(trained, state, images, training=train)

    def loss(trained, state, images):
        return recipe.loss(apply(trained, state, images, train=False)[0])

    maps, _ = jax.jit(functools.partial(apply, train=False))(trained, state, images)
    _, stats = jax.jit(functools.partial(apply, train=True))(trained, state, images)
    grads = jax.jit(jax.grad(loss))(trained, state, images)
    return {
        "maps": {tap: np.asarray(map_) for tap, map_ in maps.items()},
        "stats": by_key(model, features.non_trainable_variables, stats),
        "grads": by_key(model, features.trainable_variables, grads),
    }


def main() -> None:
    """Writes the reference."""
    kept = {}
    for name in TAPS:
        result = run(name)
        for tap, values in result["maps"].items():
            kept[f"{name}/maps/{tap}"] = recipe.sample(values, recipe.SAMPLES)
            kept[f"{name}/moments/{tap}"] = np.array([values.mean(), values.std(), np.abs(values).max()], np.float32)
        stats, grads = sorted(result["stats"]), sorted(result["grads"])
        kept[f"{name}/stats_keys"], kept[f"{name}/grads_keys"] = np.array(stats), np.array(grads)
        kept[f"{name}/stats"] = np.stack([recipe.sample(result["stats"][key], 8) for key in stats])
        kept[f"{name}/grads"] = np.stack([recipe.sample(result["grads"][key], 8) for key in grads])
        norms = [np.linalg.norm(result["grads"][key].astype(np.float64)) for key in grads]
        kept[f"{name}/grad_norms"] = np.array(norms, np.float32)
    np.savez_compressed(PATH, **kept)
    print(f"{PATH}: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
