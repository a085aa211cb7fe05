"""The paper's model and its training written in Keras, and the same training by jaxseg. Needs Keras.

Both start from the random weights of `recipe` and see the same batches, without augmentation and dropout, whose draws
no two libraries share. jaxseg's side is `Steps.train`, the step of every run.

    python -m experiments.parity.reference.keras_recipe float64 OUT.json      (two minutes on two CPU cores)

In float32 two correct implementations diverge within steps: a ReLU's input that rounds to the other side of zero
changes gradients by 1 in 1000, and Adam, which divides by the gradient's size, amplifies small gradients as much as
large ones. So the comparison runs in float64, in a separate process, because it replaces `jax.numpy.float32`. Expect
losses of both sides that differ by less than 1e-9 of their size.
"""

# ruff: noqa: E402  the type is chosen before the import of what uses it
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp

FLOAT64 = __name__ == "__main__" and sys.argv[1:2] == ["float64"]
if FLOAT64:
    # All of jaxseg computes in float32, by this name.
    jax.config.update("jax_enable_x64", True)
    jnp.float32 = jnp.float64

import keras
import numpy as np

from experiments.parity.reference import keras_network, recipe
from jaxseg.config import Config, ModelConfig
from jaxseg.models import create_model
from jaxseg.optim import create_optimizer
from jaxseg.steps import Steps, TrainState

SIZE, BATCH, STEPS = 64, 4, 20

CONFIG = Config().updated(
    {"data.image_size": SIZE, "augment.enabled": False, "model.dropout": 0.0, "train.batch_size": BATCH}
)
"""The paper's settings, except randomness and size."""


def batches() -> list[dict[str, np.ndarray]]:
    """Returns `STEPS` batches of noise with a brighter ellipse each, and its mask: something that can be learned."""
    grid = (np.arange(SIZE) + 0.5) / SIZE
    made = []
    for step in range(STEPS):
        x0, y0, width, height = recipe.draw(f"ellipses {step}", (4, BATCH, 1, 1, 1), 0.2, 0.8)
        inside = ((grid[:, None, None] - y0) / height) ** 2 + ((grid[None, :, None] - x0) / width) ** 2 < 0.3
        image = recipe.draw(f"noise {step}", (BATCH, SIZE, SIZE, 3), 0, 160) + 95 * inside
        made.append({"image": image.astype(np.uint8), "mask": inside.astype(np.uint8), "valid": np.ones(BATCH, bool)})
    return made


def names_in_jaxseg(layer: keras.Layer, variable: str) -> tuple[str, ...]:
    """Returns the path of a Keras variable among jaxseg's; names with hyphens are ours, the others its encoder's.

    Args:
      layer: Keras' name of the layer.
      variable: Keras' name of the variable.
    """
    name = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}.get(variable, variable)
    return (*(layer.name.split("-") if "-" in layer.name else ("encoder", layer.name)), name)


def initial_state(model: keras.Model) -> TrainState:
    """Gives the Keras model random weights and returns jaxseg's state of the same; every tensor is used, once."""
    values = {}
    for layer in model.layers:
        for w in layer.weights:
            value = recipe.weight(layer.name, w.name, tuple(w.shape)).astype(keras.config.floatx())
            w.assign(value)
            turned = layer.name.endswith("-up") and w.name == "kernel"
            values[names_in_jaxseg(layer, w.name)] = value.swapaxes(2, 3) if turned else value
    images = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.uint8)
    shapes = jax.eval_shape(functools.partial(create_model(CONFIG.model).init, train=False), jax.random.key(0), images)

    def take(path, shape):
        value = jnp.asarray(values.pop(tuple(key.key for key in path[1:])))
        assert value.shape == shape.shape, path
        return value

    variables = jax.tree.map_with_path(take, shapes)
    assert not values, f"not in jaxseg: {sorted(values)}"
    optimizer_state = create_optimizer(CONFIG.optim).init(variables["params"])
    return TrainState(jnp.zeros((), jnp.int32), variables["params"], variables["batch_stats"], optimizer_state)


def run() -> dict[str, list[float]]:
    """Trains both sides.

    Returns:
      The loss before each step, "jaxseg" and "keras".
    """
    if FLOAT64:
        from keras.src.backend.common import dtypes  # not public: Keras on JAX takes float64 for float32 in places

        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        # The settings do not offer this type, and would refuse it in every copy that is made of them.
        ModelConfig.__post_init__ = lambda self: None
        object.__setattr__(CONFIG.model, "dtype", "float64")
    model = keras_network.unet("resnet50v2", SIZE, CONFIG.model.decoder_channels)
    state = initial_state(model)
    model.compile(optimizer=keras.optimizers.Adam(CONFIG.optim.learning_rate), loss=keras_network.equation_2)

    steps = Steps(CONFIG, jax.local_devices()[:1])
    state, key = steps.replicate(state), steps.replicate(jax.random.key(1))
    rate = steps.replicate(jnp.float32(CONFIG.optim.learning_rate))
    mine, theirs = [], []
    for batch in batches():
        state, metrics = steps.train(state, steps.shard(batch), key, rate)
        mine.append(float(metrics["loss"]))
        masks = batch["mask"].astype(keras.config.floatx())
        model.reset_metrics()
        theirs.append(float(model.train_on_batch(batch["image"].astype(keras.config.floatx()), masks)))
    return {"jaxseg": mine, "keras": theirs}


def run_apart(dtype: str, output: Path) -> dict[str, list[float]]:
    """Returns what `run` returns in a new process, on one device.

    Args:
      dtype: "float32" or "float64".
      output: JSON file for the result.
    """
    command = [sys.executable, "-m", "experiments.parity.reference.keras_recipe", dtype, str(output)]
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    subprocess.run(command, cwd=Path(__file__).parents[3], env=environment, check=True, capture_output=True)
    return json.loads(output.read_text())


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(run()))
