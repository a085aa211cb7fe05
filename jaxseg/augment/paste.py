"""Lesions that are smaller and elsewhere than where the camera's user put them, on the device.

Photographers fill the frame with the lesion and keep it in the middle, some more than others (Yun et al., CutMix, ICCV
2019, and Ghiasi et al., Simple Copy-Paste, CVPR 2021, arXiv 2012.07177, paste across images; here the skin is its own).
"""

import math

import jax
import jax.numpy as jnp

from jaxseg.augment.drawing import blurred, ramp, uniform

_SCALES = (0.3, 0.9)
"""Smallest and largest magnification of a pasted lesion."""

_LARGEST = 0.5
"""Share of the image that a lesion may take: beside larger ones there is too little skin to paste on."""

_BORDER = 0.03
"""How far a lesion fades into the skin beyond its outline, as a share of the shorter side."""

_REACH = 0.15
"""From how far skin is taken to fill the place of the lesion, as a share of the shorter side."""

_DARK = 0.75
"""Light that skin has at least to fill with, as a share of the skin's mean."""

_GRAIN = 0.01
"""Size of the skin's details that count as grain, as a share of the shorter side."""


def paste_smaller(key: jax.Array, image: jax.Array, mask: jax.Array, probability: float) -> tuple[jax.Array, jax.Array]:
    """Takes a lesion out of its skin and pastes it there again, smaller and somewhere else.

    Its place is filled with the mean of the skin around, as grainy as the rest. An image without lesion, or with one of
    more than half of its pixels, stays as it is.

    Args:
      key: a `jax.random` key.
      image: float32 [H, W, 3], RGB in [0, 255].
      mask: {0, 1} of any dtype, [H, W, 1].
      probability: how often the image changes, in [0, 1].

    Returns:
      Image, float32 [H, W, 3] in [0, 255], and mask, of the same dtype.
    """
    chance, own_key, grain_key = jax.random.split(key, 3)
    lesion = mask.astype(jnp.float32)
    share, side = lesion.mean(), min(image.shape[:2])
    near = blurred(lesion, _BORDER * side)
    with_border, skin = ramp(near, 0.02, 0.4), 1 - ramp(near, 0, 0.02)
    light = image.mean(axis=-1, keepdims=True)
    # Dark corners and hairs are no skin to fill with.
    skin *= light > _DARK * (light * skin).sum() / jnp.maximum(skin.sum(), 1)

    around = blurred(jnp.concatenate([image * skin, skin], axis=-1), _REACH * side)
    grain = jnp.abs(image - blurred(image, _GRAIN * side)) * skin
    deviation = math.sqrt(math.pi / 2) * grain.sum(axis=(0, 1)) / jnp.maximum(skin.sum(), 1)
    filling = around[..., :3] / jnp.maximum(around[..., 3:], 1e-6)
    filling += deviation * jax.random.normal(grain_key, mask.shape)
    without = image + with_border * (filling - image)

    size, *places = uniform(own_key, _SCALES, (0.1, 0.9), (0.1, 0.9))
    down, across = (_shrinking(lesion.sum(axis=(1 - axis, 2)), size, place) for axis, place in enumerate(places))
    parts = jnp.concatenate([image * with_border, with_border, lesion], axis=-1)
    parts = jnp.einsum("yh,xw,hwc->yxc", down, across, parts, precision="highest")
    pasted = jnp.clip(without * (1 - parts[..., 3:4]) + parts[..., :3], 0, 255)

    changes = jax.random.bernoulli(chance, probability) & (share > 0) & (share <= _LARGEST)
    return jnp.where(changes, pasted, image), jnp.where(changes, (parts[..., 4:] > 0.5).astype(mask.dtype), mask)


def _shrinking(profile: jax.Array, scale: jax.Array, place: jax.Array) -> jax.Array:
    """Returns the matrix [N, N] that scales the pixels along an axis, and moves the lesion's middle to a place.

    Args:
      profile: the lesion's pixels along the axis, [N].
      scale: magnification, at most 1.
      place: where the middle comes to lie, a share of the axis.

    Returns:
      float32 [N, N], means over the pixels that fall into one; 0 where nothing does.
    """
    count = profile.shape[0]
    centres = jnp.arange(count) + 0.5
    middle = (profile * centres).sum() / jnp.maximum(profile.sum(), 1)
    # A triangle as wide as two of the new pixels, as Pillow's bilinear filter has it.
    distance = (centres[:, None] - place * count) / scale + middle - centres
    weights = jnp.clip(1 - jnp.abs(distance) * scale, 0)
    return weights / jnp.maximum(weights.sum(axis=1, keepdims=True), 0.5 / scale)
