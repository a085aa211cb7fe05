"""Skin and lesions as optical densities of red, green and blue.

Colours follow Beer and Lambert: skin, pigment, blood and shade are densities that add up, and light is exp(-density).
So a lesion on dark skin darkens it by the same factor as on fair skin, as in nature.
"""

import math

import jax
import jax.numpy as jnp

from jaxseg.augment.drawing import Grid, ramp
from jaxseg.data.absorbers import BLOOD, DEEP_MELANIN, DENSE_MELANIN, MELANIN, SURFACE_MELANIN
from jaxseg.synthetic.fields import Draws, noise
from jaxseg.synthetic.outline import Outline


def _tinted(amount: jax.Array, absorber: jax.typing.ArrayLike) -> jax.Array:
    return amount[..., None] * jnp.asarray(absorber)


def skin_density(draws: Draws, grid: Grid, melanin: jax.Array) -> jax.Array:
    """Draws skin: blotches, freckles, pores, furrows, vessels, flushes, and the light's colour.

    Args:
      draws: where the random numbers are from.
      grid: coordinates of the pixels.
      melanin: how dark the skin is, 0.08 (fair) to 1.6 (dark).

    Returns:
      float32 [H, W, 3].
    """
    (
        rough, furrow, pore, freckled, freckle, vesselled, vessel, blood, flush, lamp, exposure, warm, green, dry
    ) = draws.between(
        (0.3, 1.5), (-0.1, 0.1), (0.015, 0.04), (0, 1), (0.1, 0.5), (0, 1), (0.1, 0.4), (0.03, 0.45),
        (0.1, 0.6), (0, 1), (-0.1, 0.3), (-0.16, 0.16), (-0.05, 0.05), (0, 1),
    )  # fmt: skip
    fine = noise(draws, grid, pore, knots=32)
    pigment = melanin * (1 + 0.1 * rough * noise(draws, grid, 0.2)) + 0.035 * rough * fine
    pigment += 0.04 * rough * noise(draws, grid, 0.05, knots=32)
    pigment += furrow * ramp(-jnp.abs(noise(draws, grid, 2.5 * pore, knots=32)), -0.35, 0)
    spots = ramp(noise(draws, grid, 0.08), 1.2, 2.2)  # faint and small, never like a lesion
    pigment += jnp.where(freckled < 0.4, freckle, 0) * spots
    stain = blood * (1 + flush * noise(draws, grid, 0.16))
    veins = ramp(-jnp.abs(noise(draws, grid, 0.09) + 0.2 * fine), -0.2, 0)
    stain = jnp.maximum(stain, 0) + jnp.where(vesselled < 0.35, vessel, 0) * veins
    # Lamps and cameras differ mostly between blue and yellow, and less between green and magenta.
    cast = exposure + warm * jnp.array([-1.0, 0.0, 1.0]) + green * jnp.array([0.5, -1.0, 0.5])
    cast += jnp.where(lamp < 0.1, 1.0, 0.0) * jnp.array([0.4, 0.15, -0.1])  # a bluish lamp
    scales = ramp(noise(draws, grid, 0.03, knots=32) + noise(draws, grid, 0.15), 1.5, 3)
    cast = cast - jnp.where(dry < 0.12, 0.35, 0) * scales[..., None]
    return _tinted(pigment, MELANIN) + _tinted(stain, BLOOD) + cast


def lesion_density(draws: Draws, grid: Grid, outline: Outline, melanin: jax.Array) -> jax.Array:
    """Draws what a lesion adds to the skin's density; negative where it is paler.

    Kinds: pigmented (most), red, and paler than dark skin. One in five is faint. Features: a second colour, regression
    (pale, scar-like areas), dark eccentric blotches, a blue-grey veil, a pigment network or globules.

    Args:
      draws: where the random numbers are from.
      grid: coordinates of the pixels.
      outline: where the lesion is.
      melanin: that of the skin.

    Returns:
      float32 [H, W, 3].
    """
    (width, outwards, ragged, kind, mix, dense, amount, faint, faint_amount, uneven, feature, pale, blotch, veil) = (
        draws.between(
        (math.log(0.04), math.log(0.6)), (0.25, 0.65), (0, 0.3), (0, 1), (0, 1), (0, 1), (0.4, 1.7),
            (0, 1), (0.16, 0.42), (0.05, 0.45), (0, 1), (0.4, 0.95), (0.3, 1.0), (0.3, 0.9),
        )
    )  # fmt: skip
    melanins = jnp.asarray(MELANIN), jnp.asarray(SURFACE_MELANIN), jnp.asarray(DENSE_MELANIN)
    blood, deep = jnp.asarray(BLOOD), jnp.asarray(DEEP_MELANIN)
    width = jnp.maximum(jnp.exp(width) * outline.radius, grid.pixel)
    depth = outline.depth + ragged * width * noise(draws, grid, 0.15 * outline.radius, knots=32)
    cover = ramp(depth, -outwards * width, (1 - outwards) * width)

    pigment = mix * melanins[0] + (1 - mix) * jnp.where(dense < 0.6, melanins[1], melanins[2])
    red, lighter = kind < 0.14, (kind < 0.24) & (melanin > 0.6)
    colour = jnp.where(red, blood + 0.15 * melanins[0], pigment)
    colour = jnp.where(~red & lighter, 0.5 * blood - 0.6 * melanins[0], colour)
    amount = jnp.where(red, 0.25 + 0.5 * amount, amount)
    is_faint = faint < 0.2
    amount = jnp.where(is_faint, faint_amount * jnp.where(red, 1.2, 1.0), amount)

    coarse = noise(draws, grid, 0.6 * outline.radius)
    tone = 1 + uneven * coarse + 0.15 * noise(draws, grid, 0.04, knots=32) + _texture(draws, grid)
    tone += 0.12 * noise(draws, grid, 0.02, knots=32)
    patch = ramp(noise(draws, grid, 0.5 * outline.radius), 0.2, 1.4)
    tone = tone * jnp.where(feature < 0.25, 1 - pale * patch, 1.0)
    tone = tone + jnp.where((feature >= 0.25) & (feature < 0.5), blotch, 0.0) * patch
    second = jnp.where((feature >= 0.5) & (feature < 0.8), ramp(coarse, -0.5, 0.5), 0.0)[..., None]
    other = jnp.where(dense < 0.5, melanins[2], blood + 0.3 * melanins[0])
    density = (amount * cover * jnp.maximum(tone, 0.1))[..., None] * (colour + second * (other - colour))
    veiled = jnp.where((feature >= 0.8) & ~is_faint, veil, 0.0)
    return density + veiled * _tinted(cover * patch, deep)


def _texture(draws: Draws, grid: Grid) -> jax.Array:
    """Draws the fine structure of a lesion, [H, W] of mean about 0: a network, globules, or nothing."""
    kind, pitch, turn, strength = draws.between(
        (0, 1), (math.log(0.025), math.log(0.09)), (0, math.pi / 3), (0.25, 0.8)
    )
    pitch = jnp.exp(pitch)
    y = grid.row + 0.4 * pitch * noise(draws, grid, 2 * pitch, knots=24)
    x = grid.column + 0.4 * pitch * noise(draws, grid, 2 * pitch, knots=24)
    # Three waves at 60 degrees make a honeycomb; bent, it is a network (dark lines) or globules (dark cells).
    comb = 0.0
    for third in range(3):
        angle = turn + third * math.pi * 2 / 3
        comb = comb + jnp.cos(2 * math.pi / pitch * (jnp.cos(angle) * x + jnp.sin(angle) * y))
    network, globules = 0.35 - ramp(comb, -1.0, 1.2), ramp(comb, 0.4, 2.0) - 0.3
    strength = strength * ramp(noise(draws, grid, 0.15), -1.2, 1.0)
    return strength * jnp.where(kind < 0.35, 0.0, jnp.where(kind < 0.7, network, globules))


def light_density(draws: Draws, grid: Grid) -> jax.Array:
    """Draws uneven light: a lamp off the centre that fades to the edges and, in one image of seven, a shadow.

    Args:
      draws: where the random numbers are from.
      grid: coordinates of the pixels.

    Returns:
      float32 [H, W].
    """
    row, column, fading, chance, angle, start, length, dark = draws.between(
        (0.25, 0.75), (0.25, 0.75), (0, 0.9), (0, 1), (0, 2 * math.pi), (-0.2, 0.5), (0.1, 0.6), (0.3, 1.2)
    )
    y, x = grid.row - row * grid.height, grid.column - column * grid.width
    lamp = fading * (y * y + x * x)
    y, x = grid.row - grid.height / 2, grid.column - grid.width / 2
    along = jnp.sin(angle) * y + jnp.cos(angle) * x + 0.05 * noise(draws, grid, 0.2)
    return lamp + jnp.where(chance < 1 / 7, dark, 0.0) * ramp(along, start, start + length)
