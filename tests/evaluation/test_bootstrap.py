"""Intervals against scipy's bootstrap and a plain loop; summaries against numpy."""

import numpy as np
import pytest
import scipy.stats

from jaxseg.evaluation.bootstrap import bootstrap, summarise
from jaxseg.metrics import COUNTS, SCORES

RNG = np.random.default_rng(0)
VALUES = RNG.beta(8, 1.5, 60)
COUNT_TABLE = RNG.integers(1, 10_000, (60, 4)) * RNG.integers(1, 50, (60, 1))


def test_interval_of_the_mean_equals_scipys():
    """If broken, the interval is of single images, of another level, or its ends are swapped. 1e-3: other draws."""
    got = summarise({"dice": VALUES}, COUNT_TABLE)["per_image_interval"]["dice"]
    by_scipy = scipy.stats.bootstrap((VALUES,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    np.testing.assert_allclose(got, by_scipy.confidence_interval, atol=1e-3)


def test_interval_of_a_pooled_score_equals_a_plain_loop():
    """If broken, pooled intervals resample pixels, average scores of images, or add up other counts."""
    rng, dice = np.random.default_rng(5), []
    for _ in range(4000):
        drawn = COUNT_TABLE[rng.integers(0, 60, 60)].sum(axis=0)
        tp, fp, fn, _ = drawn
        dice.append(2 * tp / (2 * tp + fp + fn))
    got = summarise({"dice": VALUES}, COUNT_TABLE)["pooled_interval"]["dice"]
    np.testing.assert_allclose(got, np.percentile(dice, [2.5, 97.5]), atol=3e-3)


def test_summary_equals_numpy():
    """If broken, mean, spread or median are mixed up between scores, or pooled scores are of other counts."""
    got = summarise({"a": VALUES, "b": 1 - VALUES**2}, COUNT_TABLE)
    for name, values in {"a": VALUES, "b": 1 - VALUES**2}.items():
        assert got["per_image"][name] == pytest.approx(values.mean(), abs=1e-12)
        assert got["per_image_sd"][name] == pytest.approx(values.std(ddof=1), abs=1e-12)
        assert got["per_image_median"][name] == pytest.approx(np.median(values), abs=1e-12)
    tp, fp, fn, tn = (int(COUNT_TABLE[:, COUNTS.index(name)].sum()) for name in ("tp", "fp", "fn", "tn"))
    assert tuple(got["pooled"]) == SCORES
    assert got["pooled"]["jaccard"] == pytest.approx(tp / (tp + fp + fn), abs=1e-12)
    assert got["pooled"]["specificity"] == pytest.approx(tn / (tn + fp), abs=1e-12)


def test_the_same_numbers_every_time():
    """If broken, two evaluations of the same weights differ in their intervals."""
    assert summarise({"a": VALUES}, COUNT_TABLE) == summarise({"a": VALUES}, COUNT_TABLE)


def test_one_image_warns_of_nothing():
    """If broken, a set or a subgroup of one image gives NaN or numpy's warning on degrees of freedom."""
    got = summarise({"a": np.array([0.5])}, np.array([[0, 0, 0, 9]]))
    assert got["per_image"]["a"] == 0.5
    assert got["per_image_sd"]["a"] == 0
    assert got["per_image_interval"]["a"] == [0.5, 0.5]
    assert got["pooled"]["dice"] == 1
    assert got["pooled_interval"]["dice"] == [1, 1]


def test_draws_do_not_depend_on_the_memory_they_take():
    """If broken, a set so large that its draws are made in parts gets fewer of them, or none."""
    seen = []
    bootstrap(lambda weights: seen.append(weights.sum(axis=1)) or np.zeros((len(weights), 1)), 3000)
    assert len(seen) > 1
    np.testing.assert_array_equal(np.concatenate(seen), np.full(10_000, 3000))
