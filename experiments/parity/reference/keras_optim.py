"""Runs Keras' callbacks and Adam on the sequences of `schedules`. Needs Keras."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

from experiments.parity.reference.schedules import Outcome
from jaxseg.config import OptimConfig


def model_of_one_weight() -> keras.Model:
    """Returns a compiled model for `schedule`, which notes in its weight from which epoch it is."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer="adam", loss="mse")
    return model


def schedule(model: keras.Model, config: OptimConfig, losses: list[float]) -> Outcome:
    """Drives `ReduceLROnPlateau` and `EarlyStopping(restore_best_weights=True)` as `fit` does, past the stop.

    Args:
      model: model of `model_of_one_weight`.
      config: settings of both callbacks.
      losses: validation loss of each epoch.
    """
    model.optimizer.learning_rate = config.learning_rate
    model.stop_training = False
    plateau = keras.callbacks.ReduceLROnPlateau(
        factor=config.plateau_factor,
        patience=config.plateau_patience,
        min_delta=config.plateau_min_delta,
        min_lr=config.min_learning_rate,
    )
    stopping = keras.callbacks.EarlyStopping(patience=config.early_stop_patience, restore_best_weights=True)
    for callback in (plateau, stopping):
        callback.set_model(model)
        callback.on_train_begin()
    rates, stopped = [], 0
    for epoch, loss in enumerate(losses):
        model.set_weights([np.full((1, 1), epoch + 1)])
        plateau.on_epoch_end(epoch, {"val_loss": loss})
        if not stopped:
            stopping.on_epoch_end(epoch, {"val_loss": loss})
            stopped = epoch + 1 if model.stop_training else 0
        rates.append(np.float32(model.optimizer.learning_rate))
    stopping.on_train_end()
    return rates, stopped, int(model.get_weights()[0].item())


def adam(gradients: np.ndarray, learning_rate: float = 1e-4, epsilon: float = 1e-7) -> np.ndarray:
    """Returns parameters float32 [steps, size], from 0, after each step of `keras.optimizers.Adam`.

    Args:
      gradients: gradients float32 [steps, size].
      learning_rate: learning rate.
      epsilon: Adam's epsilon.
    """
    variable = keras.Variable(np.zeros(gradients.shape[1], np.float32))
    optimizer = keras.optimizers.Adam(learning_rate, epsilon=epsilon)
    optimizer.build([variable])
    after = []
    for gradient in gradients:
        optimizer.apply([gradient])
        after.append(np.array(variable))
    return np.stack(after)
