"""The training, validation and prediction steps, and the one place where they are mapped over devices.

The steps are pure functions of state, batch and key. `Steps` binds their other arguments with `functools.partial`, maps
them with `jax.pmap` and places arrays on the devices.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct

from jaxseg.augment import augment
from jaxseg.config import Config, DataConfig, ModelConfig, OptimConfig, TrainConfig
from jaxseg.data.pipeline import drawn_places
from jaxseg.losses import create_loss
from jaxseg.metrics import COUNTS, SCORES, confusion, scores
from jaxseg.models import create_model
from jaxseg.models.symmetries import SYMMETRIES, turned, turned_back
from jaxseg.optim import average, create_optimizer
from jaxseg.synthetic import draw
from jaxseg.system import kept_programs
from jaxseg.system.devices import (
    AXIS,
    CORE_BATCH,
    LOW_MEMORY_OPTIONS,
    OnDevices,
    all_devices,
    check_batch_size,
    divisible,
    in_little_memory,
    pick_devices,
    pmap_over,
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
    "forget_compiled",
    "pick_devices",
    "predict_step",
    "started_with",
    "state_target",
    "train_step",
    "turned",
    "turned_back",
]

Batch = Mapping[str, jax.Array]
"""`image` uint8 [B, S, S, 3], `mask` uint8 {0, 1} [B, S, S, 1], `valid` bool [B], which is false for padding."""


class TrainState(struct.PyTreeNode):
    """Everything that a training step changes.

    Attributes:
      step: int32 scalar, number of steps taken; together with the run's key it determines all randomness.
      params: the model's parameters, float32.
      batch_stats: running means and variances of batch norm, float32.
      opt_state: Adam's moments.
      averaged: moving averages of "params" and "batch_stats"; None (an empty tree) without `optim.ema`.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    averaged: Any = None

    @property
    def raw(self) -> dict[str, Any]:
        """The variables that training continues with, as the model's `apply` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def variables(self) -> dict[str, Any]:
        """The variables for validation and inference: the averages if there are any, else the raw ones."""
        return self.raw if self.averaged is None else self.averaged


def create_train_state(key: jax.Array, config: Config, encoder_weights: Mapping[str, Any] | None = None) -> TrainState:
    """Initialises the model, on the default device.

    Args:
      key: a `jax.random` key for the initial weights.
      config: all settings; those of model, image size and optimiser are used.
      encoder_weights: "params" and "batch_stats" of the encoder, as `jaxseg.weights.load_keras` returns them; the
        decoder keeps its random weights.

    Returns:
      The state before the first step.
    """
    state = _initialiser(_that_steps_read(config))(jax.random.key_data(key))
    if encoder_weights is None:
        return state
    weights = {
        name: part | {"encoder": jax.tree.map(jnp.asarray, encoder_weights[name])} for name, part in state.raw.items()
    }
    # Copied, because both are donated to the first step.
    return state.replace(**weights, averaged=jax.tree.map(jnp.copy, weights) if config.optim.ema else None)


def started_with(variables: Mapping[str, Any], config: Config) -> TrainState:
    """Returns the state before the first step of a run that starts with given weights of its whole network.

    Args:
      variables: "params" and "batch_stats", as `TrainState.variables` has them.
      config: all settings; those of the optimiser are used.
    """
    # Copied, because all parts are donated to the first step.
    weights = {name: jax.tree.map(jnp.copy, variables[name]) for name in ("params", "batch_stats")}
    return _first_state(weights, jax.tree.map(jnp.copy, weights) if config.optim.ema else None, config)


def _first_state(weights: Mapping[str, Any], averaged: Mapping[str, Any] | None, config: Config) -> TrainState:
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=weights["params"],
        batch_stats=weights["batch_stats"],
        opt_state=create_optimizer(config.optim).init(weights["params"]),
        averaged=averaged,
    )


def _random_state(key_data: jax.Array, *, config: Config) -> TrainState:
    """Returns the state before the first step, with random weights, for uint32 data of a `jax.random` key."""
    key, model = jax.random.wrap_key_data(key_data), create_model(config.model)
    size = config.data.image_size
    variables = model.lazy_init(key, jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8), train=False)
    return _first_state(variables, variables if config.optim.ema else None, config)


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
    """Draws and augments one device's share of a batch, differentiates, averages over devices, updates.

    Of the images, `data.synthetic_share` are replaced by drawn ones; the input pipeline leaves their places empty.

    Args:
      state: the state, equal on every device.
      batch: this device's share; `valid` is ignored, as training batches have no padding.
      key: the run's key for training, a `jax.random` key or its uint32 key data; the number of the step is folded in.
      learning_rate: float32 scalar.
      model: a model created with `axis_name=AXIS`, so that batch norm sees the whole batch.
      optimizer: Adam without learning rate, from `create_optimizer`.
      config: all settings; those of drawing, augmentation, loss and optimiser are used.

    Returns:
      The new state, and "loss" (mean over the batch), "grad_norm" and "tp", "fp", "fn", "tn" (pixels of the augmented
      batch, with dropout on), all equal on every device.
    """
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
    first_example = jax.lax.axis_index(AXIS) * batch["image"].shape[0]
    images, masks = batch["image"], batch["mask"]
    if config.drawn_per_step:
        images, masks = _with_drawn(jax.random.fold_in(augment_key, _DRAWING), images, masks, first_example, config)
    # The amplitudes of any image of the batch may be mixed into any other, whichever device has them.
    others = jax.lax.all_gather(images, AXIS, tiled=True) if config.augment.amplitudes else None
    images, masks = augment(augment_key, images, masks, config.augment, first_example=first_example, others=others)
    loss = create_loss(config.loss)

    def loss_fn(params):
        if config.optim.encoder_rate == 0:  # saves the backward pass through the encoder
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


_DRAWING = 2**31 - 1
"""Number that a step's augmentation key is folded with for drawing; `augment` folds it with places in the batch."""


def _with_drawn(
    key: jax.Array, images: jax.Array, masks: jax.Array, first_example: jax.Array, config: Config
) -> tuple[jax.Array, jax.Array]:
    """Puts drawn images into the places of one device's share that `drawn_places` names."""
    share, height, width, _ = images.shape
    drawn = config.drawn_per_step * share // config.train.batch_size
    (places,) = np.nonzero(drawn_places(share, drawn))
    # The order of drawn images in the global batch: devices hold equal numbers of them.
    first_drawn = first_example * drawn // share
    drawn_images, drawn_masks = draw(key, drawn, height, width, first_example=first_drawn)
    return images.at[places].set(drawn_images), masks.at[places].set(drawn_masks)


def eval_step(variables: Any, batch: Batch, *, model: nn.Module, config: Config) -> dict[str, jax.Array]:
    """Sums loss, scores and counts over the valid images of a batch.

    Args:
      variables: "params" and "batch_stats".
      batch: this device's share; padding has `valid` false.
      model: a model from `create_model`; batch norm takes its running statistics.
      config: all settings; that of the loss is used.

    Returns:
      Sums over the valid images of all devices: float32 "images" (their number), "loss" and the five scores per image,
      to be divided by "images" after the last batch; and int32 pixel counts "tp", "fp", "fn", "tn".
    """
    logits = model.apply(variables, batch["image"], train=False)
    loss = create_loss(config.loss)(logits, batch["mask"], reduction="none")
    counts = confusion(logits > 0, batch["mask"])
    valid = batch["valid"]
    sums = {k: jnp.sum(jnp.where(valid, v, 0)) for k, v in {"loss": loss, **scores(counts), **counts}.items()}
    return jax.lax.psum({"images": jnp.sum(valid, dtype=jnp.float32), **sums}, AXIS)


def predict_step(variables: Any, images: jax.Array, *, model: nn.Module, tta: bool = False) -> jax.Array:
    """Maps images to probabilities.

    Args:
      variables: "params" and "batch_stats".
      images: uint8 [B, S, S, 3], RGB in [0, 255].
      model: a model from `create_model`; batch norm takes its running statistics.
      tta: test-time augmentation: average over the eight symmetries of the square, at eight times the cost.

    Returns:
      float32 [B, S, S, 1], the probability of lesion in [0, 1].
    """

    def predict(images: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(model.apply(variables, images, train=False))

    if not tta:
        return predict(images)
    # One after the other, not as a batch of 8 B, so that the network takes no more memory than without.
    maps = jax.lax.map(predict, jnp.stack([turned(images, *symmetry) for symmetry in SYMMETRIES]))
    return sum(turned_back(p, *symmetry) for p, symmetry in zip(maps, SYMMETRIES, strict=True)) / len(SYMMETRIES)


def _that_steps_read(config: Config) -> Config:
    """Returns the settings with the defaults for those that steps do not read.

    Runs of one process that differ in nothing else share their steps, which are then traced and compiled once.
    """
    return dataclasses.replace(
        config,
        data=DataConfig(image_size=config.data.image_size, synthetic_share=config.data.synthetic_share),
        model=dataclasses.replace(config.model, pretrained="none", init_from=""),
        optim=OptimConfig(
            adam_epsilon=config.optim.adam_epsilon, encoder_rate=config.optim.encoder_rate, ema=config.optim.ema
        ),
        train=TrainConfig(batch_size=config.train.batch_size),
    )


_KEPT = 4
"""Sets of compiled steps that a process keeps, the last ones used; a large network's take hundreds of megabytes."""


@functools.lru_cache(_KEPT)
def _mapped_training(config: Config, devices: tuple[jax.Device, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns the steps of training and validation, from settings of `_that_steps_read`."""
    pmap, model = pmap_over(devices), create_model(config.model, axis_name=AXIS)
    train = functools.partial(train_step, model=model, optimizer=create_optimizer(config.optim), config=config)
    evaluate = functools.partial(eval_step, model=model, config=config)
    return (
        in_little_memory(pmap(train, in_axes=(None, 0, None, None), out_axes=None, donate_argnums=0), devices),
        pmap(evaluate, in_axes=(None, 0), out_axes=None),
    )


@functools.lru_cache(_KEPT)
def _mapped_prediction(config: ModelConfig, devices: tuple[jax.Device, ...], tta: bool) -> Callable[..., Any]:
    step = functools.partial(predict_step, model=create_model(config, axis_name=AXIS), tta=tta)
    made_of = {"model": dataclasses.asdict(config), "tta": tta}
    function = pmap_over(devices)(step, in_axes=(None, 0), out_axes=0)
    return kept_programs.by_shape("prediction", made_of, function, result=0, devices=devices)


@functools.lru_cache(_KEPT)
def _initialiser(config: Config) -> Callable[[jax.Array], TrainState]:
    """Returns `_random_state` on the default device, from settings of `_that_steps_read`."""
    # Runs once: optimising the program would take twice as long as everything else in it.
    options = {"xla_backend_optimization_level": 0}
    function = jax.jit(functools.partial(_random_state, config=config), compiler_options=options)
    devices = jax.local_devices()[:1]
    return kept_programs.by_shape(
        "random state", config.to_dict(), function, result=_shapes(config), devices=devices, options=options
    )


@functools.lru_cache(_KEPT)
def _shapes(config: Config) -> TrainState:
    """Returns shapes and types of a state, from settings of `_that_steps_read`."""

    def traced() -> Any:
        state = jax.eval_shape(functools.partial(_random_state, config=config), jax.random.key_data(jax.random.key(0)))
        return jax.tree.map(lambda leaf: [leaf.shape, str(leaf.dtype)], state.raw)

    kept = kept_programs.value("shapes of the variables", config.to_dict(), traced)
    variables = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(*leaf), kept, is_leaf=lambda leaf: isinstance(leaf, list)
    )
    return jax.eval_shape(functools.partial(started_with, config=config), variables)


def forget_compiled() -> None:
    """Lets go of the steps that this process keeps compiled; their memory is freed when no run holds them."""
    for kept in (_mapped_training, _mapped_prediction, _initialiser, _shapes):
        kept.cache_clear()
    jax.clear_caches()


class Steps(OnDevices):
    """The three steps compiled for a set of devices.

    Among several processes, each maps its own share over all of its local devices, and AXIS spans the devices of all
    processes, in order.

    Attributes:
      train: `(state, batch, key, learning_rate)` -> `(state, metrics)`; the state is donated.
      evaluate: `(variables, batch)` -> sums.
      predict: `(variables, images)` -> probabilities, both [devices, B / devices, ...].

    Args:
      config: all settings.
      devices: the local devices to use.
      tta: whether `predict` averages over the symmetries of the square.
    """

    def __init__(self, config: Config, devices: Sequence[jax.Device], *, tta: bool = False):
        super().__init__(devices)
        self.train, self.evaluate = _mapped_training(_that_steps_read(config), tuple(devices))
        self.predict = _mapped_prediction(_that_steps_read(config).model, tuple(devices), tta)

    def compile_train(self, config: Config, elsewhere: Callable[[], None] | None = None) -> None:
        """Compiles `train` before there is a state and a batch, or finds it compiled by an earlier process.

        From then on `train` takes arrays of these shapes only, and key data instead of a key. Works in a job of one
        process only: among several, `pmap` compiles for arrays, not for shapes.

        Args:
          config: the settings given to `Steps`.
          elsewhere: has the step compiled in another process, see `kept_programs.compiled`.
        """
        state, key = state_target(config, self), jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
        batch = self.batch_shapes(config, config.train.batch_size)
        args = (state, batch, *map(self.shape_of, (key, np.float32(0))))
        result = state, dict.fromkeys(("loss", "grad_norm", *COUNTS), 0)
        self.train = self._compiled(
            "training step", config, self.train, args, result=result, options=LOW_MEMORY_OPTIONS, elsewhere=elsewhere
        )

    def train_bytes(self) -> int | None:
        """Returns the memory of a CPU that `train` takes beside its arguments while it runs, over all devices.

        None before `compile_train`, and on other devices, which refuse by themselves what is too much.
        """
        if not isinstance(self.train, jax.stages.Compiled) or self.devices[0].platform != "cpu":
            return None
        return len(self.devices) * self.train.memory_analysis().temp_size_in_bytes

    def compile_evaluate(self, config: Config, batch_size: int, elsewhere: Callable[[], None] | None = None) -> None:
        """Compiles `evaluate` for batches of one size, as `compile_train` does; does nothing if it is compiled already.

        Args:
          config: the settings given to `Steps`.
          batch_size: images per batch over all devices.
          elsewhere: has the step compiled in another process, see `kept_programs.compiled`.
        """
        if isinstance(self.evaluate, jax.stages.Compiled):
            return
        args = state_target(config, self).variables, self.batch_shapes(config, batch_size)
        result = dict.fromkeys(("images", "loss", *SCORES, *COUNTS), 0)
        self.evaluate = self._compiled(
            f"validation step of {batch_size}", config, self.evaluate, args, result=result, elsewhere=elsewhere
        )

    def _compiled(self, name: str, config: Config, function: Callable[..., Any], args: tuple, **kinds: Any) -> Any:
        made_of = _that_steps_read(config).to_dict()
        return kept_programs.compiled(name, made_of, function, *args, devices=self.devices, **kinds)

    def batch_shapes(self, config: Config, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns shapes, types and placement of a batch, [devices, B / devices, ...].

        Args:
          config: the settings given to `Steps`.
          batch_size: images per batch over all devices.
        """
        leading = (len(self.devices), batch_size // len(self.devices))
        size = config.data.image_size
        shapes = {"image": ((size, size, 3), np.uint8), "mask": ((size, size, 1), np.uint8), "valid": ((), np.bool_)}
        return {
            name: jax.ShapeDtypeStruct((*leading, *shape), dtype, sharding=self.sharded)
            for name, (shape, dtype) in shapes.items()
        }

    def shard(self, batch: Any) -> Any:
        """Splits host arrays [B, ...] into [devices, B / devices, ...] and copies each share to its device."""
        count = len(self.devices)
        return jax.device_put(
            jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), batch), self.sharded
        )


def state_target(config: Config, steps: Steps) -> TrainState:
    """Returns shapes, types and placement of a state, for restoring it.

    Args:
      config: all settings.
      steps: the compiled steps, whose devices hold the state.
    """
    return steps.shape_of(_shapes(_that_steps_read(config)))
