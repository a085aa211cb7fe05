"""Decoding: every kind of file comes out as RGB or as {0, 1}, and every damaged one as one clear line."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.data.images import (
    MAX_PIXELS,
    decode_image,
    decode_mask,
    decode_pillow,
    encode_png,
    resize_image,
    resize_mask,
    size_of,
)
from jaxseg.errors import UserError

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb(height: int = 6, width: int = 10) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def huge_png() -> bytes:
    """A PNG of a hundred bytes whose header promises more pixels than are allowed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff"])
def test_lossless_images_come_out_as_they_went_in(kind, tmp_path):
    """If broken, channels are swapped or pixels altered, or a path is read otherwise than bytes."""
    path = tmp_path / f"a.{kind}"
    path.write_bytes(encoded(Image.fromarray(rgb()), kind))
    for source in (path, path.read_bytes()):
        image = decode_image(source)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, rgb())


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_every_colour_mode_becomes_rgb(mode):
    """If broken, a user's grey, palette, alpha or print image stops a run or has the wrong number of channels."""
    kind = "tiff" if mode == "CMYK" else "png"
    grey = np.full((4, 5), 255, np.uint8)
    image = decode_image(encoded(Image.fromarray(grey).convert("RGB").convert(mode), kind))
    np.testing.assert_array_equal(image, np.full((4, 5, 3), 255, np.uint8))


def test_sixteen_bits_are_scaled_and_not_clipped():
    """If broken, 16-bit images come out white, which is what Pillow's own conversion does."""
    grey = np.array([[0, 257 * 100, 65535]], np.uint16)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(grey)))[0, :, 0], [0, 100, 255])


def test_transparent_parts_become_white():
    """If broken, what lies invisible below transparency shows up, or becomes black."""
    pixels = np.zeros((1, 2, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(pixels)))[0], [[10, 20, 30], [255, 255, 255]])


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured_and_known_from_the_header(kind, orientation):
    """If broken, photographs of a turned camera lie on their side, or seem to differ in size from their mask."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 255  # white at the top left, as stored
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(Image.fromarray(pixels), kind, exif=exif)
    image = decode_image(data)
    assert size_of(data) == image.shape[:2] == ((24, 16) if orientation > 4 else (16, 24))
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert image[corner[orientation]].min() > 200


@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
@pytest.mark.parametrize("mode", ["L", "RGBA", "RGB", "I;16"])
def test_a_tiff_file_reads_alike_by_path_and_by_content(mode, orientation, tmp_path):
    """If broken, an uncompressed TIFF file of a turned camera comes out as stripes, in silence."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 4), np.uint8)
    pixels = noise[..., 0] * np.uint16(257) if mode == "I;16" else np.asarray(Image.fromarray(noise).convert(mode))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).save(path, exif=exif)
    wanted = decode_image(path.read_bytes())
    np.testing.assert_array_equal(decode_image(path), wanted)
    with Image.open(path) as image:
        np.testing.assert_array_equal(decode_pillow(image), wanted)
    assert size_of(path) == wanted.shape[:2]


LESION = np.zeros((4, 6), bool)
LESION[1:3, 2:5] = True


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(Image.fromarray(LESION), id="1 bit"),
        pytest.param(Image.fromarray(LESION * np.uint8(255)), id="0/255"),
        pytest.param(Image.fromarray(LESION * np.uint8(1)), id="0/1"),
        pytest.param(Image.fromarray(LESION * np.uint8(200) + np.uint8(20)), id="not quite black and white"),
        pytest.param(Image.fromarray(LESION * np.uint16(65535)), id="16 bit"),
        pytest.param(Image.fromarray(LESION * np.uint16(1)), id="16 bit 0/1"),
        pytest.param(Image.fromarray(LESION[..., None] * np.array([255, 255, 255], np.uint8)), id="RGB"),
        pytest.param(Image.fromarray(LESION[..., None] * np.array([255, 0, 0], np.uint8)), id="red"),
        pytest.param(Image.fromarray(LESION[..., None] * np.array([9, 9, 9, 255], np.uint8) * 28), id="alpha"),
        pytest.param(Image.fromarray(LESION * np.uint8(255)).convert("P"), id="palette of greys"),
    ],
)
def test_masks_of_every_kind_become_zero_and_one(image):
    """If broken, masks of one of the customary kinds are read as empty or full, and training learns nonsense."""
    mask = decode_mask(encoded(image))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, LESION[..., None].astype(np.uint8))


@pytest.mark.parametrize("colours", [[0, 0, 0, 128, 0, 0], [255, 255, 255, 0, 0, 0]])
def test_a_palette_mask_is_read_by_its_colours_not_its_indices(colours):
    """If broken, masks with a dark red lesion are empty, or those with white as index 0 inverted."""
    image = Image.fromarray(LESION.astype(np.uint8))
    image.putpalette(colours + [0] * (768 - len(colours)))
    expected = LESION if colours[0] == 0 else ~LESION
    np.testing.assert_array_equal(decode_mask(encoded(image))[..., 0], expected.astype(np.uint8))


def test_a_black_mask_is_an_image_without_lesion():
    """If broken, images without a lesion cannot be used."""
    assert decode_mask(encoded(Image.new("L", (3, 2)))).sum() == 0


def test_a_mask_of_other_labels_is_refused():
    """If broken, a mask of labels 0 and 2 silently becomes an image without lesion."""
    with pytest.raises(UserError, match=r"m\.png: values from 0 to 2"):
        decode_mask(encoded(Image.fromarray(LESION * np.uint8(2))), "m.png")


def test_masks_go_to_disk_as_0_and_255_and_come_back():
    """If broken, written masks look black in an image viewer, or change by writing and reading."""
    mask = LESION[..., None].astype(np.uint8)
    data = encode_png(mask)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), mask[..., 0] * 255)
    np.testing.assert_array_equal(decode_mask(data), mask)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"this is no picture", "not an image", id="text"),
        pytest.param(encoded(Image.fromarray(rgb(64, 64)), "jpeg")[:400], "cannot be decoded", id="truncated jpeg"),
        pytest.param(encoded(Image.fromarray(rgb(64, 64)))[:400], "cannot be decoded", id="truncated png"),
        pytest.param(huge_png(), f"{MAX_PIXELS:,} pixels", id="decompression bomb"),
    ],
)
@pytest.mark.parametrize("decode", [decode_image, decode_mask])
def test_unreadable_files_are_named_in_one_line(decode, data, cause, tmp_path):
    """If broken, one bad file among thousands ends a run without saying which it is."""
    path = tmp_path / "bad.jpg"
    path.write_bytes(data)
    for source, name, called in [(path, "", str(path)), (data, "IMD003", "IMD003")]:
        with pytest.raises(UserError) as caught:
            decode(source, name)
        assert str(caught.value).startswith(f"{called}: ")
        assert cause in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
def test_values_that_are_not_finite_are_refused(decode):
    """If broken, a float image with NaN becomes black skin, or a mask with one is taken for empty."""
    values = np.full((4, 4), 0.5, np.float32)
    values[1, 1] = np.nan
    with pytest.raises(UserError, match=r"cannot be decoded .values that are not finite"):
        decode(encoded(Image.fromarray(values), "tiff"))


@pytest.mark.parametrize("kind", [KeyError, IndexError, struct.error, RecursionError, MemoryError])
def test_whatever_a_decoder_raises_is_one_line(kind, monkeypatch):
    """If broken, a kind of damage that Pillow reports in its own way ends a run with a traceback."""

    def fail(*_: object, **__: object):
        raise kind("line one\nline two")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UserError, match=r"a: cannot be decoded \(\W*line one.*line two") as caught:
        decode_image(b"x", "a")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named():
    """If broken, a file that vanished during a run ends it with a traceback."""
    with pytest.raises(UserError, match=r"nowhere\.png: no such file"):
        decode_image(Path("nowhere.png"))


def test_shrinking_averages_instead_of_picking_pixels():
    """If broken, fine hair and texture alias when large photographs are shrunk."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_image(stripes, (8, 16))
    assert small.shape == (8, 16, 3)
    assert small.dtype == np.uint8
    # Inside; at the border the filter reaches over the edge.
    assert np.abs(small[:, 2:-2].astype(int) - 128).max() < 16


def test_resized_masks_stay_zero_and_one_in_place():
    """If broken, masks turn grey or shift against their images."""
    mask = np.zeros((40, 60, 1), np.uint8)
    mask[:20, 30:] = 1
    small = resize_mask(mask, (10, 20))
    expected = np.zeros((10, 20, 1), np.uint8)
    expected[:5, 10:] = 1
    np.testing.assert_array_equal(small, expected)


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
def test_a_png_file_of_other_bytes_is_refused(decode):
    """If broken, the lower half of a photograph whose download broke off is black, and a mask is another one."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8) // 128 * 255
    sound = encoded(Image.fromarray(noise))
    decode(sound)
    end = sound.index(b"IEND") - 4
    for behind in (sound + b"\0\n", sound[:end] + bytes(40), sound[:end] + b"\0\0\0\3tEXta\0b****" + sound[end:]):
        np.testing.assert_array_equal(decode(behind), decode(sound))
    for damaged in (sound[:200] + bytes(len(sound) - 200), sound[:300] + bytes([sound[300] ^ 1]) + sound[301:]):
        with pytest.raises(UserError, match=r"cannot be decoded \(its IDAT chunk does not fit its checksum"):
            decode(damaged)


def test_pillows_own_image_of_a_damaged_file_is_refused():
    """If broken, the Segmenter takes from Pillow what it refuses from a path."""
    sound = encoded(Image.fromarray(rgb(64, 64)))
    with (
        Image.open(io.BytesIO(sound[:200] + bytes(len(sound) - 200))) as image,
        pytest.raises(UserError, match="does not fit its checksum"),
    ):
        decode_pillow(image)
