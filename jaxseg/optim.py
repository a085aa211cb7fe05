"""Adam, the moving average of the weights, reduce-on-plateau and early stopping.

Adam, reduce-on-plateau and early stopping equal those of Keras to the last digit:
`tests/experiments/test_keras_parity.py` drives both sides with thousands of sequences. The latter two watch the
validation loss; they are states and transitions that run once per epoch on the host. The plateau's `scale` multiplies
the learning rate.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseg.config import OptimConfig

BETA_1, BETA_2 = 0.9, 0.999
"""Adam's decay rates per step of the first and second moment: Keras' defaults, which the paper uses."""


def create_optimizer(config: OptimConfig) -> optax.GradientTransformation:
    """Returns Adam without its learning rate: the training step multiplies the updates by `-learning_rate`.

    This is Keras' Adam (`keras/src/optimizers/adam.py`), which differs from `optax.scale_by_adam`. Keras adds epsilon
    before the bias correction, so that in the first steps small gradients (below 1e-5, as the focal loss has them) move
    parameters up to 32 times less. Its moments move by `(gradient - moment) * (1 - beta)`, which averages without bias
    in float32; optax's `beta * moment + (1 - beta) * gradient` settles 1.3e-5 too high for beta 0.999.

    With an `encoder_rate` other than 1, the parameters must be a dict, and the updates of its "encoder" are multiplied
    by that rate.
    """

    def update(
        grads: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        del params
        count = optax.safe_increment(state.count)
        mu = jax.tree.map(lambda m, g: m + (g - m) * (1 - BETA_1), state.mu, grads)
        nu = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - BETA_2), state.nu, grads)
        # float32 powers of float32 betas, as in Keras; exact powers would differ by 6e-6 at step 1.
        t = count.astype(jnp.float32)
        correction = jnp.sqrt(1 - jnp.power(BETA_2, t)) / (1 - jnp.power(BETA_1, t))
        updates = jax.tree.map(lambda m, v: m * correction / (jnp.sqrt(v) + config.adam_epsilon), mu, nu)
        if config.encoder_rate != 1:
            updates = updates | {"encoder": jax.tree.map(lambda u: config.encoder_rate * u, updates["encoder"])}
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def average(averaged: Any, new: Any, step: jax.Array, config: OptimConfig) -> Any:
    """Moves an average of weights towards the new weights by `1 - decay` of the difference.

    The decay is `min(config.ema, (1 + step) / (10 + step))`, so that the random initial weights are soon forgotten.

    Args:
      averaged: the average so far, a tree of float32 arrays.
      new: the weights after a training step, a tree of equal structure.
      step: int32 scalar, the number of steps before that training step.
      config: settings with `ema` above 0.

    Returns:
      The new average.
    """
    # Not 1 - decay, whose relative error in float32 is 3e-4 for a decay of 0.9999.
    share = jnp.maximum(1 - config.ema, 9 / (10 + step.astype(jnp.float32)))
    return jax.tree.map(lambda a, x: a + share * (x - a), averaged, new)


class PlateauState(NamedTuple):
    """Reduce-on-plateau (Keras `ReduceLROnPlateau`, `keras/src/callbacks/reduce_lr_on_plateau.py`).

    Attributes:
      scale: multiplier on the initial learning rate, in [0, 1].
      best: the loss to beat; None before the first epoch.
      wait: number of epochs since the last improvement or reduction.
    """

    scale: float = 1.0
    best: float | None = None
    wait: int = 0


def plateau_init(config: OptimConfig | None = None) -> PlateauState:
    """Returns the state before the first epoch; it is the same for every config."""
    del config
    return PlateauState()


def plateau_update(state: PlateauState, loss: float, config: OptimConfig) -> PlateauState:
    """Returns the state of reduce-on-plateau after one more epoch.

    A loss improves if it is below the best by more than `plateau_min_delta`. After `plateau_patience` epochs without
    improvement the learning rate is multiplied by `plateau_factor`, down to `min_learning_rate`.

    Args:
      state: the state so far.
      loss: this epoch's validation loss.
      config: factor, patience in epochs, tolerance, and minimum of the learning rate.

    Returns:
      The new state; multiply the initial learning rate by its `scale`.
    """
    loss = float(loss)
    if _improves(loss, state.best, config.plateau_min_delta):
        return PlateauState(state.scale, loss, 0)
    wait_epochs, patience_epochs = state.wait + 1, config.plateau_patience
    # Keras keeps the learning rate in a float32 variable, from which each reduction starts and to which it is rounded.
    rate = np.float32(config.learning_rate * state.scale)
    if wait_epochs < patience_epochs or rate <= np.float32(config.min_learning_rate):
        return state._replace(wait=wait_epochs)
    rate = np.float32(max(float(rate) * config.plateau_factor, config.min_learning_rate))
    return PlateauState(float(rate) / config.learning_rate, state.best, 0)


class EarlyStopState(NamedTuple):
    """Early stopping (Keras `EarlyStopping`, min_delta 0, `keras/src/callbacks/early_stopping.py`).

    Attributes:
      epoch: number of epochs so far.
      best: the loss to beat; None before the first epoch.
      best_epoch: the epoch, counted from 1, of the best loss (the first of equals); 0 before any.
      wait: number of epochs since the best one.
      should_stop: whether `early_stop_patience` epochs have passed since the best one.
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
    """Returns the state of early stopping after one more epoch.

    Args:
      state: the state so far.
      loss: this epoch's validation loss.
      config: settings with `early_stop_patience` in epochs.

    Returns:
      The new state, with `should_stop` once `early_stop_patience` epochs have passed without a new lowest loss.
    """
    loss = float(loss)
    epoch = state.epoch + 1
    if _improves(loss, state.best, 0.0):
        return EarlyStopState(epoch, loss, epoch)
    wait_epochs, patience_epochs = state.wait + 1, config.early_stop_patience
    return EarlyStopState(epoch, state.best, state.best_epoch, wait_epochs, wait_epochs >= patience_epochs)


def _improves(loss: float, best: float | None, min_delta: float) -> bool:
    """Tells whether a loss is below the best by more than the tolerance, as Keras decides (`monitor_callback.py`).

    The first loss always improves, so that there are weights to restore; after a first loss of NaN none improves. The
    sum is computed in float64 and compared in float32, which settles ties at the tolerance.

    Args:
      loss: an epoch's loss.
      best: the loss to beat; None before the first epoch.
      min_delta: the tolerance.
    """
    if best is None:
        return True
    with np.errstate(over="ignore"):  # float64 beyond float32 is infinite
        return bool(np.float32(loss + min_delta) < np.float32(best))
