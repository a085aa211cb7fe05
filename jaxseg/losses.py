"""Segmentation losses on logits: per pixel (focal, cross-entropy) and per image (Dice, Tversky, Lovász).

Every loss takes `(logits, targets, *, reduction="mean")`. The pixel losses return one value per pixel with
`reduction="none"`; the region losses, which compare whole masks, return one value per image, [B]. `create_loss` makes
the configured one, or a sum of two. To add a loss: write it here, enter it in `create_loss` and in
`jaxseg.config.LOSSES`.
"""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jaxseg.config import LossConfig


def focal_loss(
    logits: jax.Array,
    targets: jax.Array,
    *,
    alpha: float = 0.8,
    gamma: float = 2.0,
    class_balanced: bool = False,
    reduction: str = "mean",
) -> jax.Array:
    """Focal loss, `alpha * (1 - exp(-BCE))**gamma * BCE` per pixel (Lin et al. 2017; the paper's equation 2).

    With the margin m = logit for lesion and -logit for skin, BCE = softplus(-m) and 1 - exp(-BCE) = sigmoid(-m) =
    exp(-softplus(m)). Written that way the loss and its gradient are finite for every logit and every gamma >= 0. An
    empty mask is no special case: all its pixels are skin.

    Args:
      logits: float [B, H, W, 1], or any other shape.
      targets: {0, 1} of the same shape, any dtype.
      alpha: weight of every pixel; with `class_balanced`, of lesion pixels.
      gamma: focusing exponent; 0 gives alpha times binary cross-entropy.
      class_balanced: weight lesion pixels by alpha and skin pixels by 1 - alpha, like Keras' BinaryFocalCrossentropy
        with `apply_class_balancing=True`. Equation 2 as printed weights all pixels by alpha.
      reduction: "mean" over all pixels, or "none".

    Returns:
      float32 scalar, or the input's shape with `reduction="none"`.

    Raises:
      AssertionError: logits and targets differ in shape.
      ValueError: unknown reduction.
    """
    margin, targets = _margin(logits, targets)
    weight = jnp.where(targets, alpha, 1 - alpha) if class_balanced else alpha
    loss = weight * jnp.exp(-gamma * jax.nn.softplus(margin)) * jax.nn.softplus(-margin)
    return _reduce(loss, reduction)


def binary_cross_entropy(logits: jax.Array, targets: jax.Array, *, reduction: str = "mean") -> jax.Array:
    """Binary cross-entropy per pixel, `-log p` for lesion and `-log(1 - p)` for skin, with p = sigmoid(logit).

    An empty mask is no special case: all its pixels are skin.

    Args:
      logits: float [B, H, W, 1], or any other shape.
      targets: {0, 1} of the same shape, any dtype.
      reduction: "mean" over all pixels, or "none".

    Returns:
      float32 scalar, or the input's shape with `reduction="none"`.

    Raises:
      AssertionError: logits and targets differ in shape.
      ValueError: unknown reduction.
    """
    margin, _ = _margin(logits, targets)
    return _reduce(jax.nn.softplus(-margin), reduction)


def dice_loss(logits: jax.Array, targets: jax.Array, *, smooth: float = 0.5, reduction: str = "mean") -> jax.Array:
    """Soft Dice loss per image, `1 - 2 (TP + s) / (2 (TP + s) + FP + FN)` (Milletari et al. 2016; Sudre et al. 2017).

    TP, FP and FN are those of `tversky_loss`, of which this is the case alpha = beta = 1/2. With the default s = 1/2 it
    is the common form `1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1)`. As Sudre et al. do, and unlike Milletari et al.,
    it sums p and t and not their squares.

    Args:
      logits: float [B, H, W, 1].
      targets: {0, 1} of the same shape, any dtype.
      smooth: s, pixels. With s > 0 the loss of an empty mask is FP / (2 s + FP): 0 for an empty prediction.
      reduction: "mean" over the images, or "none".

    Returns:
      float32 scalar in [0, 1], or [B] with `reduction="none"`.

    Raises:
      AssertionError: logits and targets differ in shape.
      ValueError: unknown reduction.
    """
    return tversky_loss(logits, targets, alpha=0.5, beta=0.5, smooth=smooth, reduction=reduction)


def tversky_loss(
    logits: jax.Array,
    targets: jax.Array,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 0.5,
    reduction: str = "mean",
) -> jax.Array:
    """Tversky loss per image, `1 - (TP + s) / (TP + s + alpha FP + beta FN)` (Salehi, Erdogmus and Gholipour 2017).

    With p = sigmoid(logit) and the target t, TP = sum(p t), FP = sum(p (1 - t)) and FN = sum((1 - p) t) over an image.
    beta > alpha makes a missed lesion pixel dearer than a false one, which favours larger masks.

    Args:
      logits: float [B, H, W, 1].
      targets: {0, 1} of the same shape, any dtype.
      alpha: weight of false positives, at least 0. 1/2 and 1/2 give Dice, 1 and 1 Jaccard.
      beta: weight of false negatives, at least 0.
      smooth: s, pixels. With s > 0 the loss of an empty mask is alpha FP / (s + alpha FP): 0 for an empty prediction.
      reduction: "mean" over the images, or "none".

    Returns:
      float32 scalar in [0, 1], or [B] with `reduction="none"`.

    Raises:
      AssertionError: logits and targets differ in shape.
      ValueError: unknown reduction.
    """
    margin, targets = _margin(logits, targets)
    pixels = tuple(range(1, margin.ndim))
    # The share of a pixel that is wrong, p or 1 - p. 1 - sigmoid(m) would lose all digits of a confident pixel.
    wrong = jax.nn.sigmoid(-margin)
    error = jnp.sum(wrong * jnp.where(targets, beta, alpha), axis=pixels)
    true_positive = jnp.sum(jax.nn.sigmoid(margin) * targets, axis=pixels)
    # Not 1 minus the index, for the same reason. The floor, pixels, is for smooth = 0 where all is skin: 0 / 0.
    return _reduce(error / jnp.maximum(true_positive + smooth + error, 1e-12), reduction)


def focal_tversky_loss(
    logits: jax.Array,
    targets: jax.Array,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    smooth: float = 0.5,
    reduction: str = "mean",
) -> jax.Array:
    """Focal Tversky loss per image, `tversky_loss**(1 / gamma)` (Abraham and Khan 2019, equation 4).

    gamma > 1 keeps the gradient of images that are nearly right large compared with the plain Tversky loss; the authors
    take 4/3. Their alpha weights false negatives and their beta false positives; here the names are those of Salehi et
    al., as in `tversky_loss`, so that their 0.7 and 0.3 are 0.3 and 0.7 here.

    Args:
      logits: float [B, H, W, 1].
      targets: {0, 1} of the same shape, any dtype.
      alpha: weight of false positives, at least 0.
      beta: weight of false negatives, at least 0.
      gamma: inverse of the exponent, above 0; 1 gives `tversky_loss`.
      smooth: pixels added to TP. An empty prediction of an empty mask has loss 0.
      reduction: "mean" over the images, or "none".

    Returns:
      float32 scalar in [0, 1], or [B] with `reduction="none"`.

    Raises:
      AssertionError: logits and targets differ in shape.
      ValueError: unknown reduction.
    """
    loss = tversky_loss(logits, targets, alpha=alpha, beta=beta, smooth=smooth, reduction="none")
    # The power's slope at 0 is infinite, and infinity times the saturated sigmoid's slope of 0 is NaN.
    zero = loss <= jnp.finfo(jnp.float32).tiny
    return _reduce(jnp.where(zero, 0.0, jnp.where(zero, 1.0, loss) ** (1 / gamma)), reduction)


def lovasz_hinge(logits: jax.Array, targets: jax.Array, *, reduction: str = "mean") -> jax.Array:
    """Lovász hinge per image: the convex surrogate of the Jaccard loss (Berman, Rannen Triki and Blaschko 2018).

    A pixel's hinge error is `max(0, 1 - m)` with the margin m = logit for lesion and -logit for skin. The errors of an
    image, largest first, are weighted by how much the Jaccard loss grows when that pixel becomes wrong in addition to
    those before it (the paper's algorithm 1). Errors of 0 or 2 alone make the loss twice the Jaccard loss of the mask
    at threshold 0. Nothing but the order of the logits and their distance from 1 and -1 counts, so that sigmoid(logit)
    is no calibrated probability afterwards.

    An empty mask has the loss of its worst pixel, `max(0, 1 + largest logit)`; a prediction of logits of at most -1
    everywhere has loss 0.

    Args:
      logits: float [B, H, W, 1].
      targets: {0, 1} of the same shape, any dtype.
      reduction: "mean" over the images, or "none".

    Returns:
      float32 scalar, at least 0, or [B] with `reduction="none"`.

    Raises:
      AssertionError: logits and targets differ in shape.
      ValueError: unknown reduction.
    """
    margin, targets = _margin(logits, targets)
    images = margin.shape[0]
    errors, targets = (1 - margin).reshape(images, -1), targets.reshape(images, -1)
    # The weights are constant between changes of the order, so the gradient need not pass through the sort.
    order = jnp.argsort(jax.lax.stop_gradient(errors), axis=1, descending=True)
    errors, targets = (jnp.take_along_axis(values, order, axis=1) for values in (errors, targets))
    lesion = jnp.sum(targets, axis=1, keepdims=True, dtype=jnp.int32)
    missed = jnp.cumsum(targets, axis=1, dtype=jnp.int32)
    union = lesion + jnp.arange(1, errors.shape[1] + 1) - missed  # at least 1
    jaccard_loss = 1 - (lesion - missed) / union
    weights = jnp.diff(jaccard_loss, axis=1, prepend=0.0)
    return _reduce(jnp.sum(jax.nn.relu(errors) * weights, axis=1), reduction)


def create_loss(config: LossConfig) -> Callable[..., jax.Array]:
    """Returns the configured loss as a function of logits, targets and `reduction`.

    With `reduction="mean"` it returns the mean over the batch, with "none" the loss of each image, [B], whether the
    loss is one of pixels or of regions. The terms of a sum such as "focal+dice" have weight 1 each.
    """
    tversky = {"alpha": config.tversky_alpha, "beta": config.tversky_beta}
    table: dict[str, Callable[..., jax.Array]] = {
        "focal": functools.partial(
            focal_loss, alpha=config.alpha, gamma=config.gamma, class_balanced=config.class_balanced
        ),
        "bce": binary_cross_entropy,
        "dice": dice_loss,
        "tversky": functools.partial(tversky_loss, **tversky),
        "focal_tversky": functools.partial(focal_tversky_loss, **tversky, gamma=config.tversky_gamma),
        "lovasz_hinge": lovasz_hinge,
    }
    terms = [table[name] for name in config.name.split("+")]

    def loss(logits: jax.Array, targets: jax.Array, *, reduction: str = "mean") -> jax.Array:
        values = [term(logits, targets, reduction=reduction) for term in terms]
        if reduction == "none":
            values = [value.mean(axis=tuple(range(1, value.ndim))) for value in values]
        return sum(values[1:], start=values[0])

    return loss


def _margin(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the logit of the true class, float32 because the losses need the range, and the targets as bool."""
    chex.assert_equal_shape([logits, targets])
    logits = jnp.asarray(logits, jnp.float32)
    targets = jnp.asarray(targets) > 0.5
    return jnp.where(targets, logits, -logits), targets


def _reduce(loss: jax.Array, reduction: str) -> jax.Array:
    if reduction == "none":
        return loss
    if reduction == "mean":
        return loss.mean()
    raise ValueError(f"reduction = {reduction!r}: must be 'mean' or 'none'")
