"""Masks as users bring them: read as they were meant, or refused in one line; never something else in silence."""

import dataclasses
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from jaxseg.config import DataConfig
from jaxseg.data import open_split, training_splits
from jaxseg.data.images import decode_mask
from jaxseg.data.masks import MaskRule
from jaxseg.data.plausibility import check_masks
from jaxseg.errors import UserError
from tests.helpers.bad_files import turned
from tests.helpers.skin import folder, grey, pair, save, two_colours

TRUE = pair(0)[1]
SECOND = np.roll(TRUE, 30, axis=1) & ~TRUE
RIM = np.asarray(Image.fromarray(grey(TRUE)).filter(ImageFilter.MaxFilter(5))).astype(bool) & ~TRUE


def encoded(picture: np.ndarray | Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


def transparent(lesion: tuple[int, int, int], opacity: int = 255) -> np.ndarray:
    return two_colours(TRUE, (*lesion, opacity), (*lesion, 0))


def palette(indices: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8))
    table = np.zeros((256, 3), np.uint8)
    for index, colour in colours.items():
        table[index] = colour
    image.putpalette(table.tobytes())
    return image


def enlarged() -> Image.Image:
    small = Image.fromarray(grey(TRUE)).resize((32, 24), Image.Resampling.BOX)
    return small.resize((64, 48), Image.Resampling.BILINEAR)


def smooth_photograph() -> np.ndarray:
    """Returns skin with little noise, a lesion and dark corners, uint8 [192, 256, 3]."""
    y, x = np.mgrid[-1:1:192j, -1:1:256j]
    far = np.hypot(x, y)
    light = 1 - 0.3 * far - 0.75 * (far > 1.15) - 0.6 * np.exp(-((4 * (far - 0.1)) ** 2))
    noise = np.random.default_rng(0).normal(0, 0.7, (192, 256, 3))
    return np.clip(light[..., None] * np.array([235, 200, 180]) + noise, 0, 255).astype(np.uint8)


SMOOTH = smooth_photograph()

VOC = palette(np.where(RIM, 255, TRUE), {1: (128, 0, 0), 255: (224, 224, 192)})


@pytest.mark.parametrize(
    ("data", "least_dice"),
    [
        pytest.param(encoded(transparent((0, 0, 0))), 1, id="black on transparent"),
        pytest.param(encoded(transparent((255, 255, 255))), 1, id="white on transparent"),
        pytest.param(encoded(transparent((255, 0, 0), 128)), 1, id="half transparent red"),
        pytest.param(encoded(two_colours(TRUE, (0, 255), (0, 0))), 1, id="grey and opacity"),
        pytest.param(encoded(two_colours(TRUE, (255,) * 4, (0, 0, 0, 255))), 1, id="all opaque"),
        pytest.param(encoded(two_colours(TRUE, (128, 0, 0), (0, 0, 0))), 1, id="dark red on black"),
        pytest.param(encoded(grey(TRUE), "jpeg", quality=75), 0.99, id="JPEG"),
        pytest.param(encoded(two_colours(TRUE, (255, 0, 0), (0, 0, 0)), "jpeg", quality=50), 0.97, id="red JPEG"),
        pytest.param(encoded(grey(TRUE), "gif"), 1, id="GIF"),
        pytest.param(encoded(enlarged()), 0.97, id="soft edges"),
        pytest.param(encoded(np.where(TRUE, np.where(SECOND, 254, 255), 0).astype(np.uint8)), 1, id="uneven white"),
    ],
)
def test_a_mask_beyond_doubt_is_read_as_it_was_meant(data, least_dice):
    """If broken, a customary way of drawing masks trains on no lesion, on all lesion, or on frayed ones."""
    found = decode_mask(data)[..., 0].astype(bool)
    assert 2 * (found & TRUE).sum() / (found.sum() + TRUE.sum()) >= least_dice


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(
            encoded(two_colours(TRUE, (255, 0, 0), (255, 255, 255))), "#ffffff and #ff0000", id="red on white"
        ),
        pytest.param(
            encoded(two_colours(TRUE, (255, 255, 0), (0, 0, 128))), "#000080 and #ffff00", id="yellow on blue"
        ),
        pytest.param(encoded(two_colours(TRUE, (100, 0, 0), (255, 255, 255))), "not black", id="dark red on white"),
        pytest.param(encoded(np.where(SECOND, 128, grey(TRUE)).astype(np.uint8)), "0, 128, 255", id="third grey"),
        pytest.param(
            encoded(np.where(SECOND, 120, grey(TRUE)).astype(np.uint8), "jpeg"), "more than two", id="in JPEG"
        ),
        pytest.param(encoded(np.where(RIM, 255, TRUE).astype(np.uint8)), "0, 1, 255", id="labels with void"),
        pytest.param(encoded(VOC), "more than two colours", id="VOC palette with void"),
        pytest.param(encoded(-1 * TRUE.astype(np.int32), "tiff"), "lowest value is -1", id="-1 for lesion"),
        pytest.param(encoded(np.where(TRUE, 255, 200).astype(np.uint8)), "no black", id="no black"),
        pytest.param(encoded(pair(0)[0]), "photograph", id="the photograph itself"),
        pytest.param(encoded(SMOOTH, "jpeg", quality=90), "photograph", id="a smooth photograph"),
        pytest.param(encoded(SMOOTH.max(axis=-1)), "photograph", id="a smooth photograph in grey"),
        pytest.param(
            encoded(np.dstack([pair(0)[0], grey(TRUE)])), "opacity", id="the lesion cut out of its photograph"
        ),
        pytest.param(encoded(palette(TRUE, {})), "values 0, 1 have one", id="a palette that hides its labels"),
        pytest.param(encoded(Image.fromarray(pair(0)[0]).convert("L")), "photograph", id="the grey photograph"),
        pytest.param(encoded(two_colours(TRUE, (255, 255, 255, 0), (0, 0, 0, 0))), "transparent", id="all transparent"),
        pytest.param(encoded(grey(TRUE), transparency=255), "white transparent", id="transparent white"),
        pytest.param(encoded(Image.fromarray(grey(TRUE)), "gif", transparency=255), "white transparent", id="of GIF"),
        pytest.param(encoded(two_colours(TRUE, (1, 0, 0), (0, 0, 0))), "brightest colour is #010000", id="red label"),
        pytest.param(encoded(two_colours(TRUE, (0, 0, 30), (0, 0, 0))), "no lesion mask", id="dark blue"),
    ],
)
def test_a_doubtful_mask_is_refused_in_one_line(data, said):
    """If broken, a mask with a second class or a coloured background becomes something else without a word."""
    with pytest.raises(UserError, match=r"^m\.png: ") as caught:
        decode_mask(data, "m.png")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (encoded(two_colours(TRUE, (255, 0, 0), (255, 255, 255))), MaskRule("#ff0000")),
        (encoded(two_colours(TRUE, (255, 0, 0), (255, 255, 255)), "jpeg", quality=95), MaskRule("#ff0000")),
        (encoded(np.where(SECOND, 128, grey(TRUE)).astype(np.uint8)), MaskRule("255")),
        (encoded(np.where(SECOND, 255, grey(TRUE) // 2).astype(np.uint8)), MaskRule("127")),
        (encoded(np.where(SECOND, 0, TRUE * np.uint8(100))), MaskRule("90-110")),
        (encoded(VOC), MaskRule("1")),
        (encoded(TRUE * np.uint16(4095)), MaskRule("4095")),
        (encoded(grey(~TRUE)), MaskRule(invert=True)),
    ],
)
def test_the_user_decides_what_is_lesion(data, rule):
    """If broken, the way out that messages name leads to another mask than the user asked for."""
    found = decode_mask(data, rule=rule)[..., 0].astype(bool)
    assert 2 * (found & TRUE).sum() / (found.sum() + TRUE.sum()) > 0.97


CLEAR = np.dstack([two_colours(TRUE, (255, 0, 0), (0, 0, 0)), grey(TRUE)])
"""A red lesion on transparent ground."""


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (encoded(CLEAR), MaskRule("#ff0000")),
        (encoded(palette(TRUE, {1: (255, 0, 0)}), transparency=0), MaskRule("1")),
        (encoded(palette(TRUE, {1: (255, 0, 0)}), transparency=0), MaskRule("#ff0000")),
        (encoded(transparent((0, 0, 0))), MaskRule("255")),
        (encoded(transparent((0, 0, 0))), MaskRule("#000000")),
        (encoded(transparent((0, 0, 0))), MaskRule("0")),
        (encoded(transparent((0, 0, 0))), MaskRule("128-255")),
        (encoded(transparent((255, 255, 255))), MaskRule("255")),
        (encoded(grey(TRUE), transparency=255), MaskRule("255")),
        (encoded(grey(TRUE), transparency=255), MaskRule("#ffffff")),
        (encoded(grey(~TRUE), transparency=255), MaskRule("0")),
        (encoded(Image.fromarray(grey(TRUE)).convert("1")), MaskRule("255")),
        (encoded(Image.fromarray(grey(TRUE)).convert("1")), MaskRule("1")),
        (encoded(Image.fromarray(grey(TRUE)).convert("1")), MaskRule("#ffffff")),
        (encoded(TRUE * np.uint16(65535)), MaskRule("128-255")),
        (encoded(TRUE * np.uint16(65535)), MaskRule("#ffffff")),
    ],
)
def test_a_named_lesion_is_found_in_files_of_every_depth_and_transparency(data, rule):
    """If broken, single masks of a set that were saved by another tool become images without lesion, in silence."""
    np.testing.assert_array_equal(decode_mask(data, rule=rule)[..., 0], TRUE)


@pytest.mark.parametrize(("lesion", "said"), [("255", "name a colour instead"), ("#00ff00", "")])
def test_another_class_on_transparent_ground_is_no_lesion(lesion, said):
    """If broken, a mask that holds hairs alone is taken for one of a lesion, whatever the user named."""
    if said:
        with pytest.raises(UserError, match=said):
            decode_mask(encoded(CLEAR), rule=MaskRule(lesion))
    else:
        assert not decode_mask(encoded(CLEAR), rule=MaskRule(lesion)).any()


@pytest.mark.parametrize("text", ["red", "#ff00", "-1", "1-", "1,2", "#gg0000", "255-128"])
def test_a_mistyped_lesion_value_is_refused(text):
    """If broken, a mistyped setting is found in the middle of an epoch, or means something else."""
    with pytest.raises(UserError, match=r"data\.mask_lesion"):
        DataConfig(mask_lesion=text)


def test_inverted_masks_are_refused_and_can_be_inverted(tmp_path, heard):
    """If broken, a model learns to mark the skin, and reports a high Dice for it."""
    config = DataConfig(name=str(folder(tmp_path, draw=lambda mask: grey(~mask))))
    with pytest.raises(UserError, match=r"10 of 10 masks mark most .* \(img.* --data\.mask-invert true"):
        check_masks(training_splits(config), for_training=True)
    check_masks([open_split(config, "all")])
    [record] = heard.records
    assert "of 10 masks looked at, 10 have lesion in all four corners (img" in record.getMessage()
    assert "--data.mask-invert true" in record.getMessage()
    heard.clear()
    inverted = DataConfig(name=str(tmp_path), mask_invert=True)
    check_masks(training_splits(inverted), for_training=True)
    assert not heard.records
    np.testing.assert_array_equal(open_split(inverted, "all").load(0).mask[..., 0].astype(bool), TRUE)
    as_they_are = DataConfig(name=str(tmp_path), mask_lesion="255")
    check_masks(training_splits(as_they_are), for_training=True, decided=True)
    assert "lesion in all four corners" in heard.text


def test_lesions_that_fill_their_pictures_are_no_inverted_masks(tmp_path, heard):
    """If broken, a set of close-up pictures is refused."""
    for number in range(6):
        image, mask = pair(number)
        save(tmp_path / "images" / f"{number}.png", 255 - image)  # what was skin is dark now: a lesion all around
        save(tmp_path / "masks" / f"{number}.png", grey(~mask))
    check_masks(training_splits(DataConfig(name=str(tmp_path))), for_training=True)
    assert "6 have lesion in all four corners" in heard.text


def test_masks_whose_skin_is_too_small_to_look_at_are_not_called_inverted(tmp_path, heard):
    """If broken, a set is refused as marking what is brighter, though nothing was compared."""
    for number in range(6):
        mask = np.ones((512, 512), bool)
        mask[101:103, 201:203] = False
        save(tmp_path / "images" / f"{number}.png", np.full((512, 512, 3), 100 + number, np.uint8))
        save(tmp_path / "masks" / f"{number}.png", grey(mask))
    check_masks(training_splits(DataConfig(name=str(tmp_path))), for_training=True)
    assert "lesion in all four corners" in heard.text


def test_a_few_inverted_masks_are_named_without_the_setting_for_all(tmp_path, heard):
    """If broken, who follows the advice inverts the many masks that were sound."""
    save(folder(tmp_path) / "masks" / "img03.png", grey(~pair(3)[1]))
    check_masks(training_splits(DataConfig(name=str(tmp_path))), for_training=True)
    assert "1 have lesion in all four corners (img03), as inverted masks have: invert these files" in heard.text
    assert "mask-invert" not in heard.text


def test_masks_that_are_lesion_all_over_are_refused(tmp_path):
    """If broken, a run learns to mark everything, with a validation Dice of 1."""
    parts = training_splits(DataConfig(name=str(folder(tmp_path, draw=lambda mask: grey(mask | True)))))
    with pytest.raises(UserError, match="none of the 10 masks has any skin"):
        check_masks(parts, for_training=True)


def test_outlines_and_masks_of_another_image_are_doubted(tmp_path, heard):
    """If broken, outlines are learned as lesions, or one mask that was copied to all images passes for ten."""
    folder(tmp_path, 8, width=256, height=192)
    inner = ndimage.binary_erosion(pair(1, 256, 192)[1])
    save(tmp_path / "masks" / "img01.png", grey(pair(1, 256, 192)[1] & ~inner))
    save(tmp_path / "masks" / "img04.png", grey(pair(5, 256, 192)[1]))
    check_masks(training_splits(DataConfig(name=str(tmp_path))), for_training=True)
    [record] = heard.records
    assert "1 are thin outlines with skin inside (img01); fill them" in record.getMessage()
    assert "2 are pixel by pixel the mask of another image too (img0" in record.getMessage()


FRAMES = {"save_all": True, "append_images": [Image.fromarray(grey(TRUE))]}


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.png", "a.webp"])
def test_a_mask_file_of_several_pictures_is_refused(name, tmp_path):
    """If broken, the mask is the first page of a file whose second page was meant: no lesion, without a word."""
    path = save(tmp_path / name, Image.fromarray(grey(TRUE & False)), **FRAMES)
    with pytest.raises(UserError, match=r"holds 2 pictures \(frames or pages\)"):
        decode_mask(path)


def test_a_preview_beside_a_mask_does_no_harm(tmp_path):
    """If broken, a TIFF mask with a thumbnail is refused."""
    small = Image.fromarray(grey(TRUE)).resize((16, 12))
    path = save(tmp_path / "a.tif", Image.fromarray(grey(TRUE)), save_all=True, append_images=[small])
    np.testing.assert_array_equal(decode_mask(path)[..., 0], TRUE)


def test_a_set_without_lesion_is_refused_for_training_alone(tmp_path):
    """If broken, a run on all-black masks ends with a validation Dice of 1."""
    parts = training_splits(DataConfig(name=str(folder(tmp_path, draw=lambda mask: grey(mask & False)))))
    check_masks(parts)
    with pytest.raises(UserError, match="none of the 10 masks has any lesion"):
        check_masks(parts, for_training=True)


def test_sound_masks_are_not_doubted(tmp_path, heard):
    """If broken, every run begins with a warning, and nobody reads it."""
    check_masks(training_splits(DataConfig(name=str(folder(tmp_path)))), for_training=True)
    assert not heard.records


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            two_colours(pair(3)[1], (0, 255, 0), (0, 0, 0)),
            "img02 and 6 more), #00ff00 in 1 (img03)",
        ),
        (
            grey(pair(3)[1]) // 255 * np.uint8(130),
            "img02 and 6 more), #828282 in 1 (img03)",
        ),
        (two_colours(pair(3)[1], (230, 10, 0), (0, 0, 0)), ""),
    ],
)
def test_lesions_of_several_colours_are_doubted(other, said, tmp_path, heard):
    """If broken, masks of another class, as of hairs, are learned as lesions where they stand alone in a file."""
    save(folder(tmp_path, draw=lambda mask: two_colours(mask, (255, 0, 0), (0, 0, 0))) / "masks" / "img03.png", other)
    check_masks(training_splits(DataConfig(name=str(tmp_path), workers=1)), for_training=True)
    assert bool(heard.records) == bool(said)
    assert said in heard.text


def test_masks_of_three_classes_are_looked_at_with_the_class_that_was_named(tmp_path, heard):
    """If broken, masks that are clear by the user's setting are refused for what they would be without it."""
    config = DataConfig(name=str(folder(tmp_path, draw=lambda mask: np.where(mask, 255, 128).astype(np.uint8))))
    with pytest.raises(UserError, match="have no black for skin"):
        check_masks([open_split(config, "all")])
    named = dataclasses.replace(config, mask_lesion="255")
    check_masks([open_split(named, "all")], decided=named.decides_masks)
    assert not heard.records


def test_each_empty_mask_is_told_where_the_user_named_the_lesion(tmp_path, heard):
    """If broken, a few masks that say lesion in another way are images without lesion, and nobody is told."""
    save(folder(tmp_path, 12) / "masks" / "img03.png", grey(pair(3)[1]) // 255 * np.uint8(130))
    check_masks(training_splits(DataConfig(name=str(tmp_path), mask_lesion="255")), for_training=True, decided=True)
    assert "1 are without any lesion (img03)" in heard.text


def contrast(examples) -> float:
    image, mask = examples.load(0)
    lesion = mask[..., 0].astype(bool)
    return float(image[~lesion].mean() - image[lesion].mean())


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_on_the_stored_pixels_is_turned_with_its_image(orientation, tmp_path, heard):
    """If broken, masks that labelme or OpenCV drew on a turned photograph lie beside the lesion."""
    folder(tmp_path, 4, exif=turned(orientation))
    examples = open_split(DataConfig(name=str(tmp_path)), "all")
    assert examples.load(0).image.shape == (64, 48, 3)
    assert contrast(examples) > 80
    assert "4 images have an EXIF orientation that their masks lack" in heard.text


def late_orientation(path: Path, orientation: int) -> None:
    """Puts an orientation into a PNG file, behind its pixels."""
    content = b"eXIf" + turned(orientation).tobytes()[6:]
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    path.write_bytes(path.read_bytes()[:-12] + chunk + path.read_bytes()[-12:])


@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
@pytest.mark.parametrize("kind", ["png", "tif", "late png"])
def test_a_square_mask_of_a_turned_image_needs_a_decision(orientation, kind, tmp_path):
    """If broken, the pixels of image and mask do not belong together, and sizes cannot tell."""
    for number in range(4):
        image, mask = pair(number, 64, 64)
        path, exif = tmp_path / "images" / f"{number}.{kind[-3:]}", turned(orientation)
        save(path, image, **({} if kind == "late png" else {"exif": exif}))
        if kind == "late png":
            late_orientation(path, orientation)
        save(tmp_path / "masks" / f"{number}.png", grey(mask))
    with pytest.raises(UserError, match="this and 3 more images have another EXIF orientation"):
        open_split(DataConfig(name=str(tmp_path)), "all")
    together = open_split(DataConfig(name=str(tmp_path), mask_orientation="image"), "all")
    apart = open_split(DataConfig(name=str(tmp_path), mask_orientation="own"), "all")
    assert contrast(together) > 80
    assert contrast(apart) < 40


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_tiff_mask_is_turned_as_its_image_instead_of_by_itself(orientation, tmp_path):
    """If broken, Pillow turns a TIFF mask by its own orientation, and jaxseg once more by that of the image."""
    path = save(tmp_path / "a.tif", Image.fromarray(grey(TRUE)), exif=turned(orientation))
    np.testing.assert_array_equal(decode_mask(path, orientation=1)[..., 0], TRUE)
    np.testing.assert_array_equal(decode_mask(path, orientation=3)[..., 0], TRUE[::-1, ::-1])
    np.testing.assert_array_equal(decode_mask(path)[..., 0], decode_mask(path, orientation=orientation)[..., 0])


@pytest.mark.parametrize("level", [100, 110, 120, 127])
def test_a_grey_lesion_is_refused_as_jpeg_too(level):
    """If broken, the noise of JPEG around a grey lesion is brighter than half, and passes for the lesion."""
    y, x = np.mgrid[:96, :128]
    disc = (y - 48) ** 2 + (x - 60) ** 2 < 28**2
    for mode in ("L", "RGB"):
        data = encoded(Image.fromarray(disc * np.uint8(level)).convert(mode), "jpeg", quality=75)
        with pytest.raises(UserError, match=r"no lesion mask|more than two levels"):
            decode_mask(data)


@pytest.mark.parametrize("level", [128, 150, 200, 255])
def test_soft_edges_are_cut_half_way_between_the_levels(level):
    """If broken, a lesion of a darker grey loses its rim."""
    y, x = np.mgrid[:96, :128]
    disc = (y - 48) ** 2 + (x - 60) ** 2 < 28**2
    soft = Image.fromarray(disc * np.uint8(level)).resize((64, 48)).resize((128, 96), Image.Resampling.BILINEAR)
    for data in (encoded(soft), encoded(soft, "jpeg", quality=85))[: 1 + (level > 128)]:  # JPEG blurs half itself
        found = decode_mask(data)[..., 0] > 0
        assert 2 * np.count_nonzero(found & disc) / (np.count_nonzero(found) + np.count_nonzero(disc)) > 0.98
