"""Colours of files that carry an ICC profile, brought to sRGB.

Telephones write Display P3, print shops CMYK, scanners profiles of their own. The same numbers mean other colours
there, so that a photograph would be paler, or of another hue, than every program shows it.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode by a profile's colour space. Profiles of other spaces are not found in photographs."""

_ROUNDING = 2
"""Largest difference of a level, of 255, by which the many profiles that are called sRGB differ from each other."""


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts a picture to sRGB by its ICC profile.

    Pictures without a profile, with one of sRGB, with a damaged one, or with one of another kind of picture (grey saved
    with the profile of the colours that it had) stay as they are, as in browsers.

    Args:
      image: of mode L, LA, RGB, RGBA or CMYK, 8 bits; opacity is kept.
      profile: the ICC profile, as Pillow's `image.info["icc_profile"]`.

    Returns:
      The same picture of mode RGB or RGBA, or `image` itself.
    """
    if not profile:
        return image
    has_opacity = image.mode in ("LA", "RGBA")
    colours = image.convert(image.mode[:-1]) if has_opacity else image
    transform = _transform(profile, colours.mode)
    if transform is None:
        return image
    result = transform.apply(colours)
    if has_opacity:
        result.putalpha(image.getchannel("A"))
    return result


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Returns what brings pictures of a mode to sRGB; None where nothing is to be done, or it cannot be."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _SPACES.get(opened.profile.xcolor_space.strip()) != mode:
            return None
        result = ImageCms.ImageCmsTransform(
            opened, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")), mode, "RGB"
        )
        tones = _tones(mode)
        moved = np.asarray(result.apply(tones)).astype(int) - np.asarray(tones.convert("RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return result if np.abs(moved).max() > _ROUNDING else None


def _tones(mode: str) -> Image.Image:
    """Returns a picture of colours from all over the range of a mode."""
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    channels = len(Image.new(mode, (1, 1)).getbands())
    grid = np.stack(np.meshgrid(*[levels] * channels), axis=-1).reshape(9, -1, channels)
    return Image.frombytes(mode, grid.shape[1::-1], grid.tobytes())
