"""Adam, and what watches the validation loss: reduce-on-plateau and early stopping as states and transitions.

Both transitions run once per epoch on the host, in float64 as in Keras' callbacks: a loss that falls by exactly the
tolerance is a tie, and float32 would break ties the other way. The plateau's `scale` multiplies the learning rate.
"""

from typing import NamedTuple

import numpy as np
import optax

from jaxseg.config import OptimConfig


def create_optimizer(config: OptimConfig) -> optax.GradientTransformation:
    """Returns Adam without its learning rate: the step multiplies its updates by `-learning_rate`, which may change."""
    return optax.scale_by_adam(eps=config.adam_epsilon)


class PlateauState(NamedTuple):
    """Reduce-on-plateau (Keras `ReduceLROnPlateau`, `keras/src/callbacks/reduce_lr_on_plateau.py`).

    Attributes:
      scale: multiplier on the initial learning rate, in (0, 1].
      best: lowest loss so far.
      wait: epochs since the last improvement or reduction.
    """

    scale: float = 1.0
    best: float = float("inf")
    wait: int = 0


def plateau_init(config: OptimConfig | None = None) -> PlateauState:
    """Returns the state before the first epoch; it is the same for every config."""
    del config
    return PlateauState()


def plateau_update(state: PlateauState, loss: float, config: OptimConfig) -> PlateauState:
    """Takes one epoch's validation loss.

    A loss improves if it is below the best by more than `plateau_min_delta`; NaN never does. After `plateau_patience`
    epochs without improvement the scale is multiplied by `plateau_factor`, down to `min_learning_rate`. This is
    `optax.contrib.reduce_on_plateau` with rtol 0 and no cooldown, in float64.

    Args:
      state: the state so far.
      loss: this epoch's validation loss.
      config: factor, patience (epochs), tolerance, floor.

    Returns:
      The new state; multiply the initial learning rate by its `scale`.
    """
    loss = float(loss)
    if loss < state.best - config.plateau_min_delta:
        return PlateauState(state.scale, loss, 0)
    if state.wait + 1 < config.plateau_patience:
        return state._replace(wait=state.wait + 1)
    floor = min(config.min_learning_rate / config.learning_rate, state.scale)
    return PlateauState(max(state.scale * config.plateau_factor, floor), state.best, 0)


class EarlyStopState(NamedTuple):
    """Early stopping (Keras `EarlyStopping`, min_delta 0, `keras/src/callbacks/early_stopping.py`).

    Attributes:
      epoch: epochs seen so far.
      best: lowest loss so far.
      best_epoch: the epoch, counted from 1, of the lowest loss (the first of equals); 0 before any.
      wait: epochs since then.
      should_stop: whether patience has run out.
    """

    epoch: int = 0
    best: float = float("inf")
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
      loss: this epoch's validation loss; NaN never improves.
      config: `early_stop_patience`, epochs.

    Returns:
      The new state, with `should_stop` once `early_stop_patience` epochs have passed without a new lowest loss.
    """
    loss = float(loss)
    epoch = state.epoch + 1
    # The first epoch counts as the best so far whatever its loss, as in Keras: there must be weights to restore.
    if loss < state.best or state.best_epoch == 0:
        best = loss if np.isfinite(loss) else state.best
        return EarlyStopState(epoch, best, epoch, 0, False)
    wait = state.wait + 1
    return EarlyStopState(epoch, state.best, state.best_epoch, wait, wait >= config.early_stop_patience)
