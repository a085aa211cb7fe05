"""Losses against the formulas as printed, in float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.parity.reference.recipe import equation_2
from jaxseg.config import LossConfig
from jaxseg.losses import binary_cross_entropy, create_loss, focal_loss

LOGITS = np.linspace(-60, 60, 481, dtype=np.float32)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("target", [0, 1])
def test_focal_loss_is_equation_2(gamma, target):
    """Broken: the training loss is not the paper's, or loses its digits on confident pixels."""
    targets = np.full(LOGITS.shape, target, np.uint8)
    loss = focal_loss(LOGITS, targets, gamma=gamma, reduction="none")
    # 1e-5: float32 has 6e-8, which gamma times a logit of 60 multiplies; below 1e-37 float32 has no digits left.
    np.testing.assert_allclose(loss, equation_2(LOGITS, targets, 0.8, gamma), rtol=4e-5, atol=1e-37)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
def test_gradients_are_finite(gamma):
    """Broken: one saturated pixel turns all weights into NaN."""
    for targets in (np.zeros(LOGITS.shape), np.ones(LOGITS.shape)):
        gradient = jax.grad(lambda z, t=targets: focal_loss(z, t, gamma=gamma))(jnp.asarray(LOGITS) * 1000)
        chex.assert_tree_all_finite(gradient)


def test_gamma_0_is_alpha_times_cross_entropy():
    """Broken: the ablation from focal loss to cross-entropy does not end at cross-entropy."""
    targets = np.arange(LOGITS.size) % 2
    focal = focal_loss(LOGITS, targets, alpha=0.8, gamma=0.0, reduction="none")
    np.testing.assert_allclose(focal, 0.8 * binary_cross_entropy(LOGITS, targets, reduction="none"), rtol=1e-6)


def test_literal_values():
    """Broken: any of sign, base, reduction; the numbers are worked out by hand."""
    logits, targets = jnp.array([0.0, 0.0]), jnp.array([0, 1])
    assert float(binary_cross_entropy(logits, targets)) == pytest.approx(0.6931472)
    assert float(focal_loss(logits, targets)) == pytest.approx(0.8 * 0.25 * 0.6931472)
    # p = 0.9 for a lesion pixel: 0.8 * 0.1**2 * -ln 0.9
    assert float(focal_loss(jnp.array([np.log(9.0)]), jnp.array([1]))) == pytest.approx(
        0.8 * 0.01 * 0.1053605, rel=1e-5
    )


def test_class_balanced_weights_skin_by_1_minus_alpha():
    """Broken: the class-balanced ablation weights all pixels alike."""
    loss = focal_loss(jnp.zeros(2), jnp.array([0, 1]), class_balanced=True, reduction="none")
    np.testing.assert_allclose(loss, np.array([0.2, 0.8]) * 0.25 * np.log(2), rtol=1e-6)


def test_loss_is_float32_for_bfloat16_logits():
    """Broken: a bfloat16 run sums its loss in 8 bits of precision."""
    assert focal_loss(jnp.zeros(3, jnp.bfloat16), jnp.zeros(3)).dtype == jnp.float32


def test_shapes_must_be_equal():
    """Broken: logits [B, H, W, 1] broadcast against masks [B, H, W] to a loss of something else."""
    with pytest.raises(AssertionError):
        focal_loss(jnp.zeros((2, 4, 4, 1)), jnp.zeros((2, 4, 4)))


@pytest.mark.parametrize("name", ["focal", "bce"])
def test_configured_loss(name):
    """Broken: --loss.name or --loss.gamma has no effect."""
    loss = create_loss(LossConfig(name=name, alpha=0.5, gamma=1.0))
    direct = (
        focal_loss(LOGITS, LOGITS > 3, alpha=0.5, gamma=1.0)
        if name == "focal"
        else binary_cross_entropy(LOGITS, LOGITS > 3)
    )
    assert float(loss(LOGITS, LOGITS > 3)) == float(direct)
