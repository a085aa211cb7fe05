"""Losses against the formulas as printed, written again in float64 NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import f1_score, jaccard_score

from experiments.parity.reference.recipe import equation_2
from jaxseg.config import LOSSES, Config, LossConfig
from jaxseg.losses import (
    binary_cross_entropy,
    create_loss,
    dice_loss,
    focal_loss,
    focal_tversky_loss,
    lovasz_hinge,
    tversky_loss,
)

LOGITS = np.linspace(-60, 60, 481, dtype=np.float32)
REGIONS = {"dice": dice_loss, "tversky": tversky_loss, "focal_tversky": focal_tversky_loss, "lovasz": lovasz_hinge}


def batch(seed: int = 0, scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits and targets [5, 6, 7, 1]; the fourth target is empty, the fifth full."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((5, 6, 7, 1)) < 0.4).astype(np.uint8)
    targets[3], targets[4] = 0, 1
    return rng.normal(size=targets.shape, scale=scale).astype(np.float32), targets


def tversky_64(logits, targets, alpha, beta, smooth):
    """Returns 1 minus Salehi's index per image in float64, from the table of an image's soft counts."""
    losses = []
    for scores, truth in zip(logits.astype(np.float64), targets, strict=True):
        p = np.stack([1 / (1 + np.exp(scores.ravel())), 1 / (1 + np.exp(-scores.ravel()))])
        t = np.eye(2)[truth.ravel().astype(int)]
        (_, false_negative), (false_positive, true_positive) = p @ t
        index = (true_positive + smooth) / (true_positive + smooth + alpha * false_positive + beta * false_negative)
        losses.append(1 - index)
    return np.array(losses)


def lovasz_64(logits, targets):
    """Returns the Lovász hinge per image by the definition of the Lovász extension, with a set function and no cumsum.

    Berman et al. 2018, equations 4, 5 and 8: sum over pixels, by falling error, of the error times the difference of
    the Jaccard loss of the set of wrong pixels with and without that pixel.
    """

    def jaccard_loss(wrong, truth):
        return len(wrong) / len(truth | wrong) if wrong else 0.0

    losses = []
    for scores, target in zip(logits.astype(np.float64), targets, strict=True):
        signs = 2.0 * target.ravel() - 1
        errors = np.maximum(1 - signs * scores.ravel(), 0)
        truth, wrong, total = set(np.flatnonzero(target.ravel())), set(), 0.0
        for pixel in sorted(range(errors.size), key=lambda i: -errors[i]):
            total += errors[pixel] * (jaccard_loss(wrong | {pixel}, truth) - jaccard_loss(wrong, truth))
            wrong.add(pixel)
        losses.append(total)
    return np.array(losses)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("target", [0, 1])
def test_focal_loss_is_equation_2(gamma, target):
    """If broken, the training loss is not the paper's, or loses its digits on confident pixels."""
    targets = np.full(LOGITS.shape, target, np.uint8)
    loss = focal_loss(LOGITS, targets, gamma=gamma, reduction="none")
    # float32 has a precision of 6e-8, which gamma times a logit of 60 multiplies; below 1e-37 it has no digits left.
    np.testing.assert_allclose(loss, equation_2(LOGITS, targets, 0.8, gamma), rtol=4e-5, atol=1e-37)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
def test_gradients_are_finite(gamma):
    """If broken, one saturated pixel turns all weights into NaN."""
    for targets in (np.zeros(LOGITS.shape), np.ones(LOGITS.shape)):
        gradient = jax.grad(lambda z, t=targets: focal_loss(z, t, gamma=gamma))(jnp.asarray(LOGITS) * 1000)
        chex.assert_tree_all_finite(gradient)


def test_gamma_0_is_alpha_times_cross_entropy():
    """If broken, the ablation from focal loss to cross-entropy does not end at cross-entropy."""
    targets = np.arange(LOGITS.size) % 2
    focal = focal_loss(LOGITS, targets, alpha=0.8, gamma=0.0, reduction="none")
    np.testing.assert_allclose(focal, 0.8 * binary_cross_entropy(LOGITS, targets, reduction="none"), rtol=1e-6)


def test_pixel_losses_are_those_of_optax():
    """If broken, cross-entropy or the class-balanced focal loss is another one than the library's."""
    logits, targets = batch()
    ours = binary_cross_entropy(logits, targets, reduction="none")
    np.testing.assert_allclose(ours, optax.sigmoid_binary_cross_entropy(logits, targets), rtol=1e-5)
    ours = focal_loss(logits, targets, class_balanced=True, reduction="none")
    # Older releases of optax take 1 - p from a p near one, which leaves few digits of a loss near zero.
    theirs = optax.sigmoid_focal_loss(logits, targets, alpha=0.8, gamma=2.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-9)


def test_literal_values():
    """If broken, a sign, the base or the reduction is wrong; the numbers are worked out by hand."""
    logits, targets = jnp.array([0.0, 0.0]), jnp.array([0, 1])
    assert float(binary_cross_entropy(logits, targets)) == pytest.approx(0.6931472)
    assert float(focal_loss(logits, targets)) == pytest.approx(0.8 * 0.25 * 0.6931472)
    # p = 0.9 for a lesion pixel: 0.8 * 0.1**2 * -ln 0.9
    assert float(focal_loss(jnp.array([np.log(9.0)]), jnp.array([1]))) == pytest.approx(
        0.8 * 0.01 * 0.1053605, rel=1e-5
    )


def test_literal_values_of_region_losses():
    """If broken, false positives and negatives are mixed up, or a count is that of another cell; worked out by hand."""
    # p = 3/4, 3/4, 1/4, 1/4 and t = 1, 0, 1, 0: TP = 1, FP = 1, FN = 1.
    logits = np.log([3.0, 3.0, 1 / 3, 1 / 3]).reshape(1, 2, 2, 1)
    targets = np.array([1, 0, 1, 0]).reshape(1, 2, 2, 1)
    assert float(dice_loss(logits, targets)) == pytest.approx(1 - 3 / 5)
    assert float(dice_loss(logits, targets, smooth=0)) == pytest.approx(1 - 2 / 4)
    # TP = 3/4, FP = 1/4 + 3/4 = 1, FN = 1/4.
    targets = np.array([1, 0, 0, 0]).reshape(1, 2, 2, 1)
    logits = np.log([3.0, 3.0, 1 / 3, 1e-30]).reshape(1, 2, 2, 1)
    loss = 1 - 1.25 / (1.25 + 0.3 * 1 + 0.7 * 0.25)
    assert float(tversky_loss(logits, targets)) == pytest.approx(loss)
    assert float(focal_tversky_loss(logits, targets)) == pytest.approx(loss**0.75)
    # Errors 1 (lesion at 0), 3 (skin at 2), 0 (skin at -5): Jaccard losses of the growing sets 1/2, 1, 1.
    logits, targets = np.array([0.0, 2.0, -5.0]).reshape(1, 1, 3, 1), np.array([1, 0, 0]).reshape(1, 1, 3, 1)
    assert float(lovasz_hinge(logits, targets)) == pytest.approx(3 * 0.5 + 1 * 0.5)


@pytest.mark.parametrize(("alpha", "beta", "gamma", "smooth"), [(0.3, 0.7, 4 / 3, 0.5), (1, 0.2, 0.7, 0), (2, 3, 3, 9)])
def test_tversky_losses_are_their_formulas(alpha, beta, gamma, smooth):
    """If broken, a weight, the exponent or the smoothing is applied elsewhere than the docstring says."""
    logits, targets = batch()
    expected = tversky_64(logits, targets, alpha, beta, smooth)
    settings = {"alpha": alpha, "beta": beta, "smooth": smooth}
    loss = tversky_loss(logits, targets, **settings, reduction="none")
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    loss = focal_tversky_loss(logits, targets, **settings, gamma=gamma, reduction="none")
    np.testing.assert_allclose(loss, expected ** (1 / gamma), rtol=1e-5)


def test_dice_loss_is_its_common_form():
    """If broken, "dice" is a Tversky loss of other weights than 1/2 and 1/2."""
    logits, targets = batch()
    p, t = 1 / (1 + np.exp(-np.float64(logits))), np.float64(targets)
    expected = 1 - (2 * (p * t).sum((1, 2, 3)) + 1) / (p.sum((1, 2, 3)) + t.sum((1, 2, 3)) + 1)
    np.testing.assert_allclose(dice_loss(logits, targets, reduction="none"), expected, rtol=1e-5)
    assert float(dice_loss(logits, targets)) == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_lovasz_hinge_is_the_lovasz_extension(scale):
    """If broken, the weights are not the growth of the Jaccard loss, or are given to other pixels."""
    logits, targets = batch(1, scale)
    loss = lovasz_hinge(logits, targets, reduction="none")
    np.testing.assert_allclose(loss, lovasz_64(logits, targets), rtol=1e-5, atol=1e-6)
    assert float(lovasz_hinge(logits, targets)) == pytest.approx(lovasz_64(logits, targets).mean(), rel=1e-5)


def test_lovasz_gradient_is_the_slope():
    """If broken, the gradient is not that of the loss, because the sort is held constant where it is not."""
    logits, targets = batch(2)
    gradient = np.asarray(jax.grad(lovasz_hinge)(logits, targets))
    rng, step = np.random.default_rng(0), 1e-5
    for direction in rng.normal(size=(5, *logits.shape)):
        ahead, behind = (lovasz_64(logits + sign * step * direction, targets).mean() for sign in (1, -1))
        # Between ties the loss is linear.
        assert (gradient * direction).sum() == pytest.approx((ahead - behind) / (2 * step), rel=1e-3, abs=1e-4)


def test_region_losses_of_hard_masks_are_scikit_learns_scores():
    """If broken, a confident prediction's loss is not 1 minus its Dice or Jaccard."""
    rng = np.random.default_rng(3)
    found, targets = rng.random((2, 4, 9, 8, 1)) < 0.5
    logits = np.where(found, 50.0, -50.0)
    pairs = [(t.ravel(), f.ravel()) for t, f in zip(targets, found, strict=True)]
    dice = [1 - f1_score(*pair) for pair in pairs]
    jaccard = [1 - jaccard_score(*pair) for pair in pairs]
    np.testing.assert_allclose(dice_loss(logits, targets, smooth=0, reduction="none"), dice, rtol=1e-5)
    losses = tversky_loss(logits, targets, alpha=1, beta=1, smooth=0, reduction="none")
    np.testing.assert_allclose(losses, jaccard, rtol=1e-5)
    # Logits of 1 and -1 have hinge errors of 0 and 2.
    np.testing.assert_allclose(lovasz_hinge(logits / 50, targets, reduction="none"), 2 * np.array(jaccard), rtol=1e-5)


@pytest.mark.parametrize("name", REGIONS)
def test_empty_masks(name):
    """If broken, an image without lesion gives NaN, or an empty prediction of it is punished."""
    nothing = np.zeros((1, 4, 4, 1), np.uint8)
    loss = REGIONS[name]
    assert float(loss(np.full(nothing.shape, -50.0), nothing)) == pytest.approx(0, abs=1e-12)
    everywhere = float(loss(np.full(nothing.shape, 50.0), nothing))
    expected = {"dice": 16 / 17, "tversky": 4.8 / 5.3, "focal_tversky": (4.8 / 5.3) ** 0.75, "lovasz": 51}
    assert everywhere == pytest.approx(expected[name], rel=1e-5)
    assert float(loss(np.full(nothing.shape, 50.0), nothing + 1)) == pytest.approx(0, abs=1e-12)


def test_without_smoothing_an_empty_mask_is_finite():
    """If broken, `smooth=0` divides 0 by 0 on a saturated empty prediction of an empty mask."""
    value, gradient = jax.value_and_grad(lambda z: dice_loss(z, jnp.zeros_like(z), smooth=0))(jnp.full((1, 2, 2), -1e4))
    assert float(value) == 0
    chex.assert_tree_all_finite(gradient)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4, 1e30])
def test_every_loss_has_finite_gradients(name, scale):
    """If broken, a saturated, perfect or empty prediction turns all weights into NaN."""
    _, targets = batch()
    for sign in (1, -1):
        logits = jnp.asarray(sign * scale * (2.0 * targets - 1), jnp.float32)
        value, gradient = jax.value_and_grad(create_loss(LossConfig(name=name)))(logits, targets)
        chex.assert_tree_all_finite((value, gradient))
        if sign < 0:
            assert float(value) > 0.05, "a wrong prediction is hardly punished"


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_under_gradient_descent(name):
    """If broken, a loss that can be configured does not train: its gradient is 0, or points upwards."""
    logits, targets = batch(scale=0.5)
    loss = create_loss(LossConfig(name=name))
    step = jax.jit(lambda z: z - 20 * jax.grad(loss)(z, targets))
    found = jnp.asarray(logits)
    for _ in range(200):
        found = step(found)
    assert float(loss(found, targets)) < 0.7 * float(loss(logits, targets))
    assert ((found > 0) == targets).mean() > ((logits > 0) == targets).mean()


@pytest.mark.parametrize("name", LOSSES)
def test_nan_is_not_hidden(name):
    """If broken, a run that diverged looks like one with a small loss, and goes on."""
    logits, targets = batch()
    logits[0, 0, 0] = np.nan
    assert np.isnan(create_loss(LossConfig(name=name))(logits, targets))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_under_transformations_and_in_bfloat16(name):
    """If broken, a loss mixes images under vmap, differs between one device and four, or sums in bfloat16."""
    logits, targets = (part[:4] for part in batch())
    loss = create_loss(LossConfig(name=name))
    each = loss(logits, targets, reduction="none")
    assert each.shape == (4,)
    assert each.dtype == jnp.float32
    assert float(loss(logits, targets)) == pytest.approx(float(each.mean()), rel=1e-6)
    # Compiled in other ways, sums run in another order.
    np.testing.assert_allclose(jax.jit(loss, static_argnames="reduction")(logits, targets), each.mean(), rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(loss)(logits[:, None], targets[:, None]), each, rtol=1e-5)
    spread = jax.pmap(lambda z, t: jax.lax.pmean(loss(z, t), "devices"), axis_name="devices")
    np.testing.assert_allclose(spread(logits[:, None], targets[:, None]), np.full(4, each.mean()), rtol=1e-5)
    halves = jnp.asarray(logits, jnp.bfloat16)
    narrow = loss(halves, targets, reduction="none")
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, loss(halves.astype(jnp.float32), targets, reduction="none"), rtol=1e-6)
    assert jax.grad(loss)(halves, targets).dtype == jnp.bfloat16


def test_class_balanced_weights_skin_by_1_minus_alpha():
    """If broken, the class-balanced ablation weights all pixels alike."""
    loss = focal_loss(jnp.zeros(2), jnp.array([0, 1]), class_balanced=True, reduction="none")
    np.testing.assert_allclose(loss, np.array([0.2, 0.8]) * 0.25 * np.log(2), rtol=1e-6)


def test_loss_is_float32_for_bfloat16_logits():
    """If broken, a bfloat16 run sums its loss in 8 bits of precision."""
    assert focal_loss(jnp.zeros(3, jnp.bfloat16), jnp.zeros(3)).dtype == jnp.float32


@pytest.mark.parametrize("loss", [focal_loss, binary_cross_entropy, *REGIONS.values()])
def test_shapes_must_be_equal(loss):
    """If broken, logits [B, H, W, 1] broadcast against masks [B, H, W] to a loss of something else."""
    with pytest.raises(AssertionError):
        loss(jnp.zeros((2, 4, 4, 1)), jnp.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match="'sum': must be 'mean' or 'none'"):
        loss(jnp.zeros((2, 4, 4, 1)), jnp.zeros((2, 4, 4, 1)), reduction="sum")


CONFIGURED = {
    "focal": lambda *a: focal_loss(*a, alpha=0.5, gamma=1.0),
    "bce": binary_cross_entropy,
    "dice": dice_loss,
    "tversky": lambda *a: tversky_loss(*a, alpha=0.1, beta=2.0),
    "focal_tversky": lambda *a: focal_tversky_loss(*a, alpha=0.1, beta=2.0, gamma=3.0),
    "lovasz_hinge": lovasz_hinge,
    "focal+dice": lambda *a: focal_loss(*a, alpha=0.5, gamma=1.0) + dice_loss(*a),
    "bce+dice": lambda *a: binary_cross_entropy(*a) + dice_loss(*a),
}


@pytest.mark.parametrize("name", LOSSES)
def test_configured_loss(name):
    """If broken, --loss.name or the loss's other settings have no effect, or a listed name makes another loss."""
    logits, targets = batch()
    settings = {"alpha": 0.5, "gamma": 1.0, "tversky_alpha": 0.1, "tversky_beta": 2.0, "tversky_gamma": 3.0}
    config = Config().updated({f"loss.{key}": value for key, value in {"name": name, **settings}.items()}).loss
    assert float(create_loss(config)(logits, targets)) == float(CONFIGURED[name](logits, targets))
