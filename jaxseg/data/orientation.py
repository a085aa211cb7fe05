"""Which way up a picture lies: EXIF orientations, 1 to 8, as they are stored and what they ask for."""

import numpy as np
from PIL import Image

from jaxseg.data.file_kinds import has_late_metadata

_TAG = 0x0112
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

_ORIENTED_BY = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow puts the metadata blocks that may hold an orientation."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What each EXIF orientation asks for, as in `ImageOps.exif_transpose`."""

_TURNED_BACK = {6: 8, 8: 6}
"""Orientations whose turn is undone by that of another one; every other turn undoes itself."""


def orientation_of(image: Image.Image) -> int:
    """Returns the orientation in an image's metadata, 1 to 8; 1 where there is none.

    Args:
      image: a file that Pillow has opened and not decoded yet.
    """
    # Reading the metadata costs as much as opening: it is done only where there may be an orientation.
    tags = getattr(image, "tag_v2", ())
    if _TAG in tags or any(key in image.info for key in _ORIENTED_BY) or has_late_metadata(image):
        orientation = image.getexif().get(_TAG)
        return orientation if orientation in _TURNS else 1
    return 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turns a picture as an orientation asks for.

    Args:
      image: of any mode.
      orientation: 1 to 8.
    """
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def turned_back(image: Image.Image, orientation: int) -> Image.Image:
    """Undoes `turned`.

    Args:
      image: of any mode.
      orientation: 1 to 8.
    """
    return turned(image, _TURNED_BACK.get(orientation, orientation))


def turn_mask(mask: np.ndarray, orientation: int) -> np.ndarray:
    """Turns a mask as an EXIF orientation asks for.

    Args:
      mask: uint8 [H, W, 1].
      orientation: EXIF orientation, 1 to 8.

    Returns:
      uint8 [H, W, 1] or [W, H, 1].
    """
    if orientation not in _TURNS:
        return mask
    return np.asarray(turned(Image.fromarray(mask[..., 0]), orientation))[..., None]
