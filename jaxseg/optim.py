"""Adam, the average of the weights, and what watches the validation loss: reduce-on-plateau and early stopping.

Adam and the latter two are Keras', to the last digit: `tests/test_keras_parity.py` drives both sides with thousands of
sequences. Those two are states and transitions, which run once per epoch on the host. The plateau's `scale` multiplies
the learning rate.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseg.config import OptimConfig

BETA_1, BETA_2 = 0.9, 0.999
"""Adam's decay rates per step of the first and second moment (Keras' defaults, which the paper leaves alone)."""


def create_optimizer(config: OptimConfig) -> optax.GradientTransformation:
    """Returns Adam without its learning rate: the step multiplies its updates by `-learning_rate`, which may change.

    It is Keras' Adam (`keras/src/optimizers/adam.py`), which `optax.scale_by_adam` is not: Keras adds epsilon before
    the bias correction, so that in the first steps small gradients (below 1e-5; the focal loss has them) move less, by
    up to 32 times. Its moments move by `(gradient - moment) * (1 - beta)`, which in float32 averages without bias;
    optax's `beta * moment + (1 - beta) * gradient` settles 1.3e-5 too high for beta 0.999.

    With `encoder_rate` below 1, parameters are a dict, and the updates of its "encoder" are multiplied by that.
    """

    def update(
        grads: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        del params
        count = optax.safe_increment(state.count)
        mu = jax.tree.map(lambda m, g: m + (g - m) * (1 - BETA_1), state.mu, grads)
        nu = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - BETA_2), state.nu, grads)
        # float32 powers of float32 betas, as Keras takes them; exact ones would differ from Keras' by 6e-6 at step 1.
        t = count.astype(jnp.float32)
        correction = jnp.sqrt(1 - jnp.power(BETA_2, t)) / (1 - jnp.power(BETA_1, t))
        updates = jax.tree.map(lambda m, v: m * correction / (jnp.sqrt(v) + config.adam_epsilon), mu, nu)
        if config.encoder_rate != 1:
            updates = updates | {"encoder": jax.tree.map(lambda u: config.encoder_rate * u, updates["encoder"])}
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def average(averaged: Any, new: Any, step: jax.Array, config: OptimConfig) -> Any:
    """Moves an average of weights towards the new ones, by `1 - decay` of the difference.

    The decay is `min(config.ema, (1 + step) / (10 + step))`: the first weights, which are random, are soon forgotten.

    Args:
      averaged: tree of float32 arrays.
      new: likewise, after a step.
      step: int32 scalar, the number of steps before that one.
      config: with `ema` above 0.

    Returns:
      The new average.
    """
    # As 1 - decay it would be off by 3e-4 of itself for a decay of 0.9999 in float32.
    share = jnp.maximum(1 - config.ema, 9 / (10 + step.astype(jnp.float32)))
    return jax.tree.map(lambda a, x: a + share * (x - a), averaged, new)


class PlateauState(NamedTuple):
    """Reduce-on-plateau (Keras `ReduceLROnPlateau`, `keras/src/callbacks/reduce_lr_on_plateau.py`).

    Attributes:
      scale: multiplier on the initial learning rate, in [0, 1].
      best: the loss to beat; None before the first epoch.
      wait: epochs since the last improvement or reduction.
    """

    scale: float = 1.0
    best: float | None = None
    wait: int = 0


def plateau_init(config: OptimConfig | None = None) -> PlateauState:
    """Returns the state before the first epoch; it is the same for every config."""
    del config
    return PlateauState()


def plateau_update(state: PlateauState, loss: float, config: OptimConfig) -> PlateauState:
    """Takes one epoch's validation loss.

    A loss improves if it is below the best by more than `plateau_min_delta`. After `plateau_patience` epochs without
    improvement the learning rate is multiplied by `plateau_factor`, down to `min_learning_rate`.

    Args:
      state: the state so far.
      loss: this epoch's validation loss.
      config: factor, patience (epochs), tolerance, floor.

    Returns:
      The new state; multiply the initial learning rate by its `scale`.
    """
    loss = float(loss)
    if _improves(loss, state.best, config.plateau_min_delta):
        return PlateauState(state.scale, loss, 0)
    wait = state.wait + 1
    # Keras keeps the learning rate in a float32 variable, which each reduction starts from and is rounded to.
    rate = np.float32(config.learning_rate * state.scale)
    if wait < config.plateau_patience or rate <= np.float32(config.min_learning_rate):
        return state._replace(wait=wait)
    rate = np.float32(max(float(rate) * config.plateau_factor, config.min_learning_rate))
    return PlateauState(float(rate) / config.learning_rate, state.best, 0)


class EarlyStopState(NamedTuple):
    """Early stopping (Keras `EarlyStopping`, min_delta 0, `keras/src/callbacks/early_stopping.py`).

    Attributes:
      epoch: epochs seen so far.
      best: the loss to beat; None before the first epoch.
      best_epoch: the epoch, counted from 1, of the best loss (the first of equals); 0 before any.
      wait: epochs since then.
      should_stop: whether patience has run out.
    """

    epoch: int = 0
    best: float | None = None
    best_epoch: int = 0
    wait: int = 0
    should_stop: bool = False


def early_stop_init(config: OptimConfig | None = None) -> EarlyStopState:
    """Returns the state before the first epoch; it is the same for every config."""
    del config
    return EarlyStopState()


def early_stop_update(state: EarlyStopState, loss: float, config: OptimConfig) -> EarlyStopState:
    """Takes one epoch's validation loss.

    Args:
      state: the state so far.
      loss: this epoch's validation loss.
      config: `early_stop_patience`, epochs.

    Returns:
      The new state, with `should_stop` once `early_stop_patience` epochs have passed without a new lowest loss.
    """
    loss = float(loss)
    epoch = state.epoch + 1
    if _improves(loss, state.best, 0.0):
        return EarlyStopState(epoch, loss, epoch)
    wait = state.wait + 1
    return EarlyStopState(epoch, state.best, state.best_epoch, wait, wait >= config.early_stop_patience)


def _improves(loss: float, best: float | None, min_delta: float) -> bool:
    """Returns whether a loss beats the best by more than the tolerance, as Keras decides (`monitor_callback.py`).

    The first loss does, whatever it is: there must be weights to restore. If it is NaN, none after it does. The sum is
    taken in float64 and compared in float32, which settles ties at the tolerance.
    """
    if best is None:
        return True
    with np.errstate(over="ignore"):  # float64 beyond float32 is infinite
        return bool(np.float32(loss + min_delta) < np.float32(best))
