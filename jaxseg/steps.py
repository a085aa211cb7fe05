"""The training, validation and prediction steps, and the one place where they are mapped over devices.

The steps are pure functions of state, batch and key. `Steps` binds what they need besides with `functools.partial`,
maps them with `jax.pmap` and places arrays on the devices.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct

from jaxseg.augment import augment
from jaxseg.config import Config
from jaxseg.losses import create_loss
from jaxseg.metrics import confusion, scores
from jaxseg.models import create_model
from jaxseg.optim import average, create_optimizer
from jaxseg.system.devices import (
    AXIS,
    CORE_BATCH,
    OnDevices,
    all_devices,
    check_batch_size,
    divisible,
    pick_devices,
)

__all__ = [
    "AXIS",
    "CORE_BATCH",
    "SYMMETRIES",
    "Batch",
    "OnDevices",
    "Steps",
    "TrainState",
    "all_devices",
    "check_batch_size",
    "create_train_state",
    "divisible",
    "eval_step",
    "pick_devices",
    "predict_step",
    "state_target",
    "train_step",
]

Batch = Mapping[str, jax.Array]
"""`image` uint8 [B, S, S, 3], `mask` uint8 {0, 1} [B, S, S, 1], `valid` bool [B]: false for padding."""


class TrainState(struct.PyTreeNode):
    """All that a training step changes.

    Attributes:
      step: int32 scalar, steps taken; with the root key it determines all randomness.
      params: the model's parameters, float32.
      batch_stats: running means and variances of batch norm, float32.
      opt_state: Adam's moments.
      averaged: moving averages of "params" and "batch_stats"; None, an empty tree, without `optim.ema`.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    averaged: Any = None

    @property
    def raw(self) -> dict[str, Any]:
        """What training goes on with, as the model's `apply` takes it."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def variables(self) -> dict[str, Any]:
        """What validation and inference take: the averages where there are any."""
        return self.raw if self.averaged is None else self.averaged


def create_train_state(key: jax.Array, config: Config, encoder_weights: Mapping[str, Any] | None = None) -> TrainState:
    """Initialises the model, on the default device.

    Args:
      key: a `jax.random` key, used for the model's initialisation.
      config: model and image size.
      encoder_weights: "params" and "batch_stats" of the encoder, as from `jaxseg.weights.load_keras`; the decoder keeps
        its random weights.

    Returns:
      The state before the first step.
    """
    state = _random_state(key, config=config)
    if encoder_weights is None:
        return state
    weights = {
        name: part | {"encoder": jax.tree.map(jnp.asarray, encoder_weights[name])} for name, part in state.raw.items()
    }
    # A copy, as both are donated to the first step.
    return state.replace(**weights, averaged=state.averaged and jax.tree.map(jnp.copy, weights))


# Runs once: to optimise the program would take twice as long as all the rest of it.
@functools.partial(jax.jit, static_argnames="config", compiler_options={"xla_backend_optimization_level": 0})
def _random_state(key: jax.Array, config: Config) -> TrainState:
    """Returns the state before the first step, of random weights."""
    model = create_model(config.model)
    size = config.data.image_size
    variables = model.lazy_init(key, jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8), train=False)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=create_optimizer(config.optim).init(variables["params"]),
        averaged=variables if config.optim.ema else None,
    )


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    learning_rate: jax.Array,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config: Config,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Augments one device's share of a batch, differentiates, averages over devices, updates.

    Args:
      state: the same on every device.
      batch: this device's share; all of it counts.
      key: the run's key for training, folded with the step and split for augmentation and dropout.
      learning_rate: float32 scalar.
      model: built with `axis_name=AXIS`, so that batch norm sees the whole batch.
      optimizer: Adam without learning rate, from `create_optimizer`.
      config: augmentation and loss.

    Returns:
      The new state, and "loss" (mean over the batch), "grad_norm" and "tp", "fp", "fn", "tn" (pixels of the batch, of
      the augmented images, with dropout on), all equal on every device.
    """
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
    first_example = jax.lax.axis_index(AXIS) * batch["image"].shape[0]
    images, masks = augment(augment_key, batch["image"], batch["mask"], config.augment, first_example=first_example)
    loss = create_loss(config.loss)

    def loss_fn(params):
        if config.optim.encoder_rate == 0:  # spares the backward pass through it
            params = params | {"encoder": jax.lax.stop_gradient(params["encoder"])}
        logits, updates = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        return loss(logits, masks), (logits, updates["batch_stats"])

    (value, (logits, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    # Devices hold equal shares, so the mean over AXIS of their means is the mean over the batch.
    value, grads = jax.lax.pmean((value, grads), AXIS)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = jax.tree.map(lambda p, u: p - learning_rate * u, state.params, updates)
    counts = jax.tree.map(jnp.sum, confusion(logits > 0, masks))
    metrics = {"loss": value, "grad_norm": optax.tree.norm(grads), **jax.lax.psum(counts, AXIS)}
    # Batch statistics are equal already: each batch norm averages its moments over AXIS.
    new = TrainState(state.step + 1, params, batch_stats, opt_state)
    if config.optim.ema:
        new = new.replace(averaged=average(state.averaged, new.raw, state.step, config.optim))
    return new, metrics


def eval_step(variables: Any, batch: Batch, *, model: nn.Module, config: Config) -> dict[str, jax.Array]:
    """Sums loss, scores and counts over the valid images of a batch.

    Args:
      variables: "params" and "batch_stats".
      batch: this device's share; padding has `valid` false.
      model: any; the running statistics are used.
      config: the loss.

    Returns:
      float32 sums over the images of all devices, to be divided by "images" when all batches are in: "images", "loss",
      the five scores per image; and the pooled pixel counts "tp", "fp", "fn", "tn", int32.
    """
    logits = model.apply(variables, batch["image"], train=False)
    loss = create_loss(config.loss)(logits, batch["mask"], reduction="none").mean(axis=(1, 2, 3))
    counts = confusion(logits > 0, batch["mask"])
    valid = batch["valid"]
    sums = {k: jnp.sum(jnp.where(valid, v, 0)) for k, v in {"loss": loss, **scores(counts), **counts}.items()}
    return jax.lax.psum({"images": jnp.sum(valid, dtype=jnp.float32), **sums}, AXIS)


def predict_step(variables: Any, images: jax.Array, *, model: nn.Module, tta: bool = False) -> jax.Array:
    """Maps images to probabilities.

    Args:
      variables: "params" and "batch_stats".
      images: uint8 [B, S, S, 3], RGB in [0, 255].
      model: any; the running statistics are used.
      tta: test-time augmentation: average over the eight symmetries of the square, at eight times the cost.

    Returns:
      float32 [B, S, S, 1], the probability of lesion in [0, 1].
    """

    def predict(images: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(model.apply(variables, images, train=False))

    if not tta:
        return predict(images)
    # One after the other, not as a batch of 8 B: the network takes no more memory than without.
    turned = jax.lax.map(predict, jnp.stack([_turned(images, *symmetry) for symmetry in SYMMETRIES]))
    return sum(_turned_back(p, *symmetry) for p, symmetry in zip(turned, SYMMETRIES, strict=True)) / len(SYMMETRIES)


SYMMETRIES = tuple((quarters, mirrored) for quarters in range(4) for mirrored in (False, True))
"""The symmetries of the square: quarter turns, of the image or of its mirror image."""


def _turned(images: jax.Array, quarters: int, mirrored: bool) -> jax.Array:
    return jnp.rot90(images[:, :, ::-1] if mirrored else images, quarters, axes=(1, 2))


def _turned_back(images: jax.Array, quarters: int, mirrored: bool) -> jax.Array:
    images = jnp.rot90(images, -quarters, axes=(1, 2))
    return images[:, :, ::-1] if mirrored else images


class Steps(OnDevices):
    """The three steps compiled for a set of devices.

    With several processes, each maps its own share over its local devices, all of them, and AXIS spans those of all
    processes, in order.

    Attributes:
      train: `(state, batch, key, learning_rate)` -> `(state, metrics)`; the state is donated.
      evaluate: `(variables, batch)` -> sums.
      predict: `(variables, images)` -> probabilities, both [devices, B / devices, ...].

    Args:
      config: of the run.
      devices: local devices.
      tta: whether `predict` averages over the symmetries of the square.
    """

    def __init__(self, config: Config, devices: Sequence[jax.Device], *, tta: bool = False):
        super().__init__(devices)
        # What comes in or leaves with axis None is one array for all devices. JAX does not check that devices agree on
        # what leaves: every such value is averaged or summed over AXIS in its step.
        every = None if jax.process_count() > 1 else self.devices  # None: those of all processes
        pmap = functools.partial(jax.pmap, axis_name=AXIS, devices=every)
        train_model = create_model(config.model, axis_name=AXIS)
        optimizer = create_optimizer(config.optim)
        self.train = pmap(
            functools.partial(train_step, model=train_model, optimizer=optimizer, config=config),
            in_axes=(None, 0, None, None),
            out_axes=None,
            donate_argnums=0,
        )
        self.evaluate = pmap(
            functools.partial(eval_step, model=train_model, config=config), in_axes=(None, 0), out_axes=None
        )
        self.predict = pmap(functools.partial(predict_step, model=train_model, tta=tta), in_axes=(None, 0), out_axes=0)

    def compile_train(self, state: TrainState, config: Config, key: jax.Array) -> None:
        """Compiles `train` before there is a state and a batch; its first call finds it compiled. Of one process alone.

        Args:
          state: shapes, as of `state_target`.
          config: as given to `Steps`.
          key: as `train` is to be called with.
        """
        self.train.lower(state, self.batch_shapes(config), key, self.shape_of(np.float32(0))).compile()

    def batch_shapes(self, config: Config) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns shapes, types and placement of a batch, [devices, B / devices, ...]; config: as given to `Steps`."""
        leading = (len(self.devices), config.train.batch_size // len(self.devices))
        size = config.data.image_size
        shapes = {"image": ((size, size, 3), np.uint8), "mask": ((size, size, 1), np.uint8), "valid": ((), np.bool_)}
        return {
            name: jax.ShapeDtypeStruct((*leading, *shape), dtype, sharding=self.sharded)
            for name, (shape, dtype) in shapes.items()
        }

    def shard(self, batch: Any) -> Any:
        """Splits host arrays [B, ...] into [devices, B / devices, ...] and copies each device its share."""
        count = len(self.devices)
        return jax.device_put(
            jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), batch), self.sharded
        )


def state_target(config: Config, steps: Steps) -> TrainState:
    """Returns shapes, types and placement of the state, for restoring."""
    return steps.shape_of(_random_state.eval_shape(jax.eval_shape(jax.random.key, 0), config=config))
