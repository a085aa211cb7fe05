"""What training may do beyond the paper: a moving average of the weights, and an encoder that learns slower or not."""

from collections.abc import Iterator

import chex
import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxseg import data, steps, train
from jaxseg.data import pipeline
from jaxseg.inference.segmenter import Segmenter
from jaxseg.steps import Steps, create_train_state
from jaxseg.system.devices import AXIS
from jaxseg.system.stop import Stopped
from tests.helpers.runs import AskedAt, results

DECAY = 0.15
"""Reached after the first step: the warm-up begins with 1/10 and 2/11."""


@pytest.fixture
def averaging(tiny):
    return tiny.updated({"optim.ema": DECAY})


def some_steps(config, count: int, start=None) -> list:
    """Returns the state before and after each of some training steps on noise, on one device."""
    mapped, size = Steps(config, jax.local_devices()[:1]), config.data.image_size
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (4, size, size, 3), dtype=np.uint8),
        "mask": rng.integers(0, 2, (4, size, size, 1), dtype=np.uint8),
        "valid": np.ones(4, bool),
    }
    state = mapped.replicate(create_train_state(jax.random.key(0), config, start))
    states, rest = [jax.device_get(state)], (mapped.replicate(jax.random.key(7)), mapped.replicate(np.float32(1e-2)))
    for _ in range(count):
        state, _ = mapped.train(state, mapped.shard(batch), *rest)
        states.append(jax.device_get(state))
    return states


def leaves_by_name(tree) -> dict[str, np.ndarray]:
    """Returns the arrays of a tree by their paths."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_the_average_is_that_of_the_formula(averaging):
    """If broken, decay or warm-up are wrong, other arrays are averaged, or training uses the average."""
    first, *states = some_steps(averaging, 3)
    expected = jax.tree.map(np.float64, first.raw)
    for step, state in enumerate(states):
        decay = min(DECAY, (1 + step) / (10 + step))
        expected = jax.tree.map(lambda a, x, d=decay: d * a + (1 - d) * np.float64(x), expected, state.raw)
        chex.assert_trees_all_close(state.variables, jax.tree.map(np.float32, expected), rtol=1e-5, atol=1e-7)
    without = some_steps(averaging.updated({"optim.ema": 0.0}), 3)[1:]
    # The first step has equal gradients but for float32 sums in another order, as its program is another: Adam's first
    # moment agrees to 1e-5 of the largest of a tensor. Training on with the average would show in the later steps.
    for got, want in zip(*(jax.tree.leaves(states_of[0].opt_state.mu) for states_of in (states, without)), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
    for step, (got, want) in enumerate(zip(states, without, strict=True), 1):
        for name, kernel in leaves_by_name(want.variables["params"]).items():
            # Biases before batch norm have gradients of pure noise, which Adam blows up to full steps of 1e-2.
            if name.endswith("kernel']"):
                np.testing.assert_allclose(
                    leaves_by_name(got.params)[name], kernel, rtol=0, atol=1e-3, err_msg=f"step {step}, {name}"
                )


def test_an_averaging_run_resumes_exactly_and_is_used_by_its_average(averaging, tmp_path):
    """If broken, a resumed run trains on from the average or starts the average again; or raw weights are scored."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    want, _ = train.train_and_evaluate(averaging, whole)
    with pytest.raises(Stopped, match="in epoch 2, after 1 of 3 steps"):
        train.train_and_evaluate(averaging, stopped, AskedAt(8))
    got, _ = train.train_and_evaluate(averaging, stopped)
    chex.assert_trees_all_equal(jax.device_get(got), jax.device_get(want))
    assert results(stopped) == results(whole)

    chex.assert_trees_all_equal(jax.device_get(Segmenter.load(whole).runtime.networks[0].variables), want.averaged)
    _, validation = data.training_splits(averaging.data)
    mapped = Steps(averaging, jax.local_devices()[:1])
    batches = pipeline.eval_batches(pipeline.ResizedExamples(validation, averaging.data), averaging.data, batch_size=6)
    (batch,) = map(mapped.shard, batches)
    told = results(whole)[-1]["best"]["val_loss"]
    losses = [float(mapped.evaluate(variables, batch)["loss"]) / 6 for variables in (want.averaged, want.raw)]
    assert losses[0] == pytest.approx(told, rel=1e-5)  # float32 sums in another order
    assert losses[1] != pytest.approx(told, rel=1e-3)


class _WithEncoder(nn.Module):
    """A minimal network: an encoder with batch statistics, and a head."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = _Encoder(name="encoder")(images / 255, train=train)
        return nn.Conv(1, (1, 1), name="head")(x)


class _Encoder(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool):
        return nn.relu(nn.BatchNorm(not train, axis_name=AXIS if train else None)(nn.Conv(2, (3, 3))(x)))


@pytest.fixture
def with_encoder(monkeypatch) -> Iterator[None]:
    """Lets the steps take a network that compiles in no time."""
    monkeypatch.setattr(steps, "create_model", lambda config, axis_name=None: _WithEncoder())
    steps.forget_compiled()
    yield
    steps.forget_compiled()


@pytest.mark.usefixtures("with_encoder")
def test_given_encoder_weights_are_what_the_average_begins_with(averaging):
    """If broken, the first averages hold random weights in the encoder; or one array is donated twice."""
    random = create_train_state(jax.random.key(0), averaging)
    given = {name: jax.tree.map(lambda x: x + 1, part["encoder"]) for name, part in random.raw.items()}
    first, second = some_steps(averaging, 1, given)
    chex.assert_trees_all_equal(first.averaged, first.raw)
    chex.assert_trees_all_equal(first.params["encoder"], given["params"])
    assert int(second.step) == 1


@pytest.mark.usefixtures("with_encoder")
def test_the_encoders_rate(tiny):
    """If broken, a frozen encoder moves, a slowed one does not go a tenth as far, or the decoder is slowed as well."""
    frozen, slow, free = (some_steps(tiny.updated({"optim.encoder_rate": rate}), 1) for rate in (0, 0.1, 1))
    chex.assert_trees_all_equal(frozen[1].params["encoder"], frozen[0].params["encoder"])
    moved = [jax.tree.map(lambda a, b: b - a, before.params, after.params) for before, after in (frozen, slow, free)]
    assert all(np.any(x) for x in jax.tree.leaves(moved[2]))
    # Differences of float32 numbers of about 1.
    tenth = jax.tree.map(lambda x: x / 10, moved[2]["encoder"])
    chex.assert_trees_all_close(moved[1]["encoder"], tenth, atol=2e-7)
    for other in moved[:2]:
        chex.assert_trees_all_close(other["head"], moved[2]["head"], atol=2e-7)
    for state in (frozen[1], slow[1]):  # batch statistics are updated at every rate
        chex.assert_trees_all_close(state.batch_stats, free[1].batch_stats, rtol=1e-6)
    assert any(np.any(a != b) for a, b in zip(*(jax.tree.leaves(s.batch_stats) for s in frozen), strict=True))
