"""Plateau and early stopping, driven by hand and against optax; Adam's settings."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.config import OptimConfig
from jaxseg.optim import (
    create_optimizer,
    early_stop_init,
    early_stop_update,
    plateau_init,
    plateau_update,
)

CONFIG = OptimConfig()


def scales(losses, config=CONFIG):
    state, seen = plateau_init(config), []
    for loss in losses:
        state = plateau_update(state, loss, config)
        seen.append(state.scale)
    return seen


def test_constant_loss_steps_down_to_the_floor():
    """Broken: patience is off by one, the factor is wrong, or the learning rate falls through its floor of 1e-6."""
    expected = [1.0] * 5 + [0.2] * 5 + [0.04] * 5 + [0.01] * 10  # 1e-4 * 0.2**3 would be below 1e-6, scale 0.01
    assert scales([0.5] * 25) == pytest.approx(expected)


def test_an_improvement_within_the_tolerance_is_none():
    """Broken: a loss that creeps down by less than 1e-4 an epoch never reduces the learning rate."""
    assert scales(0.5 - 1e-5 * np.arange(6))[-1] == pytest.approx(0.2)
    assert scales(0.5 - 2e-4 * np.arange(6))[-1] == 1.0


def test_nan_is_no_improvement():
    """Broken: a NaN resets the patience or becomes the best loss."""
    assert scales([1.0, float("nan"), float("nan"), 2.0, 2.0, 2.0])[-1] == pytest.approx(0.2)


def test_plateau_equals_optax():
    """Broken: the schedule is not the published rule; optax's, driven alike, is the peer."""
    transform = optax.contrib.reduce_on_plateau(factor=0.2, patience=5, rtol=0.0, atol=1e-4, min_scale=0.01)
    rng = np.random.default_rng(0)
    for _ in range(5):
        losses = np.abs(np.cumsum(rng.normal(-0.002, 0.05, 60))).astype(np.float32) + 0.1
        peer = transform.init(jnp.zeros(()))
        for loss, scale in zip(losses, scales(losses), strict=True):
            _, peer = transform.update(jnp.ones(()), peer, value=loss)
            assert float(peer.scale) == pytest.approx(scale, rel=1e-6)


def early_stop(losses, config=CONFIG):
    state = early_stop_init(config)
    for loss in losses:
        state = early_stop_update(state, loss, config)
        if state.should_stop:
            break
    return state


def test_early_stop_after_patience():
    """Broken: training stops an epoch early or late, or restores the weights of another epoch."""
    state = early_stop([3.0, 2.0, 1.0] + [1.5] * 30)
    assert (state.should_stop, state.epoch, state.best_epoch) == (True, 13, 3)


def test_early_stop_takes_the_first_of_equal_losses():
    """Broken: a tie moves the best epoch, where Keras keeps the first."""
    state = early_stop([2.0, 1.0, 1.0, 1.0])
    assert (state.should_stop, state.best_epoch) == (False, 2)


def test_any_decrease_counts_for_early_stopping():
    """Broken: the plateau's tolerance is applied to early stopping too (Keras: min_delta 0)."""
    assert early_stop(1.0 - 1e-6 * np.arange(30)).should_stop is False


def test_adam_divides_by_the_root_of_the_second_moment():
    """Broken: the optimiser is not Adam with Keras' epsilon; its first step is the gradient's sign, but for epsilon."""
    optimizer = create_optimizer(CONFIG)
    gradient = jnp.array([1.0, -2.0, 1e-7])
    updates, _ = optimizer.update(gradient, optimizer.init(gradient))
    np.testing.assert_allclose(updates, [1.0, -1.0, 0.5], rtol=1e-5)
