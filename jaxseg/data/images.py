"""Images and masks from files: decoded, checked and resized with Pillow.

Everything here is pure and safe to call from several threads. Whatever the file holds, an image comes out as uint8 RGB
and a mask as {0, 1}; what cannot be read fails with one line that names the file.
"""

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxseg.data.colour_profiles import to_srgb
from jaxseg.data.colours import most_frequent
from jaxseg.data.depth import DARKEST, DEEP_MODES, deep_colour, has_deep_colour, has_deep_grey, is_deep, to_uint8
from jaxseg.data.file_kinds import check_pixels, misread, pictures_in
from jaxseg.data.listing import HAS_HEIF
from jaxseg.data.masks import BRIGHT, MaskRule, UnclearMaskError, on_background, opaque_part
from jaxseg.data.orientation import SIDEWAYS, orientation_of, turned, turned_back
from jaxseg.errors import UserError

MAX_PIXELS = 89_000_000
"""Largest image that is decoded, pixels: three times the largest ISIC photograph, 0.27 GB as RGB.

Just below the size from which Pillow itself warns of a decompression bomb (a small file that fills the memory).
"""


_LEAST_OPAQUE = 32
"""Opacity, of 255, that some pixel must exceed; a picture below it would be little but white paper."""

_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
"""Tags of the stored size."""

_FORMATS = ["AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]
"""Formats that are tried, by content: those of photographs, not those for which Pillow starts other programs."""

if HAS_HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()
    _FORMATS.append("HEIF")


def decode_image(source: bytes | Path, name: str = "") -> np.ndarray:
    """Decodes an image of any kind that Pillow reads.

    The EXIF orientation is applied. Grey, palette, CMYK and 16-bit images become 8-bit RGB, in the range of the values
    that they hold (`jaxseg.data.depth`); an ICC profile's colours become sRGB; transparent parts become white, as on
    paper. Of several frames or pages the first is taken.

    Args:
      source: the file's content, or its path.
      name: what to call the image in an error message; default: its path.

    Returns:
      uint8 [H, W, 3], sRGB in [0, 255].

    Raises:
      UserError: not an image, truncated, empty, too large or of a kind that has no RGB form, transparent all over, or
        a TIFF file whose first page is a preview.
    """
    with _opened(source, name) as image:
        check_pixels(image)
        if image.format == "TIFF":
            pictures_in(image)
        if has_deep_colour(image):
            with _opened(source, name) as again:
                return np.asarray(_to_rgb(deep_colour(image, again)))
        ImageOps.exif_transpose(image, in_place=True)  # saves a copy of every image
        return np.asarray(_to_rgb(image))


def decode_pillow(image: Image.Image, name: str = "image") -> np.ndarray:
    """Converts an image that Pillow has opened or made, as `decode_image` converts a file.

    Args:
      image: of any mode; a file that Pillow opened is decoded here, and stays open.
      name: what to call the image in an error message.

    Returns:
      uint8 [H, W, 3], RGB in [0, 255].

    Raises:
      UserError: a truncated file, or an image that has no RGB form.
    """
    try:
        check_pixels(image)
        reason = misread(image)
        lies_on_its_side = image.format == "TIFF" and orientation_of(image) in SIDEWAYS
        if not reason and lies_on_its_side and not has_deep_colour(image):  # see `_opened`
            with _second(image) as again:
                return np.asarray(_to_rgb(again))
        if not reason and has_deep_colour(image):  # as it is until Pillow decodes it, and loses the low bytes
            # Not the image itself: it would be decoded, and another call could not tell its depth any more.
            with _second(image) as first, _second(image) as again:
                return np.asarray(_to_rgb(deep_colour(first, again)))
        if not reason and _has_lost_bytes(image):
            reason = "16 bits per colour, of which Pillow has kept too few; give its path instead"
        if not reason:
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except Exception as error:  # Pillow reports damage with a dozen kinds, struct.error and IndexError among them
        raise UserError(f"{name}: cannot be decoded ({' '.join(str(error).split())[:200]})") from error
    raise UserError(f"{name}: cannot be decoded ({reason})")


@contextlib.contextmanager
def _second(image: Image.Image) -> Iterator[Image.Image]:
    """Opens the file of an image that Pillow has opened and not decoded yet a second time."""
    place = image.fp.tell()
    image.fp.seek(0)
    content = image.fp.read()
    image.fp.seek(place)
    with Image.open(io.BytesIO(content), formats=_FORMATS) as again:
        if image.tell():
            again.seek(image.tell())
        yield again


def _has_lost_bytes(image: Image.Image) -> bool:
    """Tells whether an image that is decoded comes from a file of 16 bits per colour, and is black by that."""
    name = getattr(image, "filename", "")
    if not name or image.format not in ("PNG", "TIFF") or image.mode not in DEEP_MODES:
        return False
    if np.asarray(image.convert("RGB")).max() >= DARKEST:
        return False
    with contextlib.suppress(Exception), Image.open(name, formats=_FORMATS) as again:
        return has_deep_colour(again)
    return False


def decode_mask(
    source: bytes | Path, name: str = "", *, rule: MaskRule = BRIGHT, orientation: int | None = None
) -> np.ndarray:
    """Decodes a lesion mask of any kind that Pillow reads.

    Two levels are lesion (bright) and skin (dark), in whatever range: 0 and 1, 0 and 255, 0 and 65535, a colour on
    black; edges may be soft and values noisy, and are cut at half. Where the opaque part of a transparent mask has one
    colour, that part is the lesion.

    Args:
      source: the file's content, or its path.
      name: what to call the mask in an error message; default: its path.
      rule: what the user decided about the set's masks.
      orientation: EXIF orientation, 1 to 8, by which to turn the mask instead of its own.

    Returns:
      uint8 [H, W, 1], 1 for lesion and 0 for skin; all 0 if the mask is all black.

    Raises:
      UserError: as for `decode_image`, or the levels or colours do not tell lesion from skin beyond doubt, or the file
        holds several masks.
    """
    with _opened(source, name) as image:
        check_pixels(image)
        if (count := pictures_in(image)) > 1:
            raise UserError(
                f"{_called(source, name)}: holds {count} pictures (frames or pages), and which is the mask is not "
                "clear; save that one alone"
            )
        if has_deep_colour(image):
            _refuse_lost_levels(source, name)
        lossy = image.format in ("JPEG", "JPEG2000", "WEBP")
        if orientation is None:
            image = ImageOps.exif_transpose(image)
        else:
            own = orientation_of(image) if image.format == "TIFF" else 1
            image = turned(turned_back(image, own), orientation)  # Pillow has turned a TIFF file by its own
        try:
            values, labels = _mask_values(image, rule)
            return rule.of(values, labels, lossy=lossy).astype(np.uint8)[..., None]
        except UnclearMaskError as error:
            raise UserError(f"{_called(source, name)}: {error}") from None


def _refuse_lost_levels(source: bytes | Path, name: str) -> None:
    """Refuses a mask of 16 bits per colour whose levels lie in the lower 8, which Pillow drops.

    Raises:
      UserError: it is such a mask.
    """
    with _opened(source, name) as high, _opened(source, name) as first, _opened(source, name) as second:
        is_lost = (
            not np.asarray(high.convert("RGB")).any() and np.asarray(deep_colour(first, second).convert("RGB")).any()
        )
    if is_lost:
        raise UserError(
            f"{_called(source, name)}: has 16 bits for each colour, and all its values are low; save it as grey, or "
            "with 8 bits"
        )


def lesion_colour(source: bytes | Path, name: str = "") -> tuple[int, int, int] | None:
    """Returns the most frequent colour of what `decode_mask` takes for lesion, red, green and blue in [0, 255].

    Grey levels are told as if white were the highest of the file's range; None for a mask without lesion.

    Args:
      source: the file's content, or its path.
      name: what to call the mask in an error message; default: its path.

    Raises:
      UserError: as for `decode_mask`.
    """
    with _opened(source, name) as image:
        try:
            values, labels = _mask_values(image, BRIGHT)
            lesion = BRIGHT.of(values, labels)
        except UnclearMaskError as error:
            raise UserError(f"{_called(source, name)}: {error}") from None
        if image.has_transparency_data:  # the colour below the opacity
            values = np.asarray(image.convert("RGB"))
        return most_frequent(values, lesion)


_ENDINGS = {"JPEG": ".jpg", "JPEG2000": ".jp2", "HEIF": ".heic", "MPO": ".jpg"}
"""Endings of files whose format is called otherwise."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file's header says of its picture.

    Attributes:
      stored: (height, width) of the pixels as they are stored.
      orientation: EXIF orientation, 1 to 8; 1 where there is none.
      pictures: number of frames or pages of that size.
      ending: how files of its format are named, as ".jpg".
      is_deep: whether it has more than 8 bits, and is read by the range of its values (`jaxseg.data.depth`).
    """

    stored: tuple[int, int]
    orientation: int
    pictures: int = 1
    ending: str = ""
    is_deep: bool = False

    def turned_by(self, orientation: int) -> tuple[int, int]:
        """Returns (height, width) after turning by an EXIF orientation."""
        return self.stored[::-1] if orientation in SIDEWAYS else self.stored

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as `decode_image` would give them."""
        return self.turned_by(self.orientation)


def header_of(source: bytes | Path, name: str = "") -> Header:
    """Reads size, orientation and format of an image from the file's header alone.

    Args:
      source: the file's content, or its path.
      name: what to call the image in an error message; default: its path.

    Raises:
      UserError: not an image, empty or too large; a truncated file goes unnoticed.
    """
    with _opened(source, name) as image:
        stored = (image.height, image.width)
        if image.format == "TIFF":  # Pillow tells the size after turning
            stored = (image.tag_v2[_TIFF_HEIGHT], image.tag_v2[_TIFF_WIDTH])
        orientation = orientation_of(image)
        ending = _ENDINGS.get(image.format, f".{image.format.lower()}")
        return Header(stored, orientation, pictures_in(image), ending, is_deep(image))


def size_of(source: bytes | Path, name: str = "") -> tuple[int, int]:
    """Returns (height, width) as `decode_image` would give them, from the file's header alone.

    Args:
      source: the file's content, or its path.
      name: what to call the image in an error message; default: its path.

    Raises:
      UserError: not an image, empty or too large; a truncated file goes unnoticed.
    """
    return header_of(source, name).size


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
        # A stream and not the path: by path, Pillow 13 maps an uncompressed TIFF file that lies on its side into memory
        # with width and height swapped.
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            if not stream.seek(0, io.SEEK_END):
                raise UserError(f"{called}: the file is empty; fetch it again or leave it out")
            image = Image.open(stream, formats=_FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if reason := misread(image):
                raise UserError(f"{called}: {reason}")
            yield image
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{called}: more than {MAX_PIXELS:,} pixels; shrink the image") from None
    except UnidentifiedImageError:
        raise UserError(
            f"{called}: not an image that can be read (by its content, not its name); save it as PNG or JPEG"
        ) from None
    except FileNotFoundError:
        raise UserError(f"{called}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{called}: is a folder; give an image in it") from None
    except PermissionError as error:
        raise UserError(f"{called}: cannot be read ({error.strerror}); make it readable") from None
    except Exception as error:  # Pillow reports damage with a dozen kinds, struct.error and IndexError among them
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{called}: cannot be decoded ({reason}); fetch it again, or save it as PNG or JPEG") from None


def _called(source: bytes | Path, name: str) -> str:
    return name or ("image" if isinstance(source, bytes) else str(source))


def _to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if has_deep_grey(image):
        # Pillow's own conversion to 8 bits clips at 255 instead of scaling.
        image = Image.fromarray(to_uint8(_pixels(image)))
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
    elif image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    image = to_srgb(image, profile)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[1] <= _LEAST_OPAQUE:
            raise ValueError("all of it is transparent, with a picture below or none; save it without transparency")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _pixels(image: Image.Image) -> np.ndarray:
    """Returns an image's values in its own range, [H, W] or [H, W, C].

    Raises:
      ValueError: some are not finite.
    """
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("values that are not finite")
    return values


def _mask_values(image: Image.Image, rule: MaskRule) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns a mask's values in the file's own range, [H, W] or uint8 RGB [H, W, 3], and the indices of a palette."""
    labels = np.asarray(image) if image.mode == "P" else None
    if image.has_transparency_data:
        pixels = np.asarray(image.convert("RGBA"))
        if rule.lesion:
            return on_background(pixels, rule.lesion), labels
        values, is_opacity = opaque_part(pixels)
        return values, None if is_opacity else labels
    if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "LA"):
        image = image.convert("RGB")
    return _pixels(image), labels
