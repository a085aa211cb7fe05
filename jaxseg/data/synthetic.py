"""The embedded synthetic data set: drawn pictures that look like dermoscopy, with exact masks.

It needs no download, so that training, tests and demos run on a fresh machine. Scores on it say nothing about how well
a model finds real lesions; every report says so.

This is a fixed set: images depend on the split and the index only, and machines agree on them to the bit as far as
NumPy's generator and sines and Pillow's drawing do, because light comes from a table and nearly all else is IEEE
arithmetic in a fixed order. `jaxseg.synthetic` draws endless images for training on the device, faster and more
various, but with the rounding of each device's compiler.

Colours follow Beer and Lambert, as in `jaxseg.synthetic.skin`. Brightness alone does not find the lesion: hairs, dark
corners, shadows, ink, rulers and markers are dark as well, and some lesions are hardly darker, or even paler, than
their surroundings.
"""

import dataclasses
import functools
import math

import numpy as np
from PIL import Image, ImageDraw

from jaxseg.config import DataConfig
from jaxseg.data.absorbers import BLOOD, DEEP_MELANIN, DENSE_MELANIN, MELANIN, SURFACE_MELANIN
from jaxseg.data.examples import Example, Examples
from jaxseg.errors import UserError

HEIGHT, WIDTH = 192, 256
"""Size of every image, pixels; 4:3 as dermoscopes give."""

VERSION = "1"
"""Raised whenever any image or mask changes, so that scores before and after are not compared."""

GROUPS = ("clean", "hair", "dark_corner", "low_contrast", "shadow", "ink", "marker", "ruler", "bubbles")
"""The main difficulty of an image. Image `i` has group `i % len(GROUPS)`, so that nine images have all of them."""

SPLITS = ("train", "validation", "test")
"""The splits. The position of a split is part of its images' seeds and must not change."""

_ROOT_SEED = 20160415
_ROWS, _COLUMNS = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
_EXTRA_ARTEFACT = 0.15  # chance of each further artefact in an image that is not "clean"
_AREA_RANGE = (0.022, 0.5)  # of the image, before the image's or the lens' border cuts some off
_FITZPATRICK = (0.12, 0.22, 0.38, 0.65, 1.05, 1.6)  # melanin of skin types I to VI
# Light in [0, 255] by density in steps of 1/1024; rounded, so that no machine's last digit of exp() matters.
_STEPS = np.float32(1024)
_LIGHT = np.float32(np.round(255 * np.exp(-np.arange(6144) / 1024), 2))


def synthetic_examples(split: str, config: DataConfig) -> Examples:
    """Returns one split of the synthetic set, drawn when loaded.

    A larger split begins with the images of a smaller one. No image is in two splits.

    Args:
      split: "train" (`config.synthetic_train` images), "validation" or "test" (`config.synthetic_eval` each).
      config: number of images of each split.

    Raises:
      UserError: no such split.
    """
    if split not in SPLITS:
        raise UserError(f"split {split!r}: the synthetic set has the splits {', '.join(SPLITS)}")
    size = config.synthetic_train if split == "train" else config.synthetic_eval
    return Examples(
        dataset="synthetic",
        split=split,
        names=tuple(f"synthetic_{split}_{i:05d}" for i in range(size)),
        groups=tuple(GROUPS[i % len(GROUPS)] for i in range(size)),
        load=functools.partial(_load, split, size),
        version=f"synthetic-{VERSION}",
        stamp=lambda index: f"synthetic-{VERSION}",
    )


def _load(split: str, size: int, index: int) -> Example:
    if not 0 <= index < size:
        raise IndexError(f"index {index}: the split {split!r} of the synthetic set has {size} images")
    return example(split, index)


def example(split: str, index: int) -> Example:
    """Draws an image of the synthetic set: the same at every call, in every process.

    Args:
      split: one of `SPLITS`.
      index: index in the split, at least 0.
    """
    seed = np.random.SeedSequence([_ROOT_SEED, SPLITS.index(split), index])
    return generate(np.random.Generator(np.random.PCG64(seed)), GROUPS[index % len(GROUPS)])


def generate(rng: np.random.Generator, group: str) -> Example:
    """Draws one lesion with the difficulty that the group names.

    Args:
      rng: source of all random numbers.
      group: one of `GROUPS`.

    Returns:
      An example of [192, 256]. Its mask is the drawn outline: one region without holes, never empty.
    """
    traits = {group}
    if group != "clean":
        traits |= {g for g in GROUPS[1:] if rng.random() < _EXTRA_ARTEFACT}
    lens = _draw_lens(rng, "dark_corner" in traits)
    lesion = _draw_outline(rng, lens)
    melanin = _pick(rng, _FITZPATRICK) * rng.uniform(0.85, 1.15)
    density = _skin(rng, melanin) + _lesion(rng, lesion, melanin, "low_contrast" in traits)
    density += (_illumination(rng) + (_shadow(rng) if "shadow" in traits else 0))[..., None]

    image = _LIGHT[np.clip(density * _STEPS, 0, len(_LIGHT) - 1).astype(np.int32)]
    for trait, draw in _OVERLAYS.items():
        if trait in traits:
            image = draw(rng, image, lesion)
    image = _blend(image, lens.opacity, lens.colour)
    image += rng.integers(-3, 4, size=image.shape, dtype=np.int8)  # the camera's noise
    return Example(np.clip(np.rint(image), 0, 255).astype(np.uint8), lesion.mask.astype(np.uint8)[..., None])


@dataclasses.dataclass(frozen=True)
class _Lens:
    """The round field of view.

    Attributes:
      row, column, radius: circle, pixels; the radius is infinite where there are no dark corners.
      opacity, colour: the area outside the circle, float32 [H, W] in [0, 1] and [3] in [0, 255].
    """

    row: float
    column: float
    radius: float
    opacity: np.ndarray
    colour: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Lesion:
    """Where the lesion is.

    Attributes:
      radius: radius of a disc of the same area, pixels.
      depth: float32 [H, W], approximate distance to the outline, pixels, positive inside.
      mask: bool [H, W].
    """

    radius: float
    depth: np.ndarray
    mask: np.ndarray


def _pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


@functools.cache
def _spline(length: int, cell: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns cubic B-spline interpolation as four (knot, weight) pairs, each int64 and float32 [length]."""
    first, t = np.divmod((np.arange(length) + 0.5) / cell, 1)
    weights = (1 - t) ** 3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - (1 - t) ** 2 + (1 - t) ** 3 / 2, t**3 / 6
    return [(first.astype(np.int64) + k, w.astype(np.float32)) for k, w in enumerate(weights)]


def _noise(rng: np.random.Generator, cell: int) -> np.ndarray:
    """Returns a smooth random field, float32 [H, W], of mean 0 and deviation about 0.5, with bumps of `cell` pixels.

    No matrix products: BLAS sums in another order on another machine, and its threads compete with the pipeline's; on a
    busy machine drawing was ten times slower.
    """
    shape = HEIGHT // cell + 4, WIDTH // cell + 4
    knots = rng.integers(-127, 128, size=shape, dtype=np.int8) * np.float32(1.8 / 127)
    across = sum(knots[:, k] * w for k, w in _spline(WIDTH, cell))
    return sum(across[k] * w[:, None] for k, w in _spline(HEIGHT, cell))


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Rises smoothly from 0 where values <= low to 1 where values >= high; float32."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _blend(image: np.ndarray, opacity: np.ndarray, colour) -> np.ndarray:
    """Lays a colour (float32 [3] in [0, 255]) over an image (float32 [H, W, 3]) with opacity [H, W] in [0, 1]."""
    return image + opacity[..., None] * (np.float32(colour) - image)


def _distance(row: float, column: float) -> np.ndarray:
    return np.sqrt((_ROWS - np.float32(row)) ** 2 + (_COLUMNS - np.float32(column)) ** 2)


def _draw_lens(rng: np.random.Generator, dark_corners: bool) -> _Lens:
    row, column = HEIGHT * rng.uniform(0.46, 0.54), WIDTH * rng.uniform(0.46, 0.54)
    if not dark_corners:
        return _Lens(row, column, math.inf, np.zeros((HEIGHT, WIDTH), np.float32), np.zeros(3, np.float32))
    radius = rng.uniform(0.49, 0.74) * HEIGHT
    softness = _pick(rng, (1.5, 4, 12, 25))
    colour = np.float32([1, 0.85, 0.75]) * np.float32(_pick(rng, (2, 12, 35, 60)))
    return _Lens(row, column, radius, _ramp(_distance(row, column), radius, radius + softness), colour)


def _draw_outline(rng: np.random.Generator, lens: _Lens) -> _Lesion:
    """Draws a star-shaped outline of random harmonics, stretches it and bends the plane under it.

    The bending is gentle enough to keep the region in one piece, and the borders that may cut it are convex.
    """
    area = math.exp(rng.uniform(*map(math.log, _AREA_RANGE))) * HEIGHT * WIDTH
    area = min(area, 0.6 * math.pi * min(lens.radius, WIDTH) ** 2)
    size = math.sqrt(area / math.pi)
    span = rng.uniform(0.1, 0.9) if size < 60 else rng.uniform(0, 0.35)  # how far off-centre; the large are centred
    reach = min(HEIGHT / 2 - 0.3 * size, lens.radius - 0.8 * size) * span
    reach, angle = max(reach, 0), rng.uniform(0, 2 * math.pi)
    row = HEIGHT / 2 + reach * math.sin(angle)
    column = WIDTH / 2 + reach * (1.25 if math.isinf(lens.radius) else 1) * math.cos(angle)

    harmonics = np.arange(2, 30)
    strength = rng.uniform(0.06, 0.22) * rng.random(harmonics.size) * harmonics ** -rng.uniform(0.85, 1.7) * 2
    turns = np.arange(2048) * (2 * math.pi / 2048)
    waves = np.cos(turns[:, None] * harmonics + rng.uniform(0, 2 * math.pi, harmonics.size))
    radii = np.maximum(1 + (waves * strength).sum(axis=1), 0.35)
    radii = np.float32(radii * math.sqrt(area / math.pi / np.mean(radii**2)))

    bend = np.float32(min(9.0, 0.22 * size))
    y = _ROWS - np.float32(row) + bend * (_noise(rng, 36) + np.float32(0.25) * _noise(rng, 11))
    x = _COLUMNS - np.float32(column) + bend * (_noise(rng, 36) + np.float32(0.25) * _noise(rng, 11))
    tilt, stretch = rng.uniform(0, math.pi), math.sqrt(rng.uniform(1, 2))
    cos, sin, stretch = np.float32(math.cos(tilt)), np.float32(math.sin(tilt)), np.float32(stretch)
    x, y = (cos * x + sin * y) / stretch, (cos * y - sin * x) * stretch
    direction = (np.arctan2(y, x) * np.float32(1024 / math.pi)).astype(np.int32) & 2047
    depth = radii[direction] - np.sqrt(x * x + y * y)
    inside_lens = lens.radius - _distance(lens.row, lens.column)
    return _Lesion(size, depth, (depth > 0) & (inside_lens > 0))


def _skin(rng: np.random.Generator, melanin: float) -> np.ndarray:
    """Returns the density of skin, float32 [H, W, 3]: blotches, freckles, pores, furrows, small vessels."""
    rough = rng.uniform(0.5, 1.3)
    pigment = melanin * (1 + np.float32(0.1 * rough) * _noise(rng, 40)) + np.float32(0.04 * rough) * _noise(rng, 3)
    pigment += np.float32(0.05 * rough) * _noise(rng, 6)
    furrows = _ramp(-np.abs(_noise(rng, 8)), -0.2, 0)
    pigment += np.float32(rng.uniform(-0.09, 0.09)) * furrows
    if rng.random() < 0.5:  # freckles: small and faint, never as large as a lesion
        pigment += np.float32(rng.uniform(0.1, 0.35)) * _ramp(_noise(rng, 14), 0.75, 1.3)
    blood = rng.uniform(0.06, 0.34) * (1 + np.float32(0.35 * rough) * _noise(rng, 26))
    if rng.random() < 0.3:
        blood += np.float32(rng.uniform(0.1, 0.25)) * _ramp(-np.abs(_noise(rng, 17)), -0.1, 0)
    cast = np.float32(rng.uniform(-0.09, 0.09, 3)) + np.float32(rng.uniform(-0.04, 0.2))  # white balance, exposure
    if rng.random() < 0.1:
        cast += np.float32([0.4, 0.15, -0.1])  # a bluish lamp
    return pigment[..., None] * MELANIN + blood[..., None] * BLOOD + cast


def _lesion(rng: np.random.Generator, lesion: _Lesion, skin_melanin: float, low_contrast: bool) -> np.ndarray:
    """Returns the density that the lesion adds, float32 [H, W, 3]; negative where it is paler than skin."""
    width = min(_pick(rng, (1.5, 3, 6, 10, 16)), 0.6 * lesion.radius)
    ragged = lesion.depth + np.float32(0.18 * width) * _noise(rng, 5)
    cover = _ramp(ragged, -0.35 * width, 0.65 * width)  # the eye puts a fuzzy outline towards its outer end
    kind = rng.random()
    if kind < 0.12:
        colour, amount = BLOOD + np.float32(0.1) * MELANIN, rng.uniform(0.5, 1.0)
    elif kind < 0.22 and skin_melanin > 0.6:
        colour, amount = np.float32(0.5) * BLOOD - np.float32(0.6) * MELANIN, rng.uniform(0.5, 0.9)
    else:
        mix, dense = np.float32(rng.random()), rng.random()
        colour = mix * MELANIN + (1 - mix) * (SURFACE_MELANIN if dense < 0.6 else DENSE_MELANIN)
        amount = rng.uniform(0.5, 1.7)
    if low_contrast:
        amount = rng.uniform(0.2, 0.38) if kind >= 0.12 else rng.uniform(0.3, 0.45)

    tone = 1 + np.float32(rng.uniform(0.1, 0.45)) * _noise(rng, max(8, int(0.5 * lesion.radius)))
    tone += np.float32(0.2) * _noise(rng, 7) + np.float32(0.18) * _noise(rng, 3) + _texture(rng)
    blotch = _ramp(_noise(rng, max(10, int(0.6 * lesion.radius))), 0.1, 0.9)
    feature = rng.random()
    if feature < 0.25:  # regression: pale, scar-like areas
        tone *= 1 - np.float32(rng.uniform(0.5, 0.9)) * blotch
    elif feature < 0.5:  # a dark, eccentric blotch
        tone += np.float32(rng.uniform(0.4, 1.0)) * blotch
    density = (np.float32(amount) * cover * np.maximum(tone, 0.12))[..., None] * colour
    if feature > 0.8 and not low_contrast:  # a blue-grey veil
        density += (cover * blotch)[..., None] * np.float32(rng.uniform(0.4, 0.9)) * DEEP_MELANIN
    return density


def _texture(rng: np.random.Generator) -> np.ndarray | np.float32:
    """Returns what fine structure adds to the lesion's tone: a pigment network, globules, or nothing; mean about 0."""
    kind = rng.random()
    if kind < 0.35:
        return np.float32(0)
    # Three waves at 60 degrees make a honeycomb; bent, it is a network (dark lines) or globules (dark cells).
    pitch, turn = rng.uniform(6, 13), rng.uniform(0, math.pi / 3)
    bend = np.float32(0.45 * pitch)
    y = _ROWS + bend * (_noise(rng, 20) + np.float32(0.6) * _noise(rng, 7))
    x = _COLUMNS + bend * (_noise(rng, 20) + np.float32(0.6) * _noise(rng, 7))
    comb = np.float32(0)
    for k in range(3):
        angle, step = turn + k * math.pi * 2 / 3, 2 * math.pi / pitch
        comb = comb + np.cos(np.float32(step * math.cos(angle)) * x + np.float32(step * math.sin(angle)) * y)
    patchy = _ramp(_noise(rng, 30), -0.6, 0.5) * np.float32(rng.uniform(0.3, 0.8))
    if kind < 0.7:
        return patchy * (np.float32(0.35) - _ramp(comb, -1.0, 1.2))
    return patchy * (_ramp(comb, 0.4, 2.0) - np.float32(0.3))


def _illumination(rng: np.random.Generator) -> np.ndarray:
    """Returns the density, float32 [H, W], of a lamp that is off-centre and fades to the edges."""
    far = _distance(HEIGHT * rng.uniform(0.25, 0.75), WIDTH * rng.uniform(0.25, 0.75)) / np.float32(WIDTH / 2)
    return np.float32(rng.uniform(0.0, 0.35)) * far * far


def _shadow(rng: np.random.Generator) -> np.ndarray:
    """Returns the density, float32 [H, W], of a shadow that falls in from one side, as dark as a lesion."""
    angle = rng.uniform(0, 2 * math.pi)
    down, across = HEIGHT / 2 * math.sin(angle), WIDTH / 2 * math.cos(angle)
    along = (_ROWS * (2 / HEIGHT) - 1) * down + (_COLUMNS * (2 / WIDTH) - 1) * across
    edge = abs(down) + abs(across)  # at the corner deepest in the shadow
    start, end = rng.uniform(0.1, 0.5) * edge, rng.uniform(0.65, 1.0) * edge
    return np.float32(rng.uniform(0.4, 1.2)) * _ramp(along + 14 * _noise(rng, 40), start, end)


def _strokes(lines, width: int) -> np.ndarray:
    """Draws polylines of (column, row) points, pixels, `width` thirds of a pixel wide; float32 [H, W] in [0, 1]."""
    canvas = Image.new("L", (WIDTH * 3, HEIGHT * 3))
    pen = ImageDraw.Draw(canvas)
    for line in lines:
        pen.line([(round(3 * float(x)), round(3 * float(y))) for x, y in line], fill=255, width=width, joint="curve")
    return np.asarray(canvas.reduce(3), np.float32) / 255


def _draw_hairs(rng: np.random.Generator, image: np.ndarray, lesion: _Lesion) -> np.ndarray:
    """Lays curved hairs over all, most dark, some light."""
    t, lines = np.linspace(0, 1, 16)[:, None], []
    for _ in range(int(rng.integers(4, 32))):
        start = rng.uniform(-0.1, 1.1, 2) * (WIDTH, HEIGHT)
        angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(40, 220)
        end = start + length * np.array([math.cos(angle), math.sin(angle)])
        middle = (start + end) / 2 + rng.uniform(-0.35, 0.35, 2) * length
        lines.append((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end)
    light, dark = rng.uniform(190, 240, 3), rng.uniform(5, 60) * np.array([1, 0.7, 0.55])
    colour = light if rng.random() < 0.2 else dark
    image = _blend(image, np.float32(rng.uniform(0.5, 0.95)) * _strokes(lines[::2], 4), colour)
    return _blend(image, np.float32(rng.uniform(0.5, 0.95)) * _strokes(lines[1::2], 3), colour)


def _draw_ink(rng: np.random.Generator, image: np.ndarray, lesion: _Lesion) -> np.ndarray:
    """Lays a surgeon's pen line around part of the lesion."""
    away, width = rng.uniform(14, 40), rng.uniform(3, 9)
    line = 1 - _ramp(np.abs(lesion.depth + np.float32(away) + 5 * _noise(rng, 30)), 0.6 * width, width)
    broken = _ramp(_noise(rng, 4), -0.6, 0.1) * _ramp(_noise(rng, 30), -0.5, -0.2)
    colour = _pick(rng, ((88, 70, 178), (60, 55, 130), (40, 80, 120), (30, 28, 40)))
    return _blend(image, np.float32(0.9) * line * broken * (lesion.depth < -6), colour)


def _draw_marker(rng: np.random.Generator, image: np.ndarray, lesion: _Lesion) -> np.ndarray:
    """Lays a coloured sticker at the border, as in pictures of children; beside the lesion, never on it."""
    row, column = rng.uniform(0, HEIGHT), _pick(rng, (-10, WIDTH + 10))
    if rng.random() < 0.4:
        row, column = _pick(rng, (-10, HEIGHT + 10)), rng.uniform(0, WIDTH)
    distance = _distance(row, column)
    radius = min(rng.uniform(40, 90), max(float(distance[lesion.depth > -4].min(initial=1e3)) - 2, 0))
    colour = _pick(rng, ((70, 190, 180), (235, 150, 30), (60, 70, 150), (90, 40, 40), (225, 200, 60), (40, 90, 60)))
    weave = 1 + np.float32(0.05) * _noise(rng, 2)
    patch = np.clip(np.float32(colour) * weave[..., None], 0, 255)
    return image + (1 - _ramp(distance, radius - 1, radius + 1))[..., None] * (patch - image)


def _draw_ruler(rng: np.random.Generator, image: np.ndarray, lesion: _Lesion) -> np.ndarray:
    """Lays a scale's ticks along one side, each fifth one longer."""
    start, angle = np.array([rng.uniform(0, 60), rng.uniform(0.08, 0.92) * HEIGHT]), rng.uniform(-0.5, 0.5)
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    step, length = rng.uniform(6, 14), rng.uniform(5, 10)
    base = [start + step * i * along for i in range(32)]
    ticks = [(p, p + (1.8 if i % 5 == 0 else 1) * length * across) for i, p in enumerate(base)]
    lines = [*ticks, (base[0], base[-1])] if rng.random() < 0.5 else ticks
    return _blend(
        image, np.float32(0.9) * _strokes(lines, _pick(rng, (3, 4, 6))), _pick(rng, ((10, 10, 12), (50, 45, 60)))
    )


def _draw_bubbles(rng: np.random.Generator, image: np.ndarray, lesion: _Lesion) -> np.ndarray:
    """Lays air bubbles in the gel over all: a dark rim, a bright one inside it, and a glint."""
    for _ in range(int(rng.integers(4, 14))):
        row, column, radius = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH), rng.uniform(3, 14)
        top, left = max(int(row - radius - 3), 0), max(int(column - radius - 3), 0)
        part = np.s_[top : int(row + radius + 4), left : int(column + radius + 4)]
        y, x = _ROWS[part] - np.float32(row), _COLUMNS[part] - np.float32(column)
        distance = np.sqrt(x * x + y * y)
        patch = _blend(image[part], np.float32(0.5) * (1 - _ramp(np.abs(distance - radius), 0, 1.4)), (50, 35, 30))
        patch = _blend(patch, np.float32(0.5) * (1 - _ramp(np.abs(distance - radius + 1.8), 0, 1.4)), (255, 250, 240))
        glint = np.sqrt((x + radius / 3) ** 2 + (y + radius / 3) ** 2)
        image[part] = _blend(patch, np.float32(0.8) * (1 - _ramp(glint, 0.5, 2)), (255, 255, 255))
    return image


# In the order in which they lie on the skin.
_OVERLAYS = {
    "ink": _draw_ink,
    "ruler": _draw_ruler,
    "hair": _draw_hairs,
    "bubbles": _draw_bubbles,
    "marker": _draw_marker,
}
