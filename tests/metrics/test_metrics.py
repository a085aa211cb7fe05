"""Confusion counts and scores against an independent numpy route."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.metrics import COUNTS, SCORES, confusion, scores


def test_counts_equal_numpy():
    """If broken, true and false positives or the two axes of the table are mixed up."""
    rng = np.random.default_rng(0)
    prediction, truth = rng.integers(0, 2, (2, 3, 8, 9, 1), dtype=np.uint8)
    for convert in (np.asarray, jnp.asarray):
        counts = confusion(convert(prediction), convert(truth))
        for i in range(3):
            table = np.zeros((2, 2), int)
            np.add.at(table, (truth[i].ravel(), prediction[i].ravel()), 1)
            assert [int(counts[k][i]) for k in ("tn", "fp", "fn", "tp")] == table.ravel().tolist()
        assert counts["tp"].dtype == np.int32


def test_scores_equal_their_definitions():
    """If broken, two scores are swapped, or accuracy follows the paper's misprint (TP + FP)."""
    s = scores({"tp": 30, "fp": 10, "fn": 20, "tn": 40})
    assert s["accuracy"] == pytest.approx(0.7)
    assert s["dice"] == pytest.approx(60 / 90)
    assert s["jaccard"] == pytest.approx(30 / 60)
    assert s["sensitivity"] == pytest.approx(0.6)
    assert s["specificity"] == pytest.approx(0.8)
    assert tuple(s) == SCORES


def test_jaccard_follows_from_dice():
    """If broken, Dice and Jaccard contradict each other (J = D / (2 - D)), as in the paper's abstract."""
    counts = dict(zip(("tp", "fp", "fn", "tn"), np.random.default_rng(1).integers(1, 99, (4, 50)), strict=True))
    s = scores(counts)
    np.testing.assert_allclose(s["jaccard"], s["dice"] / (2 - s["dice"]), rtol=1e-12)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"tp": 0, "fp": 0, "fn": 0, "tn": 9}, {"dice": 1, "jaccard": 1, "sensitivity": 1, "specificity": 1}),
        ({"tp": 0, "fp": 3, "fn": 0, "tn": 6}, {"dice": 0, "jaccard": 0, "sensitivity": 1, "specificity": 6 / 9}),
        ({"tp": 0, "fp": 0, "fn": 3, "tn": 6}, {"dice": 0, "jaccard": 0, "sensitivity": 0, "specificity": 1}),
        ({"tp": 9, "fp": 0, "fn": 0, "tn": 0}, {"dice": 1, "jaccard": 1, "sensitivity": 1, "specificity": 1}),
    ],
)
def test_empty_masks(counts, expected):
    """If broken, an image without lesion gives NaN, or a perfect empty prediction scores 0."""
    for values in (counts, {k: jnp.array(v) for k, v in counts.items()}):
        s = scores(values)
        assert {k: pytest.approx(float(s[k])) for k in expected} == expected


def test_pooled_counts_do_not_overflow():
    """If broken, pooled scores of a large set wrap around at 2**31 pixels."""
    s = scores({"tp": 3 * 10**12, "fp": 10**12, "fn": 10**12, "tn": 5 * 10**12})
    assert s["dice"] == pytest.approx(0.75)
    for dtype, count in ((np.int32, 2**30 + 5), (np.uint8, 200)):
        s = scores({name: np.array([count], dtype) for name in COUNTS})
        assert (s["dice"], s["jaccard"]) == (0.5, pytest.approx(1 / 3))


@pytest.mark.parametrize("value", [0.3, np.nan, 255.0])
def test_probabilities_are_no_masks(value):
    """If broken, what the Segmenter returns scores as a mask that is lesion all over."""
    truth = np.zeros((1, 4, 4), bool)
    for masks in ((np.full((1, 4, 4), value, np.float32), truth), (truth, np.full((1, 4, 4), value))):
        with pytest.raises(ValueError, match="must hold 0 and 1, not probabilities"):
            confusion(*masks)
    assert confusion(truth.astype(np.float32), truth)["tn"] == 16


def test_shapes_must_be_equal():
    """If broken, masks [B, H, W] broadcast against [B, H, W, 1] to meaningless counts."""
    with pytest.raises(AssertionError):
        confusion(np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 4)))
