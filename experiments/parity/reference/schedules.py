"""Sequences of losses and gradients for Keras' and jaxseg's callbacks and optimisers, and jaxseg's results on them.

Only `Generator.random` is used: its stream has been the same through all versions of NumPy.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg import optim
from jaxseg.config import OptimConfig

Outcome = tuple[list[np.float32], int, int]
"""Learning rate after each epoch; epoch after which training stops, or 0; epoch whose weights are restored."""

EPOCHS = 40
"""Losses per sequence: enough for several reductions, down to the floor, and for a stop."""

STORED = 300
"""Sequences of which `optim_reference.npz` holds what Keras did."""

STEPS = 300
KEPT = [0, 1, 2, 9, 99, 299]
"""Gradients per column, and the steps after which `optim_reference.npz` holds Keras' parameters."""


def case(seed: int) -> tuple[OptimConfig, list[float]]:
    """Returns settings and `EPOCHS` validation losses: of five kinds, a third of them with values not finite."""
    rng = np.random.default_rng([2016, seed])

    def pick(*choices):
        return choices[int(rng.random() * len(choices))]

    config = OptimConfig(
        learning_rate=pick(1e-4, 1e-4, 1e-3, 3e-7),
        plateau_factor=pick(0.2, 0.2, 0.5, 0.1, 0.0),
        plateau_patience=pick(1, 2, 3, 5),
        plateau_min_delta=pick(1e-4, 1e-4, 0.0, 1e-3),
        min_learning_rate=pick(1e-6, 1e-6, 0.0),
        early_stop_patience=pick(1, 3, 7, 10),
    )
    scale = 10.0 ** (6 * rng.random() - 4)
    steps = rng.random(EPOCHS)
    kind = pick("walk", "flat", "ties", "float32 ties", "neighbours")
    delta = config.plateau_min_delta or 1e-4
    if kind == "walk":
        losses = scale * np.exp(np.cumsum(steps - 0.55))
    elif kind == "flat":
        losses = scale * (1 - np.cumsum(np.where(steps < 0.1, 0.02, 0.0)))
    else:
        # On a lattice of the tolerance, so that a loss is often below the best by exactly that much.
        losses = 0.5 * min(scale, 1.0) - delta * np.cumsum(np.floor(4 * steps) - 1.2)
        if kind != "ties":
            losses = losses.astype(np.float32)
        if kind == "neighbours":
            losses = np.nextafter(losses, np.where(rng.random(EPOCHS) < 0.5, -np.inf, np.inf).astype(np.float32))
    losses = [float(loss) for loss in losses]
    if rng.random() < 1 / 3:
        for i in range(EPOCHS):
            if rng.random() < 0.15:
                losses[i] = pick(math.nan, math.inf, -math.inf, 1e300)
    return config, losses


def gradients(steps: int, size: int = 64) -> np.ndarray:
    """Returns gradients float32 [steps, size], from 1e-11 to 10 by column; each 16th column is 0 half of the time.

    Args:
      steps: number of gradients.
      size: values of each gradient.
    """
    rng = np.random.default_rng(2016)
    values = (2 * rng.random((steps, size)) - 0.8) * 10.0 ** np.linspace(-11, 1, size)
    values[:, ::16] *= rng.random((steps, len(range(0, size, 16)))) < 0.5
    return values.astype(np.float32)


def schedule(config: OptimConfig, losses: list[float]) -> Outcome:
    """Drives jaxseg's transitions as `jaxseg.train` does, the plateau past the stop.

    Args:
      config: settings of plateau and early stopping.
      losses: validation loss of each epoch.
    """
    plateau, stopping = optim.plateau_init(config), optim.early_stop_init(config)
    rates = []
    for loss in losses:
        plateau = optim.plateau_update(plateau, loss, config)
        if not stopping.should_stop:
            stopping = optim.early_stop_update(stopping, loss, config)
        rates.append(np.float32(config.learning_rate * plateau.scale))
    return rates, stopping.epoch if stopping.should_stop else 0, stopping.best_epoch


def adam(gradients: np.ndarray, learning_rate: float = 1e-4, epsilon: float = 1e-7) -> np.ndarray:
    """Returns parameters float32 [steps, size], from 0, after each step of jaxseg's Adam, as `train_step` takes it.

    Args:
      gradients: gradients float32 [steps, size].
      learning_rate: learning rate.
      epsilon: Adam's epsilon.
    """
    optimizer = optim.create_optimizer(OptimConfig(adam_epsilon=epsilon))

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        params = params - jnp.float32(learning_rate) * updates
        return (params, state), params

    params = jnp.zeros(gradients.shape[1], jnp.float32)
    return np.asarray(jax.jit(lambda g: jax.lax.scan(step, (params, optimizer.init(params)), g)[1])(gradients))
