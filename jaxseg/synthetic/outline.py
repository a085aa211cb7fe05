"""The outline of a drawn lesion, and what an annotator makes of it."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseg.augment.drawing import Grid
from jaxseg.synthetic.fields import Draws, noise

_HARMONICS = range(2, 13)


class Outline(NamedTuple):
    """Where a lesion is.

    Attributes:
      radius: radius of a disc of about the same area, in shorter sides.
      depth: float32 [H, W], roughly the distance to the outline, positive inside, in shorter sides.
      mask: bool [H, W], the annotator's outline filled.
    """

    radius: jax.Array
    depth: jax.Array
    mask: jax.Array


def draw_outline(draws: Draws, grid: Grid) -> Outline:
    """Draws a star-shaped outline of random harmonics, often with a lobe, stretches it and bends the plane under it.

    Areas go from 0.5 % to 95 % of the image, most from 4 % to 70 %; one lesion in six lies anywhere and may be cut by
    the frame. The annotator draws around the fading border rather than through it, by up to a twelfth of the radius.

    Args:
      draws: where the random numbers are from.
      grid: coordinates of the pixels.
    """
    (chance, share_low, share_wide, row, column, spread, tilt, stretch, strength, decay, bend, cell, loose, lobed,
     lobe_turn, lobe_far, lobe_size) = draws.between(
        (0, 1), (math.log(0.04), math.log(0.7)), (math.log(0.005), math.log(0.95)), (-1, 1), (-1, 1), (0, 1),
        (0, math.pi), (0, math.log(1.9)), (0.03, 0.3), (0.9, 2.0), (0, 0.2), (0.4, 1.2), (-0.01, 0.085),
        (0, 1), (0, 2 * math.pi), (0.5, 1.0), (0.4, 0.8),
    )  # fmt: skip
    area = jnp.exp(jnp.where(chance < 0.15, share_wide, share_low))
    radius = jnp.sqrt(area * grid.height * grid.width / math.pi)
    reach = jnp.where(spread < 1 / 6, 0.5, 0.16 * spread)  # the share of the side by which the centre may be off
    y = grid.row - grid.height * (0.5 + reach * row)
    x = grid.column - grid.width * (0.5 + reach * column)

    wide, fine = cell * radius, 0.35 * cell * radius
    y = y + bend * radius * (noise(draws, grid, wide) + 0.3 * noise(draws, grid, fine))
    x = x + bend * radius * (noise(draws, grid, wide) + 0.3 * noise(draws, grid, fine))
    sin, cos, root = jnp.sin(tilt), jnp.cos(tilt), jnp.exp(stretch / 2)
    y, x = (cos * y - sin * x) * root, (cos * x + sin * y) / root

    main = _star(draws, y, x, strength, decay)
    y_lobe = y - lobe_far * radius * jnp.sin(lobe_turn)
    x_lobe = x - lobe_far * radius * jnp.cos(lobe_turn)
    lobe = _star(draws, y_lobe, x_lobe, strength, decay)
    depth = radius * main - jnp.sqrt(y * y + x * x)
    second = lobe_size * radius * lobe - jnp.sqrt(y_lobe * y_lobe + x_lobe * x_lobe)
    depth = jnp.where(lobed < 0.3, jnp.maximum(depth, second), depth)
    return Outline(radius, depth, depth + loose * radius > 0)


def _star(draws: Draws, y: jax.Array, x: jax.Array, strength: jax.Array, decay: jax.Array) -> jax.Array:
    """Returns the radius of a star-shaped outline of mean 1 in the direction of each offset from its centre, [H, W]."""
    amount, phase = draws.take(2, len(_HARMONICS))
    phase = 2 * math.pi * phase
    far = jax.lax.rsqrt(y * y + x * x + 1e-8)
    # Powers of the unit complex number of the direction are its harmonics: no arctangent, no cosines.
    unit_cos, unit_sin = x * far, y * far
    cos, sin, radii = unit_cos, unit_sin, 1.0
    for i, harmonic in enumerate(_HARMONICS):
        cos, sin = cos * unit_cos - sin * unit_sin, cos * unit_sin + sin * unit_cos
        size = 2 * strength * amount[i] * harmonic**-decay
        radii = radii + size * (jnp.cos(phase[i]) * cos - jnp.sin(phase[i]) * sin)
    return jnp.maximum(radii, 0.3)
