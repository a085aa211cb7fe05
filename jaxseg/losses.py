"""Segmentation losses on logits: the paper's focal loss and binary cross-entropy."""

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
    """Focal loss, `alpha * (1 - exp(-BCE))**gamma * BCE` per pixel (paper, equation 2).

    With the margin m = logit for lesion and -logit for skin, BCE = softplus(-m) and 1 - exp(-BCE) = sigmoid(-m) =
    exp(-softplus(m)). Written that way the loss and its gradient are finite for every logit and every gamma >= 0.

    Args:
      logits: float [B, H, W, 1], of any shape.
      targets: {0, 1} of the same shape, any dtype.
      alpha: weight of every pixel; with `class_balanced`, of lesion pixels.
      gamma: focusing exponent; 0 gives alpha times binary cross-entropy.
      class_balanced: weight lesion pixels by alpha and skin pixels by 1 - alpha, as Keras' BinaryFocalCrossentropy with
        `apply_class_balancing=True`. Equation 2 as printed weights all pixels by alpha.
      reduction: "mean" over all pixels, or "none".

    Returns:
      float32 scalar, or the input's shape with `reduction="none"`.
    """
    margin, targets = _margin(logits, targets)
    weight = jnp.where(targets, alpha, 1 - alpha) if class_balanced else alpha
    loss = weight * jnp.exp(-gamma * jax.nn.softplus(margin)) * jax.nn.softplus(-margin)
    return _reduce(loss, reduction)


def binary_cross_entropy(logits: jax.Array, targets: jax.Array, *, reduction: str = "mean") -> jax.Array:
    """Binary cross-entropy per pixel, `-log p` for lesion and `-log(1 - p)` for skin, with p = sigmoid(logit).

    Args:
      logits: float [B, H, W, 1], of any shape.
      targets: {0, 1} of the same shape, any dtype.
      reduction: "mean" over all pixels, or "none".

    Returns:
      float32 scalar, or the input's shape with `reduction="none"`.
    """
    margin, _ = _margin(logits, targets)
    return _reduce(jax.nn.softplus(-margin), reduction)


def create_loss(config: LossConfig) -> Callable[..., jax.Array]:
    """Returns the configured loss as a function of logits, targets and `reduction`."""
    if config.name == "bce":
        return binary_cross_entropy

    def loss(logits: jax.Array, targets: jax.Array, *, reduction: str = "mean") -> jax.Array:
        return focal_loss(
            logits,
            targets,
            alpha=config.alpha,
            gamma=config.gamma,
            class_balanced=config.class_balanced,
            reduction=reduction,
        )

    return loss


def _margin(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the logit of the true class, float32 (the loss needs the range), and the targets as bool."""
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
