"""Images of more than 8 bits: their values brought to uint8 by the range that they really have.

Cameras and scanners store 8, 10, 12 or 14 bits in files of 16. Scaled as 16 bits, such an image would come out black,
and its lesion would not be found.
"""

import sys

import numpy as np
from PIL import Image, ImageOps

_DEPTHS = (10, 12, 14, 16)
"""Bits in which values above 255 are stored, in a file of 16 or 32."""

DEEP_MODES = ("RGB", "RGBA", "RGBX", "LA")
"""Pillow's modes of 8 bits per colour in which it opens files of 16, too."""

_ABOVE_ONE = 1.5
"""Largest value of a float image in [0, 1]: interpolation overshoots a little."""

HOW = "brought to 8 by the smallest range of 8, 10, 12, 14 and 16 bits that holds its values"
"""What happens to an image of more than 8 bits, in words."""

TOLD = f"%d images have more than 8 bits; each is {HOW}: %s"
"""The line of a log that tells of such images: how many, and their names."""

DARKEST = 64
"""High byte of a 16-bit image's brightest value, from which the image uses all 16 bits."""


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Scales values of 16 or 32 bits, or float, to uint8.

    Integers have the smallest range of 8, 10, 12, 14 or 16 bits that holds the brightest of them. Float values are in
    [0, 1], where values a little outside are clipped, or else as integers.

    Args:
      values: [H, W] or [H, W, C], finite.

    Returns:
      uint8 of the same shape, in [0, 255].

    Raises:
      ValueError: values that are in none of these ranges.
    """
    lowest, highest = float(values.min()), float(values.max())
    if values.dtype.kind == "f":
        if lowest < -0.1 * max(highest, 0.0):
            raise ValueError(f"values from {lowest:g} to {highest:g}; save them in the range 0 to 1 or 0 to 255")
        if highest <= _ABOVE_ONE:
            return _clipped(values * 255.0)
        if highest < 32:
            raise ValueError(f"values up to {highest:g}, neither in 0 to 1 nor in 0 to 255; scale them")
    elif lowest < 0:
        raise ValueError(f"values from {lowest:g} to {highest:g}; save them in the range 0 to 255 or 0 to 65535")
    if highest <= 255:
        return _clipped(values)
    depth = next((bits for bits in _DEPTHS if highest < 2**bits), None)
    if depth is None:
        raise ValueError(f"values up to {highest:g}, more than 16 bits hold; scale them to 0 to 65535")
    return _clipped(values * (255.0 / (2**depth - 1)))


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def has_deep_colour(image: Image.Image) -> bool:
    """Returns whether an image that is not loaded yet stores colours of 16 bits, of which Pillow keeps the high byte.

    Args:
      image: as `Image.open` returns it.
    """
    return image.mode in DEEP_MODES and any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def has_deep_grey(image: Image.Image) -> bool:
    """Returns whether an image, loaded or not, stores grey of more than 8 bits, or as floats."""
    return image.mode.startswith(("I", "F"))


def is_deep(image: Image.Image) -> bool:
    """Returns whether an image that is not loaded yet stores grey or colours of more than 8 bits, or as floats.

    Args:
      image: as `Image.open` returns it.
    """
    return has_deep_grey(image) or has_deep_colour(image)


def deep_colour(image: Image.Image, again: Image.Image) -> Image.Image:
    """Returns a picture of 16 bits per colour as 8 bits, by the range of its values.

    Args:
      image: as `Image.open` returns it, not loaded yet; `has_deep_colour` holds.
      again: the same file, opened a second time.

    Returns:
      The picture, turned by its EXIF orientation.

    Raises:
      ValueError: the values are dark, and their low bytes cannot be read.
    """
    colours = {"RGBA": 3, "RGBX": 3, "RGB": 3, "LA": 1}[image.mode]
    turned = ImageOps.exif_transpose(image)
    high = np.asarray(turned)
    if high[..., :colours].max() >= DARKEST:
        return turned
    # Pillow unpacks the first or the last byte of each value. Told that the bytes are swapped, it gives the other.
    other = "B" if sys.byteorder == "little" else "L"
    swaps = {";16B": ";16L", ";16L": ";16B", ";16N": f";16{other}"}
    again.tile = [tile._replace(args=_swapped(tile.args, swaps)) for tile in again.tile]
    try:
        low = np.asarray(ImageOps.exif_transpose(again))
    except (ValueError, OSError) as error:
        raise ValueError(f"dark values of 16 bits; save it with 8 bits per colour ({error})") from None
    values = (high.astype(np.uint16) << 8) | low
    result = high.copy()
    result[..., :colours] = to_uint8(values[..., :colours])
    if image.mode == "RGBA" and high[..., 3].max() < DARKEST:
        result[..., 3] = to_uint8(values[..., 3])  # opacity has the colours' depth
    picture = Image.fromarray(result[..., :3] if image.mode == "RGBX" else result)
    picture.info["icc_profile"] = image.info.get("icc_profile")
    return picture


def _swapped(args: object, swaps: dict[str, str]) -> object:
    """Replaces the byte order in a decoder's arguments: a mode, or a tuple with a mode in it."""
    if isinstance(args, tuple):
        return tuple(_swapped(arg, swaps) for arg in args)
    if isinstance(args, str):
        for old, new in swaps.items():
            if old in args:
                return args.replace(old, new)
    return args
