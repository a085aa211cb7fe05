"""What predict and the Segmenter read: every kind of image file, as it is displayed."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg import predict
from jaxseg.data import open_split
from jaxseg.data.images import decode_image
from jaxseg.errors import UserError
from jaxseg.inference.segmenter import Segmenter
from tests.helpers.bad_files import encoded, turned
from tests.helpers.pictures import pixels
from tests.helpers.skin import save


def deep_rgb_tiff(image: np.ndarray) -> bytes:
    """Returns a TIFF of 16 bits a channel, which Pillow reads but does not write, of an image uint8 [H, W, 3]."""
    (height, width, _), strip = image.shape, (image.astype("<u2") * 257).tobytes()
    after = 8 + 2 + 9 * 12 + 4  # header, one directory of nine entries
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, after), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, after + 6), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(strip))]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, 9) + directory + struct.pack("<IHHH", 0, 16, 16, 16) + strip


def test_every_kind_of_file_is_segmented_as_it_is_displayed(tiny, tiny_run, tmp_path):
    """If broken, a 16-bit, grey, palette, CMYK or EXIF-turned photograph is segmented in other colours, or on its side.

    The last has its mask at the size and the way up that viewers show.
    """
    image = open_split(tiny.data, "test").load(0).image
    picture = Image.fromarray(image)
    grey = np.asarray(picture.convert("L"))
    palette, cmyk = picture.convert("P", palette=Image.Palette.ADAPTIVE), picture.convert("CMYK")
    jpeg = encoded(picture, "jpeg")
    lossy = np.asarray(Image.open(io.BytesIO(jpeg)))
    files = {
        "windows.bmp": (encoded(picture, "bmp"), image),
        "web.webp": (encoded(picture, "webp", lossless=True), image),
        "DEEP.TIF": (deep_rgb_tiff(image), image),
        "grey.png": (encoded(Image.fromarray(grey), "png"), grey),
        "grey-deep.tif": (encoded(Image.fromarray(grey.astype(np.uint16) * 257), "tiff"), grey),
        "grey-deeper.png": (encoded(Image.fromarray(grey.astype(np.uint16) * 257), "png"), grey),
        "palette.png": (encoded(palette, "png"), np.asarray(palette.convert("RGB"))),
        "alpha.png": (encoded(picture.convert("RGBA"), "png"), image),
        "cmyk.tiff": (encoded(cmyk, "tiff"), np.asarray(cmyk.convert("RGB"))),
        "plain.jpeg": (jpeg, lossy),
        "quarter.jpg": (encoded(picture, "jpeg", exif=turned(6)), np.rot90(lossy, -1)),
        "mirrored.jpg": (encoded(picture, "jpeg", exif=turned(5)), lossy.transpose(1, 0, 2)),
    }
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    assert predict.main(["--workdir", str(tiny_run), "--input", str(folder), "--output", str(out)]) == 0
    segmenter = jaxseg.Segmenter.load(tiny_run)
    for name, (_, displayed) in files.items():
        rgb = displayed if displayed.ndim == 3 else np.repeat(displayed[..., None], 3, axis=-1)
        expected = segmenter(np.ascontiguousarray(rgb)) > 0.5
        assert expected.any(), name
        assert not expected.all(), name
        mask = pixels(out / f"{name.split('.')[0]}_mask.png")
        assert mask.shape == displayed.shape[:2], name
        assert np.mean((mask > 0) != expected) < 1e-3, name  # Pillow's rounding of colours may move a pixel


def test_a_cmyk_jpeg_is_read(tiny, tiny_run, tmp_path):
    """If broken, photographs that a print shop saved come out inverted, or end in an error."""
    image = open_split(tiny.data, "test").load(0).image
    (tmp_path / "print.jpg").write_bytes(encoded(Image.fromarray(image).convert("CMYK"), "jpeg", quality=95))
    flags = ["--workdir", str(tiny_run), "--input", str(tmp_path / "print.jpg"), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 0
    expected = jaxseg.Segmenter.load(tiny_run)(image) > 0.5
    assert np.mean((pixels(tmp_path / "out/print_mask.png") > 0) != expected) < 0.02  # lossy


def test_of_several_frames_the_first_is_segmented_and_told(tiny, tiny_run, tmp_path, capsys):
    """If broken, one page of a scan is segmented, and nobody is told which; or of 16 bits some, nobody knows how."""
    first, second = (Image.fromarray(open_split(tiny.data, "test").load(i).image) for i in range(2))
    (tmp_path / "in").mkdir()
    first.save(tmp_path / "in" / "a.png")
    first.save(tmp_path / "in" / "b.tif", save_all=True, append_images=[second])
    Image.fromarray(np.asarray(first.convert("L")).astype(np.uint16) * 16).save(tmp_path / "in" / "c.png")
    predict.main(["--workdir", str(tiny_run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert "1 images have more than 8 bits; each is brought to 8 by the smallest range" in told
    assert "holds its values: c.png" in told
    said = "1 images hold several pictures (frames or pages), of which the first is segmented: b.tif"
    assert said in told
    masks = [pixels(tmp_path / "out" / f"{name}_mask.png") for name in "ab"]
    np.testing.assert_array_equal(*masks)


def test_the_segmenter_reads_what_predict_reads(tiny, tiny_run, tmp_path):
    """If broken, a notebook that gives a path or a Pillow image sees other colours, or the image on its side."""
    segmenter = jaxseg.Segmenter.load(tiny_run)
    image = open_split(tiny.data, "test").load(0).image
    turned_file = tmp_path / "turned.jpg"
    turned_file.write_bytes(encoded(Image.fromarray(image[:, :20]), "jpeg", exif=turned(6)))
    picture = Image.fromarray(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]))
    np.testing.assert_array_equal(segmenter(picture), segmenter(image))
    expected = segmenter(decode_image(turned_file))
    assert expected.shape == (20, image.shape[0])
    with Image.open(turned_file) as opened:
        np.testing.assert_array_equal(segmenter(opened), expected)
    np.testing.assert_array_equal(segmenter(turned_file), expected)
    np.testing.assert_array_equal(segmenter(str(turned_file)), expected)
    with pytest.raises(UserError, match="no such file"):
        segmenter("gone.png")
    (tmp_path / "cut.png").write_bytes(encoded(Image.fromarray(image), "png")[:200])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(UserError, match="cannot be decoded"):
        segmenter(cut)
    with pytest.raises(ValueError, match=r"must be uint8 \[H, W, 3\]"):
        segmenter(image.astype(float))


def test_black_images_are_told(tiny_run, tmp_path, capsys):
    """If broken, masks of 0 and 1, or files that have lost their high bits, are segmented as "no lesion"."""
    for name, value in (("mask", 1), ("night", 31), ("day", 32)):
        save(tmp_path / "in" / f"{name}.png", np.full((20, 20, 3), value, np.uint8))
    flags = ["--workdir", str(tiny_run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 0
    said = capsys.readouterr().err
    assert "2 images are all but black, with no value above 31 of 255" in said
    assert "mask.png, night.png" in said


def test_a_glint_does_not_light_a_black_image(tiny_run, tmp_path, capsys):
    """If broken, an image of 12 bits in a file of 16 with one bright pixel is segmented from black, in silence."""
    values = np.random.default_rng(0).integers(0, 4096, (200, 200), np.uint16)
    values[20, 40] = 65535
    save(tmp_path / "in" / "deep.tif", values)
    flags = ["--workdir", str(tiny_run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 0
    assert "1 images are all but black" in capsys.readouterr().err


def test_masks_are_told_by_what_they_show(tiny, tiny_run, tmp_path, capsys):
    """If broken, who gives masks among the photographs gets masks of masks, with trust, and not a word."""
    lesion = np.zeros((40, 40), np.uint8)
    lesion[10:30, 10:30] = 255
    save(tmp_path / "in" / "hard.png", lesion)
    Image.fromarray(lesion).save(tmp_path / "in" / "lossy.jpg", quality=75)
    photograph = open_split(tiny.data, "test").load(0).image
    save(tmp_path / "in" / "photograph.png", photograph)
    save(tmp_path / "in" / "grey.png", photograph[..., 0])
    flags = ["--workdir", str(tiny_run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 0
    said = capsys.readouterr().err
    assert "2 images are black and white, as masks are, and are segmented as photographs all the same" in said
    assert "(hard.png, lossy.jpg)" in said


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_no_image_is_refused(tiny_run, size):
    """If broken, a slip ends in an error of `itertools` at the first image."""
    with pytest.raises(UserError, match=f"batch_size = {size}: must be at least 1"):
        Segmenter.load(tiny_run, batch_size=size)


def test_a_run_may_lie_in_the_home_folder(tiny_run, monkeypatch):
    """If broken, `~` works for images and not for runs."""
    monkeypatch.setenv("HOME", str(tiny_run.parent))
    assert Segmenter.load(f"~/{tiny_run.name}").step == Segmenter.load(tiny_run).step


@pytest.mark.parametrize("wrong", [[[[0, 0, 0]]], b"a PNG file", None, 3])
def test_what_is_no_image_is_told(tiny_run, wrong):
    """If broken, a list or the bytes of a file end in a traceback about attributes."""
    with pytest.raises(ValueError, match=f"image is {type(wrong).__name__}: must be a path, a Pillow image"):
        jaxseg.Segmenter.load(tiny_run)(wrong)
