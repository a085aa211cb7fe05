"""The mapped steps: the same on any number of devices, equal on all of them, padding without effect."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import steps as steps_module
from jaxseg.augment import augment
from jaxseg.config import AugmentConfig
from jaxseg.errors import UserError
from jaxseg.metrics import COUNTS, SCORES
from jaxseg.models.layers import Dropout
from jaxseg.steps import Steps, create_train_state, state_target
from jaxseg.system.devices import AXIS, pick_devices


def batch_of(size: int, count: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        "mask": rng.integers(0, 2, (count, size, size, 1), dtype=np.uint8),
        "valid": np.ones(count, bool),
    }


def one_step(config, devices: int):
    """Returns state and metrics after one training step on the given number of devices."""
    steps = Steps(config, jax.local_devices()[:devices])
    state = steps.replicate(create_train_state(jax.random.key(0), config))
    key, rate = steps.replicate(jax.random.key(7)), steps.replicate(np.float32(1e-2))
    with jax.transfer_guard("disallow"):
        return steps.train(state, steps.shard(batch_of(config.data.image_size)), key, rate)


def assert_same_counts(got, want) -> None:
    """Asserts that pixels are counted alike by programs that are compiled differently.

    A logit within float32 rounding of 0 may change its sign, of some thousand pixels hardly more than two. The sums
    over lesion and over background come from the masks alone, and are exact.
    """
    got, want = ({name: int(counts[name]) for name in COUNTS} for counts in (got, want))
    assert got["tp"] + got["fn"] == want["tp"] + want["fn"]
    assert got["fp"] + got["tn"] == want["fp"] + want["tn"]
    assert all(abs(got[name] - want[name]) <= 2 for name in COUNTS), (got, want)


@pytest.fixture(scope="module")
def on_one_device():
    from tests.helpers.runs import tiny_config

    return one_step(tiny_config(), 1)


@pytest.mark.parametrize("devices", [2, 4])
def test_gradients_do_not_depend_on_the_number_of_devices(tiny, devices, on_one_device):
    """If broken, a pmean is missing, or batch statistics or draws of augmentation and dropout depend on the device.

    Gradients are read from Adam's first moment, which after one step is a tenth of them. Updated parameters cannot be
    compared: Adam turns float noise in a vanishing gradient into a full step.
    """
    state, metrics = one_step(tiny, devices)
    expected, expected_metrics = on_one_device
    # float32 sums in another order: 1e-5 of the largest gradient of a tensor.
    for got, want in zip(jax.tree.leaves(state.opt_state.mu), jax.tree.leaves(expected.opt_state.mu), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    chex.assert_trees_all_close(state.batch_stats, expected.batch_stats, rtol=1e-5, atol=1e-6)
    floats = ("loss", "grad_norm")
    chex.assert_trees_all_close(*({name: m[name] for name in floats} for m in (metrics, expected_metrics)), rtol=1e-5)
    assert_same_counts(metrics, expected_metrics)


def test_drawn_images_do_not_depend_on_the_number_of_devices(tiny, on_one_device):
    """If broken, devices draw the same images as each other, or others than one device would."""
    config = tiny.updated({"data.synthetic_share": 0.5, "augment.enabled": False, "train.batch_size": 8})
    (state, metrics), (expected, expected_metrics) = one_step(config, 4), one_step(config, 1)
    # A rounding tie of a drawn pixel may move, as these are different programs: hence more than without drawing.
    for got, want in zip(jax.tree.leaves(state.opt_state.mu), jax.tree.leaves(expected.opt_state.mu), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())
    assert_same_counts(metrics, expected_metrics)
    assert float(metrics["loss"]) != float(on_one_device[1]["loss"])


def test_amplitudes_come_from_the_whole_batch(tiny, on_one_device):
    """If broken, an image is mixed with those of its own device alone, so that the number of devices decides."""
    config = tiny.updated({"augment.amplitudes": 1.0, "train.batch_size": 8})
    (state, metrics), (expected, expected_metrics) = one_step(config, 4), one_step(config, 1)
    # Rounding ties of pixels may move, as with drawn images.
    for got, want in zip(jax.tree.leaves(state.opt_state.mu), jax.tree.leaves(expected.opt_state.mu), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())
    assert_same_counts(metrics, expected_metrics)
    assert float(metrics["loss"]) != float(on_one_device[1]["loss"])


@pytest.mark.parametrize("ema", [0, 0.9])
def test_all_devices_hold_the_same(tiny, ema):
    """If broken, a value leaves the mapped step with out_axes=None but differs between devices; JAX does not check."""
    state, metrics = one_step(tiny.updated({"optim.ema": ema}), 4)
    for leaf in jax.tree.leaves((state, metrics)):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == 4
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0])


def test_the_step_number_changes_the_draws(tiny):
    """If broken, every step draws the same augmentation."""
    steps = Steps(tiny, jax.local_devices()[:1])
    start = create_train_state(jax.random.key(0), tiny)
    batch, key, rate = steps.shard(batch_of(32)), steps.replicate(jax.random.key(7)), steps.replicate(np.float32(0))
    losses = []
    for step in (0, 0, 1):
        state = steps.replicate(start.replace(step=start.step + step))
        losses.append(float(steps.train(jax.tree.map(lambda x: x.copy(), state), batch, key, rate)[1]["loss"]))
    assert losses[0] == losses[1] != losses[2]


def test_learning_rate_0_changes_no_parameter(tiny):
    """If broken, the plateau's scale does not reach the update."""
    steps = Steps(tiny, jax.local_devices()[:1])
    start = create_train_state(jax.random.key(0), tiny)
    args = steps.shard(batch_of(32)), steps.replicate(jax.random.key(7)), steps.replicate(np.float32(0))
    state, _ = steps.train(steps.replicate(jax.tree.map(lambda x: x.copy(), start)), *args)
    chex.assert_trees_all_equal(state.params, start.params)
    assert int(state.step) == 1


@pytest.mark.parametrize("devices", [1, 4])
def test_padding_does_not_count(tiny, devices):
    """If broken, blank images at the end of a set lower, or raise, its scores."""
    steps = Steps(tiny, jax.local_devices()[:devices])
    variables = steps.replicate(create_train_state(jax.random.key(0), tiny).variables)
    whole = batch_of(32, count=4)
    padded = {name: np.concatenate([part, np.zeros_like(part)]) for name, part in whole.items()}
    want, got = (jax.device_get(steps.evaluate(variables, steps.shard(batch))) for batch in (whole, padded))
    chex.assert_trees_all_close(got, want, rtol=1e-5)  # float32 sums in another order
    assert got["images"] == 4
    assert set(SCORES) < set(got)


def spread(function, devices: int, *arrays: np.ndarray) -> np.ndarray:
    """Returns what a function makes of arrays [B, ...] that are spread over devices, put together again."""
    shares = [x.reshape(devices, x.shape[0] // devices, *x.shape[1:]) for x in arrays]
    out = jax.pmap(function, axis_name=AXIS, devices=jax.local_devices()[:devices])(*shares)
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), out)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_dropout_draws_do_not_depend_on_the_number_of_devices(devices):
    """If broken, every device drops the same, or an example's draw depends on which device it is on."""
    layer, key = Dropout(rate=0.5, axis_name=AXIS), jax.random.key(3)
    x = np.ones((8, 6, 5, 3), np.float32)
    drop = functools.partial(layer.apply, {}, train=True, rngs={"dropout": key})
    got = spread(drop, devices, x)
    # Without a mapped axis, an example's index in the array is its index in the batch.
    np.testing.assert_array_equal(got, Dropout(rate=0.5).apply({}, x, train=True, rngs={"dropout": key}))
    assert len({example.tobytes() for example in got}) == 8
    assert set(np.unique(got)) == {0.0, 2.0}


@pytest.mark.parametrize("devices", [2, 4])
def test_augmentation_draws_do_not_depend_on_the_number_of_devices(devices):
    """If broken, two devices draw the same transforms, or an image's transform depends on its device."""
    one = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    images, masks = np.repeat(one, 8, axis=0), np.repeat(one[..., :1] % 2, 8, axis=0)

    def share(images, masks):
        first = jax.lax.axis_index(AXIS) * images.shape[0]
        return augment(jax.random.key(3), images, masks, AugmentConfig(), first_example=first)

    (got, got_masks), (want, want_masks) = (spread(share, count, images, masks) for count in (devices, 1))
    np.testing.assert_array_equal(got_masks, want_masks)
    # Another program may round an interpolated value that is a tie to the other side: one of 255 levels. Two draws
    # differ by dozens of levels on average, in noise.
    np.testing.assert_allclose(got.astype(np.float32), want, rtol=0, atol=1.01)
    assert len({example.tobytes() for example in got}) == 8


def test_scores_do_not_depend_on_the_number_of_devices(tiny):
    """If broken, a device's images are left out of the sums, or counted twice."""
    batch = batch_of(32)
    sums = []
    for devices in (1, 2, 4):
        steps = Steps(tiny, jax.local_devices()[:devices])
        variables = steps.replicate(create_train_state(jax.random.key(0), tiny).variables)
        sums.append(jax.device_get(steps.evaluate(variables, steps.shard(batch))))
    for other in sums[1:]:
        assert_same_counts(other, sums[0])
        assert other["images"] == sums[0]["images"] == 8
        for name in ("loss", *SCORES):
            # float32 sums in another order, and up to two pixels of 1024 in one image's score.
            assert other[name] == pytest.approx(sums[0][name], rel=1e-5 if name == "loss" else 2e-3), name


def test_the_state_is_donated(tiny):
    """If broken, parameters and moments are held twice, and a large batch no longer fits."""
    steps = Steps(tiny, jax.local_devices()[:2])
    state = steps.replicate(create_train_state(jax.random.key(0), tiny))
    before = jax.tree.leaves(state)
    steps.train(state, steps.shard(batch_of(32)), steps.replicate(jax.random.key(7)), steps.replicate(np.float32(0)))
    assert all(leaf.is_deleted() for leaf in before)


def test_a_host_array_in_the_guarded_loop_is_an_error(tiny):
    """If broken, steps copy from the host unnoticed: the guard of the training loop has no effect."""
    steps = Steps(tiny, jax.local_devices()[:1])
    state = steps.replicate(create_train_state(jax.random.key(0), tiny))
    key, batch = steps.replicate(jax.random.key(7)), steps.shard(batch_of(32))
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        steps.train(state, batch, key, np.float32(0))
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        jnp.asarray(np.ones(3)) + 1


def test_a_batch_must_divide_by_the_devices():
    """If broken, the run dies in a reshape, without saying which batch sizes would do."""
    assert len(pick_devices(0, 8)) == 4
    with pytest.raises(UserError, match="does not divide by 4 devices; use 4 or 8"):
        pick_devices(4, 6)
    with pytest.raises(UserError, match=r"train\.devices = 9: this machine has 4"):
        pick_devices(9, 9)


def test_a_share_of_drawn_images_divides_over_devices():
    """If broken, devices hold different numbers of drawn images, or the refusal does not say which share to use."""
    assert len(pick_devices(4, 8, 4)) == 4
    with pytest.raises(UserError, match=r"2 drawn images of a batch do not divide by 4 devices; use 0 or 0\.5"):
        pick_devices(4, 8, 2)
    with pytest.raises(UserError, match=r"do not divide by 4 devices; use 0 or a larger train\.batch_size"):
        pick_devices(4, 4, 2)


def test_training_holds_less_memory_on_a_cpu(tiny, monkeypatch):
    """If broken, XLA no longer takes the order that saves memory, or the order that it takes holds more."""

    def temporary() -> int:
        steps_module.forget_compiled()
        steps = Steps(tiny, jax.local_devices()[:2])
        state = state_target(tiny, steps)
        shapes = steps.shape_of(jax.eval_shape(jax.random.key, 0)), steps.shape_of(np.float32(0))
        compiled = steps.train.lower(state, steps.batch_shapes(tiny, tiny.train.batch_size), *shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ours = temporary()
    monkeypatch.setattr(steps_module, "in_little_memory", lambda step, devices: step)
    assert ours < temporary()
    steps_module.forget_compiled()
