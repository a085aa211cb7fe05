"""Images of more than 8 bits: read in their own range or refused, never black."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from tifffile import imwrite

from jaxseg.data.depth import to_uint8
from jaxseg.data.images import decode_image, decode_mask, decode_pillow, header_of
from jaxseg.errors import UserError
from tests.helpers.skin import pair

IMAGE = pair(0)[0]


def tiff(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    imwrite(buffer, values, photometric="rgb" if values.ndim == 3 else "minisblack", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_values_of_any_depth_in_16_bits_come_out_alike(bits, colour, byteorder):
    """If broken, photographs of scanners and microscopes are black, and segmented as "no lesion"."""
    image = IMAGE if colour else IMAGE[..., 0]
    values = np.rint(image / 255 * (2**bits - 1)).astype(np.uint16)
    found = decode_image(tiff(values, byteorder=byteorder))
    expected = image if colour else np.repeat(image[..., None], 3, axis=-1)
    assert np.abs(found.astype(int) - expected).max() <= 1


def deep_png(values: np.ndarray) -> bytes:
    """Returns a PNG file of 16 bits, uint16 [H, W, 3] or [H, W, 4]: Pillow writes none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


TWELVE = np.rint(IMAGE / 255 * 4095).astype(np.uint16)


@pytest.mark.parametrize("opacity", [None, 4095, 65535])
def test_deep_png_is_read_in_its_range(opacity):
    """If broken, a 12-bit PNG in colour, of which Pillow keeps the high byte alone, is black, or white paper."""
    values = TWELVE if opacity is None else np.dstack([TWELVE, np.full((48, 64), opacity, np.uint16)])
    assert np.abs(decode_image(deep_png(values)).astype(int) - IMAGE).max() <= 1


@pytest.mark.parametrize("data", [deep_png(TWELVE), tiff(TWELVE), tiff(TWELVE[..., 0], byteorder=">")])
def test_what_pillow_has_opened_is_read_as_its_file(data):
    """If broken, the Segmenter takes a 12-bit file for black where a notebook opens it with Pillow."""
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(decode_pillow(image), decode_image(data))
        np.testing.assert_array_equal(decode_pillow(image), decode_image(data))
        np.asarray(image)  # still open


def test_what_pillow_has_decoded_too_dark_is_refused(tmp_path):
    """If broken, a 12-bit file that a notebook has looked at before is black to the Segmenter."""
    (tmp_path / "a.png").write_bytes(deep_png(TWELVE))
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        with pytest.raises(UserError, match="16 bits per colour, of which Pillow has kept too few; give its path"):
            decode_pillow(image)
    Image.fromarray(IMAGE // 8).save(tmp_path / "dark.png")
    with Image.open(tmp_path / "dark.png") as image:
        image.load()
        np.testing.assert_array_equal(decode_pillow(image), IMAGE // 8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1", "I", "F"])
def test_what_is_made_in_pillow_has_no_file(mode):
    """If broken, an image that a notebook has made itself ends in a traceback about files."""
    picture = Image.fromarray(IMAGE).convert("L" if mode in ("1", "I", "F") else "RGB").convert(mode)
    assert decode_pillow(picture).shape == IMAGE.shape


@pytest.mark.parametrize("highest", [0.5, 1.0, 1.02, 1.2])
def test_float_a_little_above_one_is_clipped(highest):
    """If broken, an image that interpolation lifted a little above 1 is read as values of 255, and is black."""
    values = np.linspace(0, highest, 256, dtype=np.float32).reshape(16, 16)
    expected = np.clip(np.rint(values * 255), 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "tiff")
    np.testing.assert_array_equal(decode_image(buffer.getvalue())[..., 0], expected)


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-2, 2, 64, dtype=np.float32).reshape(8, 8),
        np.linspace(0, 5, 64, dtype=np.float32).reshape(8, 8),
        np.arange(64, dtype=np.int32).reshape(8, 8) * 10_000,
    ],
)
def test_ranges_that_nobody_knows_are_refused(values):
    """If broken, a standardised or otherwise scaled image is segmented as something else."""
    with pytest.raises(ValueError, match="values"):
        to_uint8(values)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "tiff")
    with pytest.raises(UserError, match=r"a\.tif: cannot be decoded \(values"):
        decode_image(buffer.getvalue(), "a.tif")


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (
            np.moveaxis(IMAGE, -1, 0).astype(np.uint16) * 257,
            {"photometric": "rgb", "planarconfig": "separate"},
            "planar",
        ),
        (IMAGE[..., 0] * np.uint16(257), {"photometric": "miniswhite"}, "0 is white"),
    ],
)
def test_tiff_files_that_pillow_misreads_are_refused(values, options, said):
    """If broken, a scan is noise or a negative of itself, and is segmented all the same."""
    buffer = io.BytesIO()
    imwrite(buffer, values, **options)
    with pytest.raises(UserError, match=rf"a\.tif: .*{said}.*; save it"):
        decode_image(buffer.getvalue(), "a.tif")


@pytest.mark.parametrize("bits", [8, 1])
def test_small_tiff_files_in_which_0_is_white_are_read_rightly(bits):
    """If broken, fax-like scans and their masks are negatives."""
    buffer = io.BytesIO()
    values = (IMAGE[..., 0] > 127) if bits == 1 else 255 - IMAGE[..., 0]
    imwrite(buffer, values, photometric="miniswhite")
    expected = np.where(values, 0, 255) if bits == 1 else IMAGE[..., 0]
    np.testing.assert_array_equal(decode_image(buffer.getvalue())[..., 0], expected)


@pytest.mark.parametrize("opacity", [0, 1])
def test_an_image_that_is_transparent_all_over_is_refused(opacity):
    """If broken, a photograph whose transparency is damaged, or 0 and 1 of 255, is a white page without lesion."""
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([IMAGE, np.full(IMAGE.shape[:2], opacity, np.uint8)])).save(buffer, "png")
    with pytest.raises(UserError, match="all of it is transparent"):
        decode_image(buffer.getvalue())


def test_of_several_pages_the_preview_is_not_taken():
    """If broken, a scan whose first page is its thumbnail is segmented at the thumbnail's size."""
    buffer = io.BytesIO()
    small = Image.fromarray(IMAGE).resize((16, 12))
    small.save(buffer, "tiff", save_all=True, append_images=[Image.fromarray(IMAGE)])
    with pytest.raises(UserError, match="2 pages, of which the first has 16x12 pixels and another 64x48"):
        decode_image(buffer.getvalue())
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "tiff", save_all=True, append_images=[small])
    np.testing.assert_array_equal(decode_image(buffer.getvalue()), IMAGE)
    assert header_of(buffer.getvalue()).pictures == 1


def test_deep_colours_of_low_values_are_refused():
    """If broken, 255 of 65535 in three channels is a mask without lesion, as the lower bytes are dropped."""
    y, x = np.mgrid[:96, :128]
    disc = (y - 48) ** 2 + (x - 60) ** 2 < 28**2
    levels = (np.repeat((disc * value).astype(np.uint16)[..., None], 3, axis=-1) for value in (255, 65535, 0))
    low, high, empty = map(deep_png, levels)
    with pytest.raises(UserError, match="has 16 bits for each colour, and all its values are low"):
        decode_mask(low)
    np.testing.assert_array_equal(decode_mask(high)[..., 0], disc)
    assert not decode_mask(empty).any()
