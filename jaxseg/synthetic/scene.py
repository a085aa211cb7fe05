"""A whole drawn photograph: skin, lesion, what lies on them, lens and camera.

Networks trained on these images alone find real lesions (experiments/results/RESULTS.md), because brightness alone does
not find the drawn ones: hairs, dark corners, shadows, ink, rulers and stickers are dark as well, and some lesions are
hardly darker, or even paler, than their surroundings. The nearest published work is S-SYNTH (Kim et al., MICCAI 2024),
which models skin in three dimensions and renders it.

Artefacts are those of `jaxseg.augment.artefacts`, so that a hair is drawn by one function only.
"""

import functools
import math

import jax
import jax.numpy as jnp

from jaxseg.augment.artefacts import MAX_SEVERITY, soil_one
from jaxseg.augment.drawing import Grid, Layer, blend, line, ramp
from jaxseg.synthetic.fields import Draws, noise
from jaxseg.synthetic.outline import Outline, draw_outline
from jaxseg.synthetic.skin import lesion_density, light_density, skin_density

_ARTEFACTS = {"ruler": 0.12, "hair": 0.4, "gel_bubble": 0.15, "sticker": 0.15, "blur": 0.4, "dark_corner": 0.25}
"""Probability of each artefact, in their order from the skin to the camera."""

_MOST = {"blur": 1.5}
"""Largest severity where it is not `MAX_SEVERITY`: photographs are rarely as blurred as the worst."""

_NUMBERS = 12336
"""Random numbers that an image takes, besides those of its artefacts and of the camera's noise."""

_INKS = ((88, 70, 178), (60, 55, 130), (40, 80, 120), (30, 28, 40))


def draw(
    key: jax.Array, count: int, height: int, width: int, *, first_example: int | jax.Array = 0
) -> tuple[jax.Array, jax.Array]:
    """Draws photographs of one lesion each, with their masks.

    Args:
      key: a `jax.random` key; example i draws from `fold_in(key, first_example + i)`, so that an example of the global
        batch does not depend on the number of devices.
      count: number of photographs.
      height: height, pixels.
      width: width, pixels.
      first_example: position of the first example within the global batch.

    Returns:
      Images uint8 [count, height, width, 3], RGB in [0, 255], and masks uint8 {0, 1} [count, height, width, 1]. A mask
      is empty where a sticker or a dark corner hides the whole lesion.
    """
    examples = first_example + jnp.arange(count)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, examples)
    one = functools.partial(draw_one, height=height, width=width)
    # One after the other, a CPU keeps an image in its cache and skips artefacts that the image does not have.
    return jax.lax.platform_dependent(keys, cpu=functools.partial(jax.lax.map, one), default=jax.vmap(one))


def draw_one(key: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Draws one photograph and its mask.

    The scene is up to 1.45 times as wide as high and squeezed into the given size, as `resize_image` does to a
    photograph.

    Args:
      key: a `jax.random` key.
      height: height, pixels.
      width: width, pixels.

    Returns:
      Image uint8 [height, width, 3], RGB in [0, 255], and mask uint8 {0, 1} [height, width, 1].
    """
    own_key, artefact_key, grain_key = jax.random.split(key, 3)
    draws = Draws(own_key, _NUMBERS)
    aspect, melanin, dark_skin = draws.between((1.0, 1.45), (math.log(0.07), math.log(0.6)), (0, 1))
    melanin = jnp.exp(melanin) * jnp.where(dark_skin < 0.15, 3.0, 1.0)
    rows, columns = (jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width
    grid = Grid(rows[:, None], aspect * columns[None], 1.0, aspect, 1 / height)

    outline = draw_outline(draws, grid)
    density = skin_density(draws, grid, melanin) + light_density(draws, grid)[..., None]
    density += lesion_density(draws, grid, outline, melanin)
    image = 255 * jnp.exp(-jnp.maximum(density, 0))
    image = blend(image, _ink(draws, grid, outline))
    image, mask = _soil(artefact_key, draws, image, outline.mask[..., None])
    grain = jax.random.normal(grain_key, image.shape)
    image, mask = _photograph(draws, grid, image, mask, grain)
    assert draws.left == 0, draws.left
    return jnp.round(image).astype(jnp.uint8), mask.astype(jnp.uint8)


def _ink(draws: Draws, grid: Grid, outline: Outline) -> Layer:
    """Draws a surgeon's pen line around part of the lesion, in one image of twelve."""
    chance, away, width, colour = draws.between((0, 1), (0.03, 0.16), (0.006, 0.02), (0, len(_INKS)))
    distance = jnp.abs(outline.depth + away + 0.02 * noise(draws, grid, 0.15))
    cover = line(distance, 2 * width, grid.pixel) * ramp(noise(draws, grid, 0.12), -0.8, -0.2)
    return Layer(jnp.where(chance < 1 / 12, 0.85, 0.0) * cover, jnp.asarray(_INKS)[colour.astype(jnp.int32)])


def _soil(key: jax.Array, draws: Draws, image: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws artefacts on an image, and takes from the mask what they hide."""
    keys = jax.random.split(key, len(_ARTEFACTS))
    for own_key, (kind, probability) in zip(keys, _ARTEFACTS.items(), strict=True):
        chance, severity = draws.between((0, 1), (0, _MOST.get(kind, MAX_SEVERITY)))
        soil = functools.partial(soil_one, own_key, kind=kind, severity=severity)
        # Mapped over images one after the other, only those with the artefact pay for it.
        image, mask = jax.lax.cond(chance < probability, soil, lambda image, mask: (image, mask), image, mask)
    return image, mask


def _photograph(
    draws: Draws, grid: Grid, image: jax.Array, mask: jax.Array, grain: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Applies the camera: tone curve, saturation, noise, and in one image of 16 black bands at two edges."""
    gain, gamma, colour, noisy, banded, lying, near, far = draws.between(
        (0.8, 1.15), (-0.3, 0.3), (0.7, 1.3), (0, 6), (0, 1), (0, 1), (0.01, 0.12), (0.01, 0.12)
    )
    image = 255 * (jnp.clip(gain * image, 0, 255) / 255) ** jnp.exp(gamma)
    grey = image @ jnp.array([0.299, 0.587, 0.114])
    image = grey[..., None] + colour * (image - grey[..., None])
    image += noisy * grain
    place = jnp.where(lying < 0.5, grid.row / grid.height, grid.column / grid.width)
    black = (banded < 1 / 16) & ((place < near) | (place > 1 - far))
    return jnp.where(black[..., None], 0.0, jnp.clip(image, 0, 255)), mask & ~black[..., None]
