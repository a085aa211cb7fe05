"""Reliability bins against scikit-learn's calibration curve, the calibration error by hand."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from jaxseg.metrics.calibration import BINS, calibration, tally


def test_bins_equal_scikit_learns():
    """If broken, pixels fall into wrong bins, or a bin's mean probability and share of lesion are swapped."""
    rng = np.random.default_rng(0)
    probability = rng.random((64, 48), dtype=np.float32) ** 2
    truth = rng.random((64, 48)) < probability**1.5
    lesion, mean = calibration_curve(truth.ravel(), probability.ravel(), n_bins=BINS)
    bins = calibration(tally(probability, truth))["bins"]
    np.testing.assert_allclose([b["lesion"] for b in bins], lesion, atol=1e-12)
    np.testing.assert_allclose([b["probability"] for b in bins], mean, atol=1e-6)


def test_error_of_a_literal_case():
    """If broken, the error is not weighted by pixels, or takes the largest gap."""
    probability = np.array([[0.9, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1]], np.float32)
    truth = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], bool)
    got = calibration(tally(probability, truth))
    assert got["expected_calibration_error"] == pytest.approx((4 * 0.15 + 4 * 0.1) / 8, abs=1e-7)
    assert got["pixels"] == 8


def test_images_add_up():
    """If broken, the error of a set is not that of all its pixels pooled."""
    rng = np.random.default_rng(1)
    probability, truth = rng.random((2, 9, 10), dtype=np.float32), rng.random((2, 9, 10)) < 0.3
    apart = calibration(sum(tally(p, t) for p, t in zip(probability, truth, strict=True)))
    together = calibration(tally(probability.reshape(18, 10), truth.reshape(18, 10)))
    assert apart["expected_calibration_error"] == pytest.approx(together["expected_calibration_error"], abs=1e-12)


def test_certain_pixels_and_empty_bins():
    """If broken, a probability of exactly 1 falls off the last bin, or a bin without pixels divides by zero."""
    got = calibration(tally(np.array([[0, 1]], np.float32), np.array([[False, True]])))
    assert got["expected_calibration_error"] == 0
    assert got["bins"][0] == {"from": 0, "to": pytest.approx(1 / BINS), "pixels": 1, "probability": 0, "lesion": 0}
    assert got["bins"][-1]["pixels"] == 1
    assert got["bins"][-1]["to"] == 1
    assert got["bins"][1]["probability"] is None
    assert got["bins"][1]["lesion"] is None
