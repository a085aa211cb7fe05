"""What the study says of where the distance to the paper lies."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.paper.sections import gap
from jaxseg.models import create_model
from jaxseg.steps import create_train_state


def test_the_best_thresholds():
    """If broken, what is called a bound is none: a threshold does better, or each image has that of another."""
    truth = np.zeros((2, 1, 10), np.uint8)
    truth[0, 0, :4], truth[1, 0, :8] = 1, 1
    found = np.full((2, 1, 10), 0.05, np.float32)
    found[0, 0, :4], found[0, 0, 4:8] = 0.9, 0.4  # right above 0.4, else twice as large
    found[1, 0, :4], found[1, 0, 4:8] = 0.4, 0.2  # right below 0.2 only, and half as large above it
    counts = [gap.counts_at(found, truth, threshold) for threshold in (0.1, 0.3, 0.6)]
    # At 0.1 the first image has 4 pixels too many, which makes 2/3, and the second is right; at 0.3 the first has them
    # still, and of the second half is found, which makes 2/3 too; at 0.6 the first is right, and of the second there is
    # nothing.
    assert gap.best_for_all(counts)["per_image"] == pytest.approx((2 / 3 + 1) / 2)
    assert gap.best_for_all(counts)["pooled"] == pytest.approx(2 * 12 / (2 * 12 + 4))
    assert gap.best_for_each(counts) == pytest.approx({"per_image": 1.0, "pooled": 1.0})
    cells = gap.limit_lines([gap.limits(found, truth)] * 2)
    assert [line[1] for line in cells] == ["0.833 ± 0.000", "1.000 ± 0.000"]


def test_lesions_by_size():
    """If broken, small lesions count as large ones, or an area is compared with another image's."""
    truth = np.zeros((2, 10, 10), np.uint8)
    truth[0, 0, :4], truth[1, :5] = 1, 1
    found = np.zeros((2, 10, 10), np.float32)
    found[0, 0, :8], found[1, :5] = 1, 1
    assert gap.size_lines([gap.by_size(found, truth)]) == [
        ["0% to 5%", "1", "0.667", "2.000"],
        ["40% to 100%", "1", "1.000", "1.000"],
    ]


def test_statistics_are_those_that_training_would_see(tiny):
    """If broken, batch norm's lag is measured against statistics that no batch has."""
    states = [create_train_state(jax.random.key(seed), tiny) for seed in (0, 1)]
    variables = jax.tree.map(lambda *leaves: np.stack(leaves), *(state.variables for state in states))
    size = tiny.data.image_size
    images = np.random.default_rng(0).integers(0, 256, (6, size, size, 3), np.uint8)
    found = gap.statistics_of(tiny, variables, images)
    model = create_model(dataclasses.replace(tiny.model, dropout=0.0))
    for i, state in enumerate(states):
        seen, _ = model.apply(state.variables, images, train=True, mutable=["batch_stats"])
        mine = {"params": state.params, "batch_stats": jax.tree.map(lambda leaf, i=i: leaf[i], found)}
        np.testing.assert_allclose(model.apply(mine, images, train=False), seen, atol=1e-4)
