"""Trust and uncertainty from probabilities alone."""

import math

import numpy as np
import pytest
from scipy import optimize

from jaxseg.config import LossConfig
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter
from jaxseg.inference.trust import Trust, trust_of, unsqueezed
from jaxseg.losses import create_loss

FOCAL = LossConfig(name="focal")


@pytest.mark.parametrize(
    "loss",
    [FOCAL, LossConfig(gamma=1.0), LossConfig(gamma=0.0), LossConfig(class_balanced=True), LossConfig(name="bce")],
)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9])
def test_what_the_loss_does_to_probabilities_is_undone(loss, share):
    """If broken, a probability of 0.6 of a network with the focal loss is taken for even odds, or for certainty.

    The network's best output where a share of pixels is lesion is found by minimising the loss itself; float32.
    """
    per_pixel = create_loss(loss)

    def expected(logit: float) -> float:
        logits, targets = np.full((2, 1, 1, 1), logit, np.float32), np.array([1, 0], np.uint8).reshape(2, 1, 1, 1)
        lesion, skin = (float(per_pixel(logits[i : i + 1], targets[i : i + 1])) for i in (0, 1))
        return share * lesion + (1 - share) * skin

    logit = optimize.minimize_scalar(expected, bounds=(-8, 8), method="bounded", options={"xatol": 1e-6}).x
    probability = np.array([1 / (1 + math.exp(-logit))], np.float32)
    assert unsqueezed(probability, loss)[0] == pytest.approx(share, abs=0.01)


def test_undoing_keeps_the_order_and_the_ends():
    """If broken, a higher output means a lower probability, or certain pixels become NaN."""
    p = np.linspace(0, 1, 1001, dtype=np.float32)
    q = unsqueezed(p, FOCAL)
    assert (np.diff(q) >= 0).all()
    assert q[0] < 1e-3
    assert q[500] == pytest.approx(0.5, abs=1e-6)
    assert q[-1] > 1 - 1e-3


def disc(blur: float) -> np.ndarray:
    """Returns probabilities of a disc whose border is a ramp of `blur` pixels."""
    y, x = np.mgrid[:64, :64] - 31.5
    return np.clip(0.5 + (18 - np.hypot(x, y)) / blur, 0, 1).astype(np.float32)


def test_a_sharper_outline_is_trusted_more():
    """If broken, the order by trust is not that of the doubt about the outline."""
    trust = Trust((LossConfig(name="bce"),))
    scores = [trust.score(disc(blur)) for blur in (1, 4, 12, 30)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.98
    assert scores[-1] < 0.75


def test_nothing_found_is_not_trusted():
    """If broken, an image in which the lesion was overlooked is the last that anybody looks at."""
    trust = Trust((FOCAL,))
    assert trust.score(np.zeros((8, 8), np.float32)) == 0
    assert trust.score(np.full((8, 8), 0.4, np.float32)) == 0
    assert trust.score(0.9 * disc(1)) > 0.9
    assert trust.score(0.9 * disc(1), Prediction(threshold=0.95)) == 0


def test_parts_that_the_mask_drops_do_not_count():
    """If broken, `--largest-component` removes a doubtful speck, but the image is distrusted because of it."""
    trust, probability = Trust((LossConfig(name="bce"),)), disc(1)
    probability[:9, :9] = 0.5
    assert trust.score(probability) < 0.95
    assert trust.score(probability, Prediction(largest_component=True)) > 0.98


def test_uncertainty_is_the_entropy_of_the_label():
    """If broken, the map is not 0 for certain and 1 for even odds, or is of another dtype."""
    found = Trust((LossConfig(name="bce"),)).uncertainty(np.array([[0, 0.25, 0.5, 1]], np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0, 0.811278, 1, 0]], atol=1e-4)


def test_an_ensemble_is_read_by_the_losses_of_its_members(tiny_run, other_run):
    """If broken, the probabilities of an ensemble are read as if the first run's loss had made them all."""
    segmenter = Segmenter.load(tiny_run, other_run)
    assert trust_of(segmenter).losses == tuple(member.config.loss for member in segmenter.members)
    both, p = Trust((FOCAL, LossConfig(name="bce"))), np.array([0.7], np.float32)
    assert both.lesion(p)[0] == pytest.approx((unsqueezed(p, FOCAL)[0] + 0.7) / 2)
