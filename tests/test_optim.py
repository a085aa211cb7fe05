"""Plateau, early stopping and Adam: by hand, against optax, and against stored results of Keras.

The stored outcomes come from `reference/make_optim_reference.py`; `test_keras_parity.py` drives Keras itself.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.parity.reference import schedules
from jaxseg.config import OptimConfig
from jaxseg.optim import create_optimizer, early_stop_init, early_stop_update, plateau_init, plateau_update
from tests.helpers.paths import REFERENCE as KERAS

CONFIG = OptimConfig()
REFERENCE = KERAS / "optim_reference.npz"


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as file:
        return dict(file)


def scales(losses, config=CONFIG):
    state, seen = plateau_init(config), []
    for loss in losses:
        state = plateau_update(state, loss, config)
        seen.append(state.scale)
    return seen


def test_constant_loss_steps_down_to_the_floor():
    """If broken, patience is off by one, the factor is wrong, or the learning rate falls through its floor of 1e-6."""
    expected = [1.0] * 5 + [0.2] * 5 + [0.04] * 5 + [0.01] * 10  # 1e-4 * 0.2**3 would be below 1e-6, scale 0.01
    assert scales([0.5] * 25) == pytest.approx(expected)


def test_an_improvement_within_the_tolerance_is_none():
    """If broken, a loss that creeps down by less than 1e-4 an epoch never reduces the learning rate."""
    assert scales(0.5 - 1e-5 * np.arange(6))[-1] == pytest.approx(0.2)
    assert scales(0.5 - 2e-4 * np.arange(6))[-1] == 1.0


def test_nan_is_no_improvement():
    """If broken, a NaN resets the patience or becomes the best loss."""
    assert scales([1.0, float("nan"), float("nan"), 2.0, 2.0, 2.0])[-1] == pytest.approx(0.2)


def test_plateau_equals_optax():
    """If broken, the schedule differs from the published rule, which optax implements as well."""
    transform = optax.contrib.reduce_on_plateau(factor=0.2, patience=5, rtol=0.0, atol=1e-4, min_scale=0.01)
    update = jax.jit(lambda state, loss: transform.update(jnp.ones(()), state, value=loss)[1])
    rng = np.random.default_rng(0)
    for _ in range(5):
        losses = np.abs(np.cumsum(rng.normal(-0.002, 0.05, 60))).astype(np.float32) + 0.1
        peer = transform.init(jnp.zeros(()))
        for loss, scale in zip(losses, scales(losses), strict=True):
            peer = update(peer, loss)
            assert float(peer.scale) == pytest.approx(scale, rel=1e-6)


def early_stop(losses, config=CONFIG):
    state = early_stop_init(config)
    for loss in losses:
        state = early_stop_update(state, loss, config)
        if state.should_stop:
            break
    return state


def test_early_stop_after_patience():
    """If broken, training stops an epoch early or late, or restores the weights of another epoch."""
    state = early_stop([3.0, 2.0, 1.0] + [1.5] * 30)
    assert (state.should_stop, state.epoch, state.best_epoch) == (True, 13, 3)


def test_early_stop_takes_the_first_of_equal_losses():
    """If broken, a tie moves the best epoch, where Keras keeps the first."""
    state = early_stop([2.0, 1.0, 1.0, 1.0])
    assert (state.should_stop, state.best_epoch) == (False, 2)


def test_any_decrease_counts_for_early_stopping():
    """If broken, the plateau's tolerance is applied to early stopping too (Keras: min_delta 0)."""
    assert early_stop(1.0 - 1e-6 * np.arange(30)).should_stop is False


def test_schedules_are_keras(reference):
    """If broken, learning rate, stop or best epoch differ from Keras': in ties, after NaN, or at the floor."""
    for seed in range(schedules.STORED):
        rates, stopped, best = schedules.schedule(*schedules.case(seed))
        # No tolerance: both sides round to float32 at the same places.
        assert rates == list(reference["rates"][seed]), seed
        assert (stopped, best) == (reference["stopped"][seed], reference["best"][seed]), seed


def test_a_tie_at_the_tolerance_is_settled_in_float32():
    """If broken, the tolerance is compared in float64, where 0.1 falls by more than 1e-4; for Keras it is a tie."""
    losses = [0.1] + [0.1 - 1e-4 - 1e-11] * 5
    assert scales(losses)[-1] == pytest.approx(0.2)


def test_states_are_plain_numbers():
    """If broken, a checkpoint's JSON cannot hold the state, or holds an infinity that other readers refuse."""
    plateau, stopping = plateau_init(CONFIG), early_stop_init(CONFIG)
    for loss in (None, np.float32(0.5), np.float64(0.7), np.float32(0.4)):
        if loss is not None:
            plateau, stopping = plateau_update(plateau, loss, CONFIG), early_stop_update(stopping, loss, CONFIG)
        for state in (plateau, stopping):
            assert type(state)(**json.loads(json.dumps(state._asdict(), allow_nan=False))) == state
            assert {type(value) for value in state} <= {int, float, bool, type(None)}


def test_adam_is_keras(reference):
    """If broken, epsilon counts after the bias correction, as in optax, and gradients of 1e-8 move 30 times as far."""
    gradients = schedules.gradients(schedules.STEPS)
    after = schedules.adam(gradients)[schedules.KEPT]
    # Measured 1e-5 of one step of the learning rate, 1e-4; a few hundred float32 additions.
    np.testing.assert_allclose(after, reference["adam"], rtol=0, atol=1e-4 * 1e-4)


def test_adam_of_tiny_gradients_is_the_formula():
    """If broken, the first step of a gradient g is not g / (|g| + epsilon / sqrt(1 - beta_2))."""
    optimizer = create_optimizer(CONFIG)
    gradient = jnp.array([1.0, -2.0, 1e-7, -1e-8, 0.0])
    updates, _ = optimizer.update(gradient, optimizer.init(gradient))
    expected = gradient / (jnp.abs(gradient) + 1e-7 / np.sqrt(0.001))
    # 1 - float32(0.999) is 1.3e-5 off, in Keras too.
    np.testing.assert_allclose(updates, expected, rtol=2e-5)


def test_adam_keeps_its_digits_over_a_long_run():
    """If broken, moments drift from a constant gradient, or the bias correction fails at large step numbers."""
    optimizer = create_optimizer(CONFIG)
    gradient = jnp.array([1e-3])
    state = optimizer.init(gradient)._replace(mu=gradient, nu=gradient**2)
    for t in (10, 1000, 10_000, 2**24 + 1, 2**31 - 1):
        updates, after = optimizer.update(gradient, state._replace(count=jnp.int32(t - 1)))
        correction = np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        # float32(0.999) is 1.3e-8 off, which its powers multiply; in Keras too.
        np.testing.assert_allclose(updates, correction * gradient / (gradient + 1e-7), rtol=1e-5)
        np.testing.assert_array_equal(after.nu, state.nu)
