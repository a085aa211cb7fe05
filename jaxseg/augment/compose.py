"""Random changes of one training example, in their order: geometry, paste, texture, artefacts, light, camera."""

import functools

import chex
import jax
import jax.numpy as jnp

from jaxseg.augment.affine import draw_affine, warp
from jaxseg.augment.artefacts import MAX_SEVERITY, soil_one
from jaxseg.augment.camera import photograph
from jaxseg.augment.light import changes_light, relight
from jaxseg.augment.paste import paste_smaller
from jaxseg.augment.texture import convolve_at_random, mix_amplitudes
from jaxseg.config import AugmentConfig

TRAINING_ARTEFACTS = ("ruler", "hair", "sticker", "gel_bubble", "blur", "dark_corner")
"""The artefacts that the setting `augment.artefacts` draws, in their order from the skin to the camera."""


_TRANSLATION, _ARTEFACTS, _LIGHT, _AMPLITUDES, _CONVOLUTION, _CAMERA, _PASTE = 5, 6, 7, 8, 9, 10, 11
"""Numbers that an example's key is folded with for these draws; 0 to 4 are left to `draw_affine`, which splits it."""


def augment(
    key: jax.Array,
    images: jax.Array,
    masks: jax.Array,
    config: AugmentConfig,
    *,
    first_example: int | jax.Array = 0,
    others: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Augments every example of a batch by its own random draws: geometry, paste, texture, artefacts, light, camera.

    Args:
      key: a `jax.random` key; example i draws from `fold_in(key, first_example + i)`, split for rotation, shear, zoom
        and the two flips, and folded for all else. The draws of an example of the global batch
        do not depend on the number of devices, and those of one kind do not depend on which other kinds are on.
      images: uint8 or float [B, H, W, 3], RGB in [0, 255].
      masks: {0, 1} of any dtype, [B, H, W, 1].
      config: the ranges; changes that are off are not computed.
      first_example: position of the first example within the global batch.
      others: the images of the global batch, [N, H, W, 3], from which `config.amplitudes` takes amplitudes; None:
        `images` are the whole batch.

    Returns:
      Images and masks of the same shapes and dtypes. The mask is 0 where a sticker or a dark corner hides the skin,
      because no lesion can be seen there.

    Raises:
      AssertionError: images and masks differ in batch, height or width.
    """
    chex.assert_equal_shape_prefix([images, masks], 3)
    if not config.enabled:
        return images, masks
    example = first_example + jnp.arange(images.shape[0])
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, example)
    others = images if others is None else others
    return jax.vmap(functools.partial(_augment_one, others=others, config=config))(keys, images, masks)


def _augment_one(
    key: jax.Array, image: jax.Array, mask: jax.Array, others: jax.Array, config: AugmentConfig
) -> tuple[jax.Array, jax.Array]:
    """Augments one example, [H, W, 3] and [H, W, 1], by its own key."""
    dtype = image.dtype
    shift = None
    if config.translation:
        sides = jnp.array(image.shape[:2])
        shift = sides * jax.random.uniform(
            jax.random.fold_in(key, _TRANSLATION), (2,), minval=-config.translation, maxval=config.translation
        )
    image, mask = warp(image, mask, draw_affine(key, config), shift)
    image = image.astype(jnp.float32)
    if config.paste:
        image, mask = paste_smaller(jax.random.fold_in(key, _PASTE), image, mask, config.paste)
    if config.amplitudes:
        image = mix_amplitudes(jax.random.fold_in(key, _AMPLITUDES), image, others, config.amplitudes)
    if config.convolution:
        image = convolve_at_random(jax.random.fold_in(key, _CONVOLUTION), image, config.convolution)
    if config.artefacts:
        image, mask = _soil(jax.random.fold_in(key, _ARTEFACTS), image, mask, config.artefacts)
    if changes_light(config):
        image = relight(jax.random.fold_in(key, _LIGHT), image, config)
    if config.camera:
        image = photograph(jax.random.fold_in(key, _CAMERA), image, config.camera)
    if jnp.issubdtype(dtype, jnp.integer):
        image = jnp.round(image)
    return image.astype(dtype), mask


def _soil(key: jax.Array, image: jax.Array, mask: jax.Array, probability: float) -> tuple[jax.Array, jax.Array]:
    """Draws every artefact on one example with the given probability and a severity uniform in [0, MAX_SEVERITY]."""
    for i, kind in enumerate(TRAINING_ARTEFACTS):
        own_key, chance, degree = jax.random.split(jax.random.fold_in(key, i), 3)
        severity = jax.random.uniform(degree, maxval=MAX_SEVERITY) * jax.random.bernoulli(chance, probability)
        image, mask = soil_one(own_key, image, mask, kind, severity)
    return image, mask
