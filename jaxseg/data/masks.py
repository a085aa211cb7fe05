"""From the pixels of a mask file to lesion and skin: pure functions of arrays.

A mask is taken for what it looks like where that is beyond doubt: two levels, one dark for skin and one bright for
lesion, with anti-aliased edges and the noise of JPEG around them. Everything else is refused, with the setting by which
the user decides (`data.mask_lesion`).
"""

import dataclasses
import re

import numpy as np

from jaxseg.config.sections import LESION_PATTERN
from jaxseg.data.colours import NEAR, along, by_frequency, full_scale, hex_name, pack

WAY_OUT = "--data.mask-lesion says which value or colour is lesion"

_PHOTOGRAPH = "looks like a photograph, not like a mask of two levels; put the mask in its place"

_FEW = 16
"""Masks of at most this many different values are labels or hard edges, not noise: each value may be a class."""

_DARKEST = 64
"""Brightest channel, of 255, that a colour may have to pass for black."""

_COMMON = 0.6
"""Least share of a mask's pixels that are near black or white, or have one of its 16 most frequent colours."""

_LEAST_SHARE = 0.0002
"""Share of the pixels below which a third level is a speck."""


class UnclearMaskError(Exception):
    """Raised where lesion and skin cannot be told; its text says why and what to do."""


@dataclasses.dataclass(frozen=True)
class MaskRule:
    """How a data set's masks are to be read (`--data.mask-…`).

    Attributes:
      lesion: what is lesion: a value as "128", a range as "128-255", a colour as "#ff0000"; empty: the bright one of
        two levels.
      invert: true if lesion and skin are swapped.
    """

    lesion: str = ""
    invert: bool = False

    def of(self, values: np.ndarray, labels: np.ndarray | None = None, *, lossy: bool = False) -> np.ndarray:
        """Tells lesion from skin.

        Args:
          values: [H, W] grey in any range, or uint8 [H, W, 3] in RGB.
          labels: integers [H, W], the indices of a palette, which a value in `lesion` names; default: `values`.
          lossy: true if the file's format changes values, as JPEG does.

        Returns:
          bool [H, W], True for lesion.

        Raises:
          UnclearMaskError: the values are no lesion mask, or not clear enough to be read as one.
        """
        if not self.lesion and labels is not None:
            _check_palette(values, labels)
        found = chosen(values, labels, self.lesion, lossy) if self.lesion else lesion_of(values)
        return ~found if self.invert else found


BRIGHT = MaskRule()
"""The bright one of two levels is lesion."""


def parse_lesion(text: str) -> tuple[float, float] | tuple[int, int, int]:
    """Reads the setting `data.mask_lesion`.

    Args:
      text: "128", "128-255" or "#ff0000", as `DataConfig` has checked.

    Returns:
      The lowest and highest value that are lesion, or a colour as (red, green, blue).
    """
    match = re.fullmatch(LESION_PATTERN, text)
    if match["colour"]:
        return tuple(bytes.fromhex(text[1:]))
    return float(match["low"]), float(match["high"] or match["low"])


def chosen(values: np.ndarray, labels: np.ndarray | None, lesion: str, lossy: bool = False) -> np.ndarray:
    """Returns where a mask has the value or colour that the user names, bool [H, W].

    Args:
      values: [H, W] grey, or uint8 [H, W, 3] in RGB.
      labels: indices of a palette [H, W], if there is one.
      lesion: as `parse_lesion` takes it.
      lossy: true if values are only near to what was drawn.

    Raises:
      UnclearMaskError: a value is named, but the mask is coloured and has no palette.
    """
    wanted = parse_lesion(lesion)
    if len(wanted) == 3:
        values = _in_8_bits(values)
        if values.ndim == 2:
            values = np.repeat(values[..., None], 3, axis=-1)
        return _nearest_to(values, np.array(wanted))
    grey = values if labels is None else labels
    # One value may be named for masks of several depths: 255 for the white of a mask of 1 or 16 bits as well.
    if 1 < wanted[1] <= 255:
        grey = _in_8_bits(grey)
    if grey.ndim == 3:
        if (grey != grey[..., :1]).any():
            colours = ", ".join(map(hex_name, by_frequency(pack(values))[0][:4]))
            raise UnclearMaskError(f"a coloured mask ({colours}) has no value {lesion}; name a colour instead")
        grey = grey[..., 0]
    low, high = wanted
    spare = NEAR / 2 if lossy and low == high else 0
    return (grey >= low - spare) & (grey <= high + spare)


def _in_8_bits(values: np.ndarray) -> np.ndarray:
    """Returns values of 1 bit, or of 16 bits that tell no more than 8 do, in [0, 255]; others as they are."""
    if values.dtype == bool:
        return values * np.uint8(255)
    if values.dtype.kind in "ui" and values.max() > 255 and not (values % 257).any() and values.max() <= 65535:
        return (values // 257).astype(np.uint8)
    return values


def _nearest_to(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns where a coloured mask, [H, W, 3], has a colour, int [3]; soft edges and noise are cut at half."""
    apart = np.abs(values.astype(np.int32) - wanted).max(axis=-1)
    packed = pack(values)
    colours, _ = by_frequency(packed)
    if len(colours) <= _FEW:
        return apart <= 2
    far = np.abs(colours.astype(int) - wanted).max(axis=-1) > 96
    if not far.any():
        return apart <= NEAR
    other = colours[np.flatnonzero(far)[0]].astype(np.int32)
    to_wanted, to_other = (np.square(values.astype(np.int32) - colour).sum(axis=-1) for colour in (wanted, other))
    return (to_wanted < to_other) & (apart <= 128)


def lesion_of(values: np.ndarray) -> np.ndarray:
    """Tells lesion from skin by brightness, where there is no doubt.

    Args:
      values: [H, W] grey in any range, or uint8 [H, W, 3] in RGB.

    Returns:
      bool [H, W], True for lesion: the brighter of two levels. All False for an all-black mask.

    Raises:
      UnclearMaskError: more than two levels or colours, or two that are both bright or both dark.
    """
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            return _of_colours(values)
        values = values[..., 0]
    return _of_grey(values)


def _check_palette(values: np.ndarray, labels: np.ndarray) -> None:
    """Raises UnclearMaskError if a palette shows labels in one colour: the picture hides what the labels tell."""
    if len(indices := np.unique(labels)) > 1 and (values == values[:1, :1]).all():
        shown = ", ".join(map(str, indices[:4]))
        raise UnclearMaskError(f"the values {shown} have one and the same colour in the file's palette; {WAY_OUT}")


def _of_grey(values: np.ndarray) -> np.ndarray:
    lowest, highest = float(values.min()), float(values.max())
    if lowest < 0:
        raise UnclearMaskError(
            f"the lowest value is {lowest:g}; save it with 0 for skin and 255 for lesion, or {WAY_OUT}"
        )
    full = full_scale(values)
    # Without this check a mask of labels 0 and 2, or of 0 and 100, would silently become an image without lesion.
    if 0 < highest <= full / 2:
        raise UnclearMaskError(
            f"values from {lowest:g} to {highest:g} are no lesion mask; save it with 0 for skin and 255 (or 1) for "
            f"lesion, or {WAY_OUT}"
        )
    if lowest < highest and lowest > full / 2:
        raise UnclearMaskError(
            f"values from {lowest:g} to {highest:g} have no black for skin; save it with 0 for skin and 255 for "
            f"lesion, or {WAY_OUT}"
        )
    if values.dtype == bool or (full == 1 and values.dtype.kind != "f"):
        return values > 0
    scaled = values if full == 255 and values.dtype == np.uint8 else np.rint(values * (255 / full)).astype(np.uint8)
    counts = np.bincount(scaled.ravel(), minlength=256)
    dark, bright = int(counts[:128].argmax()), int(128 + counts[128:].argmax())
    many = np.count_nonzero(counts) > _FEW
    ends = (counts[: NEAR + 1].sum() + counts[255 - NEAR :].sum()) / scaled.size
    if many and (dark > _DARKEST or _is_photograph(scaled, ends)):
        raise UnclearMaskError(f"{_PHOTOGRAPH}; {WAY_OUT}")
    # Of a grey lesion that JPEG has saved, noise alone may be brighter than half.
    top = max(bright, 128 + NEAR) if many else bright
    if third := _third_levels(scaled, counts, dark, top, few=not many):
        shown = [f"{level * full / 255:g}" for level in sorted({dark, *third, bright})]
        raise UnclearMaskError(f"more than two levels ({', '.join(shown)}); {WAY_OUT}")
    return values > (dark + bright) / 2 * (full / 255)


def _of_colours(values: np.ndarray) -> np.ndarray:
    packed = pack(values)
    colours, counts = by_frequency(packed)
    # First of all: of a photograph's many colours, none that a message names is lesion.
    if len(colours) > _FEW and _is_photograph(values.max(axis=-1), counts[:_FEW].sum() / packed.size):
        raise UnclearMaskError(f"{_PHOTOGRAPH}; {WAY_OUT}")
    first = colours[0]
    apart = np.abs(colours.astype(int) - first.astype(int)).max(axis=-1)
    # Next to an edge JPEG makes colours in between, which may be frequent in a small mask: look far away first.
    others = next((found for least in (96, NEAR) if len(found := np.flatnonzero(apart > least))), [])
    if not len(others):  # one colour alone, with noise
        if 0 < (highest := int(values.max())) <= 127:  # as of grey values: labels, or lost bits
            brightest = hex_name(colours[colours.max(axis=-1).argmax()])
            raise UnclearMaskError(
                f"the brightest colour is {brightest}, {highest} of 255, which is no lesion mask; save it with 0 for "
                f"skin and 255 for lesion, or {WAY_OUT}"
            )
        return np.full(values.shape[:2], first.max() > 127)
    second = colours[others[0]]
    names = [hex_name(first), hex_name(second)]
    dark, bright = sorted((first, second), key=lambda colour: int(colour.max()))
    if dark.max() > _DARKEST or bright.max() <= 127:
        raise UnclearMaskError(
            f"the colours {names[0]} and {names[1]} are not black and one other, so which is lesion is not clear; "
            f"{WAY_OUT}, as --data.mask-lesion '{names[1]}'"
        )
    position, distance = along(colours, dark, bright)
    strange = distance > (3 if len(colours) <= _FEW else 2 * NEAR)
    if counts[strange].sum() > max(_LEAST_SHARE, 0 if len(colours) <= _FEW else 0.01) * packed.size:
        third = hex_name(colours[strange][0])
        raise UnclearMaskError(f"more than two colours ({', '.join([*names, third])}); {WAY_OUT}")
    table = np.zeros(2**24, np.uint8)
    table[pack(colours)] = np.clip(np.rint(position * 255), 0, 255).astype(np.uint8)
    scaled = table[packed]
    if _third_levels(scaled, np.bincount(scaled.ravel(), minlength=256), 0, 255, few=len(colours) <= _FEW):
        raise UnclearMaskError(f"more than two levels between the colours {names[0]} and {names[1]}; {WAY_OUT}")
    return scaled > 127


def _is_photograph(grey: np.ndarray, common_share: float) -> bool:
    """Returns whether many pixels differ from their neighbours, and few have the colours of a mask.

    Of 260 photographs of ISIC 2016 and PH2, and 100 masks of JPEG, with soft edges or both, all are told.

    Args:
      grey: uint8 [H, W].
      common_share: share of the pixels that have the colours which nearly all of a mask has.
    """
    steps = np.abs(np.diff(grey[::2].astype(np.int16), axis=1))
    if not steps.size:
        return False
    return bool((steps > 2).mean() > 0.4 or ((steps > 0).mean() > 0.4 and common_share < _COMMON))


def _third_levels(scaled: np.ndarray, counts: np.ndarray, dark: int, bright: int, *, few: bool) -> list[int]:
    """Returns the levels besides two that cover areas and not just edges.

    Args:
      scaled: uint8 [H, W].
      counts: int [256], how often each level occurs.
      dark: the level of skin.
      bright: the level of lesion.
      few: whether there are so few levels that each may be a class.
    """
    least = max(4, _LEAST_SHARE * scaled.size)
    # A little below the brightest is a rounding error; a little above 0 may be a label.
    levels = [int(level) for level in np.flatnonzero(counts) if level != dark and not bright - 3 <= level <= bright]
    if not levels:
        return []
    if few:
        # Soft edges have several levels in between, each on a line; two by two equal pixels are an area.
        alone = len(levels) == 1 and levels[0] > dark + 3
        return [level for level in levels if counts[level] >= least and (alone or _blocks(scaled == level) >= least)]
    low, high = dark + NEAR, bright - NEAR
    between = (scaled > low) & (scaled < high)
    if between.sum() < least:
        return []
    # Flat areas in between: a ramp (a soft edge, an enlarged mask) is not flat, or has every level alike.
    middle = scaled[1:-1, 1:-1].astype(np.int16)
    flat = between[1:-1, 1:-1].copy()
    for rows, columns in ((slice(2, None), slice(1, -1)), (slice(None, -2), slice(1, -1)),
                          (slice(1, -1), slice(2, None)), (slice(1, -1), slice(None, -2))):  # fmt: skip
        flat &= np.abs(scaled[rows, columns] - middle) <= 12
    found = np.bincount(middle[flat], minlength=256)
    smooth = np.convolve(found, np.ones(25, int), mode="same")
    peak = int(smooth.argmax())
    if smooth[peak] >= max(least, 9) and smooth[peak] > 0.6 * found.sum() and smooth[peak] > 0.1 * between.sum():
        return [peak]
    return []


def _blocks(level: np.ndarray) -> int:
    """Returns how many squares of two by two pixels are all True."""
    return int((level[1:, 1:] & level[1:, :-1] & level[:-1, 1:] & level[:-1, :-1]).sum())


def on_background(pixels: np.ndarray, lesion: str) -> np.ndarray:
    """Takes the transparency out of a mask for which the user names what is lesion.

    Args:
      pixels: uint8 [H, W, 4], RGB and opacity.
      lesion: as `parse_lesion` takes it.

    Returns:
      uint8 [H, W, 3], black where it is transparent, or white where the named colour is dark; as it is where black is
      opaque and white transparent; for a named value and another black mask on transparent ground, [H, W] with that
      value where it is opaque.
    """
    colour, opacity, wanted = pixels[..., :3], pixels[..., 3], parse_lesion(lesion)
    solid = opacity > opacity.max() / 2 if opacity.min() < opacity.max() else np.ones(opacity.shape, bool)
    if _is_black_beside_white(colour, solid):
        return colour
    if len(wanted) == 3:
        return np.where(solid[..., None], colour, np.uint8(255 if max(wanted) <= 127 else 0))
    if not solid.all() and colour[solid].max() <= _DARKEST:
        named = np.uint8(min(wanted[0], 255))
        return np.where(solid, named, np.uint8(0 if wanted[0] else 255))
    return np.where(solid[..., None], colour, np.uint8(0))


def _is_black_beside_white(colour: np.ndarray, solid: np.ndarray) -> bool:
    """Tells of a black and white picture whose white is transparent: a mask, or a black lesion on an empty ground."""
    if solid.all():
        return False
    return bool(colour[solid].max() <= _DARKEST and colour[~solid].min() >= 255 - NEAR)


def opaque_part(pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """Takes the transparency out of a mask.

    Where all that is opaque has one colour, the opaque part is the lesion, whatever its colour. Else what is
    transparent is black.

    Args:
      pixels: uint8 [H, W, 4], RGB and opacity.

    Returns:
      uint8 [H, W, 3] or [H, W], and whether the second holds: [H, W] of 0 and 255, the opaque part.

    Raises:
      UnclearMaskError: nothing is opaque, but what lies below differs; black is opaque and white transparent; or the
        opaque part is a photograph.
    """
    colour, opacity = pixels[..., :3], pixels[..., 3]
    lowest, highest = int(opacity.min()), int(opacity.max())
    if highest == 0:
        if (colour != colour[:1, :1]).any():
            raise UnclearMaskError("all of it is transparent, with a picture below; save it without transparency")
        return np.zeros(opacity.shape, np.uint8), True
    if lowest == highest:
        return colour, False
    solid = opacity > highest / 2
    inside = colour[solid]
    if solid.all():
        return colour, False
    if (np.ptp(inside, axis=0) <= NEAR).all():
        if _is_black_beside_white(colour, solid):
            raise UnclearMaskError(
                "black is opaque and white transparent, so which is lesion is not clear; save it without transparency, "
                f"or {WAY_OUT}"
            )
        return np.where(solid, np.uint8(255), np.uint8(0)), True
    colours, counts = by_frequency(pack(inside))
    if len(colours) > _FEW and counts[:_FEW].sum() < _COMMON * len(inside):
        raise UnclearMaskError("a photograph with transparent parts; save its opacity as the mask, in black and white")
    if (inside.max(axis=-1) <= _DARKEST).sum() > _LEAST_SHARE * opacity.size:
        raise UnclearMaskError("transparent, dark and bright parts are three; save it in black and white")
    return np.where(solid[..., None], colour, np.uint8(0)), False
