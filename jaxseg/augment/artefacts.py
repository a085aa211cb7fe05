"""Artefacts of dermoscopy, drawn on the device at a chosen severity: hairs, dark corners, rulers and the like.

Each is a pure function of a key, an image and a severity. The key determines what is drawn and where, the severity how
strongly: with the same key, hairs become more, thicker and darker. Lengths are shares of the image's shorter side, so
that small and large images look alike. Only JPEG has a length in pixels: its blocks of 8.
"""

import functools
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jaxseg.augment.drawing import Grid, Layer, blend, blurred, grid_of, line, ramp, uniform
from jaxseg.augment.jpeg import jpeg

MAX_SEVERITY = 5.0
"""The severity of the worst images met in practice."""


def corrupt(
    key: jax.Array,
    images: jax.Array,
    kind: str,
    severity: jax.Array | float,
    *,
    first_example: int | jax.Array = 0,
) -> jax.Array:
    """Draws an artefact of one kind on every image of a batch, each with its own random draws.

    Args:
      key: a `jax.random` key; example i draws from `fold_in(key, first_example + i)`, whatever the severity, so that an
        example of the global batch looks the same on any number of devices.
      images: uint8 or float [B, H, W, 3], RGB in [0, 255].
      kind: one of `ARTEFACTS`; static under `jax.jit`.
      severity: severity in [0, 5], clipped to that range; a scalar or one per image [B]; may be traced. 0 changes
        nothing, and for one key the damage grows with the severity.
      first_example: position of the first example within the global batch.

    Returns:
      Images of the same shape and dtype; uint8 is rounded.

    Raises:
      ValueError: there is no artefact of that kind.
    """
    example = first_example + jnp.arange(images.shape[0])
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, example)
    severity = jnp.broadcast_to(jnp.asarray(severity, jnp.float32), images.shape[:1])
    spoilt = jax.vmap(functools.partial(corrupt_one, kind=kind))(keys, images.astype(jnp.float32), severity=severity)
    if jnp.issubdtype(images.dtype, jnp.integer):
        spoilt = jnp.round(spoilt)
    return spoilt.astype(images.dtype)


def corrupt_one(key: jax.Array, image: jax.Array, kind: str, severity: jax.Array | float) -> jax.Array:
    """Draws an artefact on one image.

    Args:
      key: a `jax.random` key; `corrupt` calls this with the key of each example.
      image: float32 [H, W, 3], RGB in [0, 255].
      kind: one of `ARTEFACTS`; static under `jax.jit`.
      severity: severity in [0, 5], clipped to that range; may be traced. 0 changes nothing.

    Returns:
      float32 [H, W, 3] in [0, 255].

    Raises:
      AssertionError: the image is not [H, W, 3].
      ValueError: there is no artefact of that kind.
    """
    chex.assert_shape(image, (None, None, 3))
    if kind not in _DRAW:
        raise ValueError(f"no artefact {kind!r} (there are: {', '.join(ARTEFACTS)})")
    strength = jnp.clip(jnp.asarray(severity, jnp.float32) / MAX_SEVERITY, 0, 1)
    return jnp.where(strength > 0, jnp.clip(_DRAW[kind](key, image, strength), 0, 255), image)


def soil_one(
    key: jax.Array, image: jax.Array, mask: jax.Array, kind: str, severity: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Draws an artefact on one image, and takes from its mask what the artefact hides.

    Args:
      key: a `jax.random` key.
      image: float32 [H, W, 3], RGB in [0, 255].
      mask: bool, or {0, 1} of any dtype, [H, W, 1].
      kind: one of `ARTEFACTS`; static under `jax.jit`.
      severity: severity in [0, 5], clipped to that range; may be traced. 0 changes nothing.

    Returns:
      Image and mask, of the same shapes and dtypes.
    """
    if kind in HIDING:
        mask = jnp.where(hidden_one(key, image.shape[:2], kind, severity), jnp.zeros((), mask.dtype), mask)
    return corrupt_one(key, image, kind, severity), mask


def hidden_one(key: jax.Array, shape: tuple[int, int], kind: str, severity: jax.Array | float) -> jax.Array:
    """Returns the pixels where an artefact hides the skin, so that nobody could see a lesion.

    Args:
      key: the key given to `corrupt_one`.
      shape: height and width of the image, pixels.
      kind: one of `HIDING`; all other artefacts are transparent, or too thin to hide an outline.
      severity: the severity given to `corrupt_one`, in [0, 5].

    Returns:
      bool [H, W, 1], true where the skin is hidden.
    """
    strength = jnp.clip(jnp.asarray(severity, jnp.float32) / MAX_SEVERITY, 0, 1)
    return (HIDING[kind](key, grid_of(*shape), strength).cover > 0.5)[..., None] & (strength > 0)


def _in_turn(strength: jax.Array, count: int) -> jax.Array:
    """Returns the visibility of each of `count` objects, [count] in [0, 1], which appear one after the other."""
    return jnp.clip(strength * count - jnp.arange(count), 0, 1)


_HAIRS = 20


def _hair(key: jax.Array, image: jax.Array, strength: jax.Array) -> jax.Array:
    """Draws hairs that grow in about one direction; one image in six has light hairs."""
    grid = grid_of(*image.shape[:2])
    key, own_key = jax.random.split(key)
    row, column, turn, half, bow, sway, width = uniform(
        own_key, (0, grid.height), (0, grid.width), (-1, 1), (0.12, 0.5), (-0.25, 0.25), (-0.2, 0.2), (0.006, 0.014),
        count=_HAIRS,
    )  # fmt: skip
    main, shade, light = uniform(key, (0, math.pi), (8, 55), (0, 1))
    angle, bow, sway, width = main + turn**3, bow / half, sway / half**2, width * (0.4 + 0.6 * strength)
    there = _in_turn(strength, _HAIRS) * (0.6 + 0.35 * strength)

    def lay(cover: jax.Array, hair: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        # With u along the chord and v across it, a hair is v = f(u). Near it, |v - f| / |gradient| is the distance.
        row, column, angle, half, bow, sway, width, there = hair
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        y, x = grid.row - row, grid.column - column
        u, v = cos * x + sin * y, cos * y - sin * x
        distance = jnp.abs(v - u * u * (bow + sway * u)) * jax.lax.rsqrt(1 + (u * (2 * bow + 3 * sway * u)) ** 2)
        tapered = width * jnp.clip(2 - 2 * (u / half) ** 2, 0, 1)
        return jnp.maximum(cover, there * line(distance, tapered, grid.pixel)), None

    hairs = row, column, angle, half, bow, sway, width, there
    cover, _ = jax.lax.scan(lay, jnp.zeros(image.shape[:2]), hairs)
    colour = jnp.where(light < 1 / 6, jnp.array([215.0, 205.0, 190.0]), shade * jnp.array([1.0, 0.75, 0.6]))
    return blend(image, Layer(cover, colour))


def _lens(key: jax.Array, grid: Grid, strength: jax.Array) -> Layer:
    """Draws the dark area outside the round field of view, which resizing to a square turns into an ellipse."""
    row, column, stretch, softness, shade = uniform(
        key, (0.42, 0.58), (0.42, 0.58), (0.95, 1.35), (math.log(0.01), math.log(0.15)), (0, 45)
    )
    y, x = grid.row - row * grid.height, (grid.column - column * grid.width) * stretch
    distance = jnp.sqrt(y * y + x * x)
    edge = distance.max() - strength * (distance.max() - 0.45)
    cover = ramp(distance, edge, edge + jnp.exp(softness))
    return Layer(cover, shade * jnp.array([1.0, 0.85, 0.8]))


def _dark_corner(key: jax.Array, image: jax.Array, strength: jax.Array) -> jax.Array:
    return blend(image, _lens(key, grid_of(*image.shape[:2]), strength))


def _low_contrast(key: jax.Array, image: jax.Array, strength: jax.Array) -> jax.Array:
    """Moves all pixels towards the image's mean colour, at the highest severity to a quarter of their distance."""
    mean = image.mean(axis=(0, 1))
    return mean + (1 - 0.75 * strength) * (image - mean)


def _colour_cast(key: jax.Array, image: jax.Array, strength: jax.Array) -> jax.Array:
    """Multiplies the channels (von Kries) by gains of product 1 and at most 1.35, as a lamp of another colour would."""
    (turn,) = uniform(key, (0, 2 * math.pi))
    # Lamps differ mostly between blue and yellow, and less between green and magenta.
    logs = 0.3 * jnp.cos(turn) * jnp.array([1.0, 0.0, -1.0]) + 0.15 * jnp.sin(turn) * jnp.array([-0.5, 1.0, -0.5])
    return image * jnp.exp(strength * logs)


def _blur(key: jax.Array, image: jax.Array, strength: jax.Array) -> jax.Array:
    """Blurs by a Gaussian whose standard deviation is at most 1/50 of the shorter side."""
    return blurred(image, jnp.maximum(0.02 * min(image.shape[:2]) * strength, 1e-3))


_BUBBLES = 12


def _gel_bubble(key: jax.Array, image: jax.Array, strength: jax.Array) -> jax.Array:
    """Draws air bubbles in the gel: a dark outline, a bright rim inside it, brighter on one side, and a highlight."""
    grid = grid_of(*image.shape[:2])
    key, own_key = jax.random.split(key)
    row, column, size = uniform(
        own_key, (0, grid.height), (0, grid.width), (math.log(0.015), math.log(0.11)), count=_BUBBLES
    )
    (turn,), radius = uniform(key, (0, 2 * math.pi)), jnp.exp(size)
    lamp = jnp.sin(turn), jnp.cos(turn)
    there = _in_turn(strength, _BUBBLES) * (0.5 + 0.5 * strength)

    def lay(covers: tuple[jax.Array, jax.Array], bubble: tuple[jax.Array, ...]) -> tuple[tuple, None]:
        outline, bright = covers
        row, column, radius, there = bubble
        y, x = grid.row - row, grid.column - column
        distance = jnp.sqrt(y * y + x * x) + 1e-6
        towards = (lamp[0] * y + lamp[1] * x) / distance
        rim = 0.1 * radius + 0.004
        dark = line(jnp.abs(distance - radius), rim, grid.pixel)
        light = line(jnp.abs(distance - radius + rim), rim, grid.pixel) * (0.55 + 0.4 * towards)
        glint = jnp.sqrt((y - 0.45 * radius * lamp[0]) ** 2 + (x - 0.45 * radius * lamp[1]) ** 2)
        light = jnp.maximum(light, 0.9 * line(glint, 0.3 * radius, grid.pixel))
        light = jnp.maximum(light, 0.15 * line(distance, 2 * radius, grid.pixel))
        return (jnp.maximum(outline, 0.55 * there * dark), jnp.maximum(bright, there * light)), None

    nothing = jnp.zeros(image.shape[:2])
    (outline, bright), _ = jax.lax.scan(lay, (nothing, nothing), (row, column, radius, there))
    image = blend(image, Layer(outline, jnp.array([60.0, 42.0, 36.0])))
    return blend(image, Layer(bright, jnp.array([255.0, 250.0, 243.0])))


def _ruler(key: jax.Array, image: jax.Array, strength: jax.Array) -> jax.Array:
    """Draws the ticks of a ruler along part of one edge, every fifth of them longer."""
    grid = grid_of(*image.shape[:2])
    lying, top, left, tilt, step, phase, start, thickness, shade = uniform(
        key, (0, 1), (0, 1), (0, 1), (-0.25, 0.25), (0.03, 0.07), (0, 5), (0.01, 0.06), (0.12, 0.25), (5, 50)
    )
    down = jnp.where(top < 0.5, grid.row, grid.height - grid.row)
    across = jnp.where(left < 0.5, grid.column, grid.width - grid.column)
    inwards, along = jnp.where(lying < 0.5, down, across), jnp.where(lying < 0.5, across, down)
    inwards, along = inwards + tilt * (along - 0.5), along - tilt * inwards
    tick = along / step + phase
    nearest = jnp.round(tick)
    length = step * jnp.where(nearest == 5 * jnp.round(nearest / 5), 1.8, 1.0) * (0.5 + strength)
    depth = ramp(inwards, start - grid.pixel, start) * (1 - ramp(inwards, start + length, start + length + grid.pixel))
    width = thickness * step * (0.5 + 0.5 * strength)
    reach = 0.2 + 0.8 * strength
    present = 1 - ramp(along, reach - grid.pixel, reach)
    cover = line(jnp.abs(tick - nearest) * step, width, grid.pixel) * depth * present * (0.7 + 0.25 * strength)
    return blend(image, Layer(cover, shade * jnp.array([1.0, 0.95, 1.0])))


def _jpeg(key: jax.Array, image: jax.Array, strength: jax.Array) -> jax.Array:
    """Compresses the image as a JPEG, of quality 10 at the highest severity."""
    return jpeg(image, 95 - 85 * strength)


_STICKER_COLOURS = (
    (70, 190, 180), (235, 150, 40), (40, 110, 200), (235, 205, 70), (60, 150, 80), (150, 45, 50), (70, 60, 140)
)  # fmt: skip


def _sticker(key: jax.Array, grid: Grid, strength: jax.Array) -> Layer:
    """Draws two round coloured calibration stickers that grow in from the edge, one after the other."""
    palette, count = jnp.array(_STICKER_COLOURS, jnp.float32), len(_STICKER_COLOURS)
    cover, colour = jnp.zeros((grid.row.size, grid.column.size)), jnp.zeros(3)
    for own_key, there in zip(jax.random.split(key, 2), _in_turn(strength, 2), strict=True):
        radius, sunk, edge, where, stretch, outer, other, ringed, gloss, slant, middle = uniform(
            own_key, (0.2, 0.5), (0, 0.5), (0, 4), (0, 1), (1, 1.35), (0, count), (1, count), (0, 1), (0, 80),
            (-0.5, 0.5), (0, 1),
        )  # fmt: skip
        edge, beyond = edge.astype(jnp.int32), sunk * radius
        far = edge % 2
        row = jnp.where(edge < 2, grid.height * far + beyond * (2 * far - 1), grid.height * where)
        column = jnp.where(edge < 2, grid.width * where, grid.width * far + beyond * (2 * far - 1))
        y, x = grid.row - row, (grid.column - column) * stretch
        distance = jnp.sqrt(y * y + x * x)
        outer = outer.astype(jnp.int32)
        inner = palette[(outer + other.astype(jnp.int32)) % count]
        ringed = (ringed < 0.5) & (distance < 0.55 * radius)
        surface = jnp.where(ringed[..., None], inner, palette[outer])
        streak = jnp.exp(-(((y + slant * x) / radius - middle) ** 2) / 0.06)
        surface = jnp.minimum(surface + gloss * streak[..., None], 255)
        disc = line(distance, 2 * radius * (sunk + (1 - sunk) * there), grid.pixel) * (there > 0)
        # The second sticker lies under the first, so that pixels that are covered already do not change.
        colour = jnp.where((cover < disc)[..., None], surface, colour)
        cover = jnp.maximum(cover, disc)
    return Layer(cover, colour)


def _stick(key: jax.Array, image: jax.Array, strength: jax.Array) -> jax.Array:
    return blend(image, _sticker(key, grid_of(*image.shape[:2]), strength))


_DRAW: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "hair": _hair,
    "dark_corner": _dark_corner,
    "low_contrast": _low_contrast,
    "colour_cast": _colour_cast,
    "blur": _blur,
    "gel_bubble": _gel_bubble,
    "ruler": _ruler,
    "jpeg": _jpeg,
    "sticker": _stick,
}

ARTEFACTS = tuple(_DRAW)
"""The kinds of artefact that `corrupt` draws."""

HIDING: dict[str, Callable[[jax.Array, Grid, jax.Array], Layer]] = {"dark_corner": _lens, "sticker": _sticker}
"""The kinds of artefact that hide the skin below, and the functions that draw their layers."""
