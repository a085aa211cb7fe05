"""Images with an ICC profile: read as sRGB, as every program shows them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms
from tifffile import imwrite

from jaxseg.data.images import decode_image, decode_mask, decode_pillow
from tests.helpers.bad_files import encoded, turned
from tests.helpers.icc import P3, encoded_srgb, grey_profile, in_srgb, ink_profile, rgb_profile
from tests.helpers.skin import pair

IMAGE, LESION = pair(0)
OF_TELEPHONES = rgb_profile(P3, 2.2)
IN_SRGB = in_srgb(IMAGE, P3, 2.2)


def off(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference of a level."""
    return np.abs(found.astype(float) - expected).max()


def test_the_formulas_move_these_colours():
    """If broken, the tests below would pass without any conversion."""
    assert off(IMAGE, IN_SRGB) > 8


@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_colours_of_telephones_come_out_as_srgb(kind):
    """If broken, photographs in Display P3 are paler to the network than to everybody who looks at them."""
    content = encoded(IMAGE, kind, icc_profile=OF_TELEPHONES, **({"lossless": True} if kind == "webp" else {}))
    assert off(decode_image(content), IN_SRGB) <= 1.5
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(decode_pillow(image), decode_image(content))


def test_turned_photographs_keep_their_profile():
    """If broken, turning a photograph by its EXIF orientation loses what its colours mean."""
    content = encoded(IMAGE, "png", icc_profile=OF_TELEPHONES, exif=turned(3))
    assert off(decode_image(content), IN_SRGB[::-1, ::-1]) <= 1.5


def test_palettes_and_opacity_keep_their_profile():
    """If broken, a palette or a transparent part changes how the colours beside it are read."""
    clear = np.dstack([IMAGE, np.where(LESION, 255, 0).astype(np.uint8)])
    found = decode_image(encoded(clear, icc_profile=OF_TELEPHONES))
    assert off(found, np.where(LESION[..., None], IN_SRGB, 255)) <= 1.5
    palette = Image.fromarray(IMAGE).quantize(64)
    expected = in_srgb(np.asarray(palette.convert("RGB")), P3, 2.2)
    assert off(decode_image(encoded(palette, icc_profile=OF_TELEPHONES)), expected) <= 1.5


@pytest.mark.parametrize("top", [4095, 65535])
def test_deep_colours_keep_their_profile(top):
    """If broken, a scan of 16 bits is read as sRGB whatever its profile says."""
    buffer = io.BytesIO()
    values = np.rint(IMAGE / 255 * top).astype(np.uint16)
    imwrite(buffer, values, photometric="rgb", iccprofile=OF_TELEPHONES)
    assert off(decode_image(buffer.getvalue()), IN_SRGB) <= 3


@pytest.mark.parametrize("opacity", [False, True])
def test_grey_levels_have_profiles_too(opacity):
    """If broken, grey photographs of print programs (dot gain) are darker or paler than they look."""
    grey = IMAGE[..., 0]
    content = encoded(np.dstack([grey, np.full_like(grey, 255)]) if opacity else grey, icc_profile=grey_profile(1.0))
    expected = 255 * encoded_srgb(grey / 255)
    assert off(grey, expected) > 20
    assert off(decode_image(content), np.repeat(expected[..., None], 3, axis=-1)) <= 1.5


def test_srgb_by_any_name_changes_nothing():
    """If broken, the most frequent profile of all costs rounding, and results differ by whether it was attached."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(decode_image(encoded(IMAGE, icc_profile=profile)), IMAGE)


@pytest.mark.parametrize("profile", [b"no profile", OF_TELEPHONES[:200], grey_profile(1.0)])
def test_profiles_that_do_not_fit_are_ignored_as_in_browsers(profile):
    """If broken, a damaged profile, or that of another kind of picture, ends in a refusal."""
    np.testing.assert_array_equal(decode_image(encoded(IMAGE, icc_profile=profile)), IMAGE)


@pytest.mark.parametrize("kind", ["tiff", "jpeg"])
def test_print_colours_are_read_by_their_profile(kind):
    """If broken, photographs from print programs come out as glaring colours, or as negatives."""
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 8:16, 3], inks[:, 16:24, 3], inks[:, 24:, 0] = (
        128,
        255,
        255,
    )  # half black, black, cyan, which is no colour here
    found = decode_image(encoded(Image.frombytes("CMYK", (32, 16), inks.tobytes()), kind, icc_profile=ink_profile()))
    assert [found[8, column, 0] for column in (4, 20, 28)] == pytest.approx([255, 0, 255], abs=3)
    assert found[8, 12].tolist() == pytest.approx([119, 119, 119], abs=4)  # lightness 50


def test_print_colours_with_a_foreign_profile_are_read_by_rule():
    """If broken, a CMYK photograph with a profile that is none of CMYK is refused."""
    print_image = Image.fromarray(IMAGE).convert("CMYK")
    plain = decode_image(encoded(print_image, "tiff"))
    np.testing.assert_array_equal(decode_image(encoded(print_image, "tiff", icc_profile=OF_TELEPHONES)), plain)


def test_masks_are_labels_and_have_no_colours():
    """If broken, a profile moves the levels of a mask, and soft ones are cut elsewhere."""
    levels = np.where(LESION, 150, 90).astype(np.uint8)
    content = encoded(levels, icc_profile=grey_profile(1.0))
    np.testing.assert_array_equal(decode_mask(content), decode_mask(encoded(levels)))
