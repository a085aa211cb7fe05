"""Random numbers and smooth random fields, the material of skin and lesions."""

import math

import jax
import jax.numpy as jnp

from jaxseg.augment.drawing import Grid

_DEVIATION = 0.48
"""Standard deviation of a cubic B-spline field over knots of deviation 1."""


class Draws:
    """The random numbers of one image, taken one after the other while JAX traces the functions that draw it.

    All are from one call of `jax.random`: XLA takes about half a second to compile each call, and an image needs fifty.

    Args:
      key: a `jax.random` key.
      count: how many numbers there are.
    """

    def __init__(self, key: jax.Array, count: int):
        self._numbers = jax.random.uniform(key, (count,))
        self._taken = 0

    @property
    def left(self) -> int:
        """How many numbers have not been taken."""
        return len(self._numbers) - self._taken

    def take(self, *shape: int) -> jax.Array:
        """Returns numbers in [0, 1), float32 of that shape.

        Raises:
          ValueError: there are not as many left.
        """
        size = math.prod(shape)
        if size > self.left:
            raise ValueError(f"{size} random numbers asked for, {self.left} left of {len(self._numbers)}")
        self._taken += size
        return self._numbers[self._taken - size : self._taken].reshape(shape)

    def between(self, *ranges: tuple[float, float]) -> jax.Array:
        """Returns a number from every range, float32 [R]."""
        low, high = jnp.array(ranges).T
        return low + (high - low) * self.take(len(ranges))


def noise(draws: Draws, grid: Grid, cell: jax.Array | float, *, knots: int = 16) -> jax.Array:
    """Draws a smooth field: a cubic B-spline over random knots.

    As two matrix products, which every device does fast; a lookup of 16 knots per pixel is ten times slower on a CPU.

    Args:
      draws: where the random numbers are from; `knots`² + 2 are taken.
      grid: coordinates of the pixels.
      cell: distance between knots, in shorter sides; may be traced. Bumps are about twice as wide.
      knots: knots along each side, after which the field repeats itself.

    Returns:
      float32 [H, W] of mean 0 and deviation about 1.
    """
    values = (draws.take(knots, knots) - 0.5) * (math.sqrt(12) / _DEVIATION)
    row, column = knots * draws.take(2)

    def weights(place: jax.Array) -> jax.Array:
        away = jnp.mod(place[:, None] - jnp.arange(knots), knots)
        away = jnp.minimum(away, knots - away)
        near = (4 - 6 * away**2 + 3 * away**3) / 6
        return jnp.where(away < 1, near, jnp.maximum(2 - away, 0) ** 3 / 6)

    down, across = weights(grid.row[:, 0] / cell + row), weights(grid.column[0] / cell + column)
    return jnp.matmul(jnp.matmul(down, values, precision="highest"), across.T, precision="highest")
