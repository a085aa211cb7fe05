"""Files that hold more than one picture, or a kind of pixels that Pillow opens but reads otherwise than it is meant."""

import os
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from PIL import Image

from jaxseg.data.depth import has_deep_grey

_MANY = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")
"""Formats that may hold several pictures of equal rank. The first of an MPO or HEIC file is the photograph itself."""

_BITS, _MEANING, _PLANES = 258, 262, 284
"""Tags of TIFF: bits per value, what the values mean, and whether each channel lies by itself."""

_WHITE_IS_ZERO, _SEPARATE = 0, 2

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")
"""Chunks of PNG that may hold an orientation."""

_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
"""Chunks of PNG that decide the pixels."""


def misread(image: Image.Image) -> str:
    """Returns why Pillow would read other values than the file holds, as a phrase; empty where it reads them rightly.

    Args:
      image: as `Image.open` returns it.
    """
    tags = getattr(image, "tag_v2", {})
    if tags.get(_MEANING) == _WHITE_IS_ZERO and has_deep_grey(image):
        return "grey of more than 8 bits in which 0 is white; save it with 0 for black"
    if tags.get(_PLANES) == _SEPARATE and max(tags.get(_BITS, (8,))) > 8:
        return "more than 8 bits for each colour, and each colour by itself (planar); save it with interleaved colours"
    return ""


def check_pixels(image: Image.Image) -> None:
    """Checks that the pixels of a PNG file are those that were written: Pillow decodes damaged ones as other pixels.

    A file that ends within its pixels is left to Pillow, which refuses it; what lies behind them does not matter.

    Args:
      image: as `Image.open` returns it, not decoded yet; of other formats nothing is checked.

    Raises:
      ValueError: a chunk of the file does not fit its checksum.
    """
    pixels = False
    for kind, length, file in _chunks(image):
        if pixels and kind != b"IDAT":
            return
        pixels |= kind == b"IDAT"
        if kind not in _PNG_PIXELS:
            file.seek(length + 4, os.SEEK_CUR)
            continue
        content = file.read(length + 4)
        if len(content) == length + 4 and zlib.crc32(kind + content[:-4]) != int.from_bytes(content[-4:]):
            raise ValueError(f"its {kind.decode()} chunk does not fit its checksum: the file is damaged")


def has_late_metadata(image: Image.Image) -> bool:
    """Tells whether a PNG file holds metadata behind its pixels, which Pillow reads only when it decodes them.

    Args:
      image: as `Image.open` returns it.
    """
    pixels = False
    for kind, length, file in _chunks(image):
        if pixels and kind in _PNG_METADATA:
            return True
        pixels |= kind == b"IDAT"
        file.seek(length + 4, os.SEEK_CUR)  # its content and checksum
    return False


def _chunks(image: Image.Image) -> Iterator[tuple[bytes, int, IO[bytes]]]:
    """Yields kind and length of each chunk of a PNG file, and the file, to be left behind the chunk's checksum."""
    file = getattr(image, "fp", None)
    if file is None or file.closed or image.format != "PNG":
        return
    place = file.tell()
    file.seek(len(_PNG_SIGNATURE))
    try:
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            yield kind, length, file
    finally:
        file.seek(place)


def pictures_in(image: Image.Image) -> int:
    """Returns how many pictures of the first one's size a file holds: frames of an animation, pages of a TIFF file.

    Smaller pages are previews, and do not count.

    Args:
      image: as `Image.open` returns it.

    Raises:
      ValueError: the first page of a TIFF file is smaller than another.
    """
    count = getattr(image, "n_frames", 1) if image.format in _MANY else 1
    if count == 1 or image.format != "TIFF":
        return count
    first = image.size
    sizes = []
    for page in range(count):
        image.seek(page)
        sizes.append(image.size)
    image.seek(0)
    largest = max(sizes, key=lambda size: size[0] * size[1])
    if largest[0] * largest[1] > first[0] * first[1]:
        raise ValueError(
            f"{count} pages, of which the first has {first[0]}x{first[1]} pixels and another {largest[0]}x{largest[1]}"
        )
    return sizes.count(first)
