"""Images and masks from files: decoded, checked and resized with Pillow.

Everything here is pure and safe to call from several threads. Whatever the file holds, an image comes out as uint8 RGB
and a mask as {0, 1}; what cannot be read fails with one line that names the file.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxseg.errors import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Endings of the files in a folder that are taken for images and masks, in lower or upper case."""

MAX_PIXELS = 89_000_000
"""Largest image that is decoded, pixels: three times the largest ISIC photograph, 0.27 GB as RGB.

Just below the size from which Pillow itself warns of a decompression bomb (a small file that fills the memory).
"""

warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow's way to refuse instead of warn
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damage beside the pixels, as in EXIF, which does no harm

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

_ORIENTED_BY = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow puts the metadata blocks that may hold an orientation."""

_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are tried, by content: those of photographs, not those for which Pillow starts other programs."""


def decode_image(source: bytes | Path, name: str = "") -> np.ndarray:
    """Decodes an image of any kind that Pillow reads.

    The EXIF orientation is applied. Grey, palette, CMYK and 16-bit images become 8-bit RGB; transparent parts become
    white, as on paper.

    Args:
      source: the file's content, or its path.
      name: what to call the image in an error message; default: its path.

    Returns:
      uint8 [H, W, 3], RGB in [0, 255].

    Raises:
      UserError: not an image, truncated, empty, too large or of a kind that has no RGB form.
    """
    with _opened(source, name) as image:
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))


def decode_mask(source: bytes | Path, name: str = "") -> np.ndarray:
    """Decodes a lesion mask of any kind that Pillow reads.

    The brightest channel counts, so that a red or a palette-coloured lesion on black is one. The range is taken from
    the largest value: masks of 0 and 1, of 0 to 255 and of 0 to 65535 are all understood, and cut at half.

    Args:
      source: the file's content, or its path.
      name: what to call the mask in an error message; default: its path.

    Returns:
      uint8 [H, W, 1], 1 for lesion and 0 for skin; all 0 if the mask is all black.

    Raises:
      UserError: as for `decode_image`, or values that are neither black nor reach half of a range, as 0 and 2.
    """
    with _opened(source, name) as image:
        values = _brightness(ImageOps.exif_transpose(image))
        highest = float(values.max())
        full = next((top for top in (1, 255, 65535) if highest <= top), highest)
        # Without this check a mask of labels 0 and 2, or of 0 and 100, would silently become an image without lesion.
        if 0 < highest <= full / 2:
            raise UserError(
                f"{_called(source, name)}: values from {values.min():g} to {highest:g} are no lesion mask; save it "
                "with 0 for skin and 255 (or 1) for lesion"
            )
        return (values > full / 2).astype(np.uint8)[..., None]


def size_of(source: bytes | Path, name: str = "") -> tuple[int, int]:
    """Returns (height, width) as `decode_image` would give them, from the file's header alone.

    Raises:
      UserError: not an image, empty or too large; a truncated file goes unnoticed.
    """
    with _opened(source, name) as image:
        width, height = image.size
        # Asking for the orientation costs as much as opening: ask only where there may be one.
        has_metadata = any(key in image.info for key in _ORIENTED_BY)
        sideways = has_metadata and image.getexif().get(_ORIENTATION) in _SIDEWAYS
        return (width, height) if sideways else (height, width)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image bilinearly; when it shrinks, Pillow widens the filter, so nothing aliases.

    Args:
      image: uint8 [H, W, 3].
      size: (height, width) wanted, pixels.

    Returns:
      uint8 [height, width, 3].
    """
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a mask by taking the nearest pixel, so that it stays {0, 1}.

    Args:
      mask: uint8 [H, W, 1].
      size: (height, width) wanted, pixels.

    Returns:
      uint8 [height, width, 1].
    """
    return np.asarray(Image.fromarray(mask[..., 0]).resize(size[::-1], Image.Resampling.NEAREST))[..., None]


def encode_png(image: np.ndarray) -> bytes:
    """Returns an image uint8 [H, W, 3], or a mask uint8 [H, W, 1] in {0, 1} as {0, 255}, as PNG bytes."""
    pixels = image if image.shape[-1] == 3 else image[..., 0] * np.uint8(255)
    buffer = io.BytesIO()
    # Level 1 is four times as fast as the default and 1 % larger (measured on PH2).
    Image.fromarray(pixels).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


@contextlib.contextmanager
def _opened(source: bytes | Path, name: str) -> Iterator[Image.Image]:
    """Opens an image, and turns what Pillow raises while it is decoded in the block into one-line errors."""
    called = _called(source, name)
    try:
        data = source if isinstance(source, bytes) else _read_or_path(source)
        if not data:
            raise UserError(f"{called}: the file is empty; fetch it again or leave it out")
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{called}: more than {MAX_PIXELS:,} pixels; shrink the image") from None
    except UnidentifiedImageError:
        raise UserError(f"{called}: not an image that can be read (by its content, not its name)") from None
    except FileNotFoundError:
        raise UserError(f"{called}: no such file") from None
    except PermissionError as error:
        raise UserError(f"{called}: cannot be read ({error.strerror}); make it readable") from None
    except Exception as error:  # Pillow reports damage with a dozen kinds, struct.error and IndexError among them
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{called}: cannot be decoded ({reason}); fetch it again, or save it as PNG or JPEG") from None


def _called(source: bytes | Path, name: str) -> str:
    return name or ("image" if isinstance(source, bytes) else str(source))


def _read_or_path(path: Path) -> Path | bytes:
    """Returns the path, or empty bytes if the file is empty: Pillow would call that one "cannot identify"."""
    return path if path.stat().st_size else b""


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        # Pillow's own conversion to 8 bits clips at 255 instead of scaling.
        image = Image.fromarray(_deep_to_uint8(_pixels(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")


def _pixels(image: Image.Image) -> np.ndarray:
    """Returns an image's values in its own range, [H, W] or [H, W, C].

    Raises:
      ValueError: some are not finite.
    """
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("values that are not finite")
    return values


def _deep_to_uint8(values: np.ndarray) -> np.ndarray:
    """Scales grey values of 16 or 32 bits, or float in [0, 1], to uint8; values within [0, 255] are kept."""
    highest = values.max()
    if values.dtype.kind == "f" and highest <= 1:
        scaled = values * 255.0
    else:
        # A 16-bit file has the range of its type, even where an underexposed image does not use it.
        deep = values.dtype.itemsize == 2 or highest > 255
        scaled = values / 257.0 if deep else values
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _brightness(image: Image.Image) -> np.ndarray:
    """Returns the brightest channel, [H, W], in the file's own range; what is transparent is black."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    elif image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    values = _pixels(image)
    return values.max(axis=-1) if values.ndim == 3 else values
