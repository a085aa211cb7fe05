"""Measurements of masks against what geometry says of discs, ellipses and squares, and against scikit-image."""

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk, ellipse
from skimage.measure import regionprops

from jaxseg.inference.measurements import Measurements, columns, measure

SKIN, LESION = (220, 180, 160), (90, 60, 50)


def painted(mask: np.ndarray) -> np.ndarray:
    """Returns an image of one colour of skin with a lesion of another."""
    return np.where(mask[..., None], np.uint8(LESION), np.uint8(SKIN))


def measured(mask: np.ndarray, **options) -> Measurements:
    return measure(mask, painted(mask), **options)


def drawn(shape: tuple[int, int], points: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[points] = True
    return mask


def test_a_disc():
    """If broken, diameters, asymmetry or colours of the simplest lesion are wrong.

    Within 2 %: a disc of pixels is not round. Its perimeter by scikit-image is 4 % too long.
    """
    found = measured(drawn((300, 400), disk((140, 210), 60)))
    assert found.area_pixels == pytest.approx(math.pi * 60**2, rel=0.01)
    assert found.area_share == found.area_pixels / (300 * 400)
    assert (found.centre_x, found.centre_y) == (210, 140)
    assert (found.box_left, found.box_top, found.box_right, found.box_bottom) == (151, 81, 270, 200)
    for name in ("equivalent_diameter", "major_axis", "minor_axis", "feret_diameter"):
        assert getattr(found, f"{name}_pixels") == pytest.approx(120, rel=0.02), name
    assert found.perimeter_pixels == pytest.approx(math.pi * 120, rel=0.05)
    assert found.compactness == pytest.approx(0.92, abs=0.02)
    assert found.solidity > 0.98
    assert found.asymmetry == 0
    assert (found.components, found.cut_by_frame) == (1, False)
    assert (found.inside_mean, found.inside_sd) == (LESION, (0, 0, 0))
    assert (found.around_mean, found.around_sd) == (SKIN, (0, 0, 0))


@pytest.mark.parametrize("turn", [0.0, 0.4, 1.2, -0.9])
def test_an_ellipse_in_any_direction(turn):
    """If broken, axes or asymmetry depend on how the camera was held; 2 %: pixels."""
    found = measured(drawn((400, 400), ellipse(200, 190, 50, 120, rotation=turn)))
    assert found.major_axis_pixels == pytest.approx(240, rel=0.02)
    assert found.minor_axis_pixels == pytest.approx(100, rel=0.02)
    assert found.feret_diameter_pixels == pytest.approx(240, rel=0.02)
    assert found.equivalent_diameter_pixels == pytest.approx(2 * math.sqrt(50 * 120), rel=0.02)
    assert found.asymmetry < 0.02


def test_a_square():
    """If broken, sizes are off by a pixel; the second moments of a square of side a give axes of 2 a / sqrt(3)."""
    mask = np.zeros((90, 120), bool)
    mask[20:60, 30:70] = True
    found = measured(mask)
    assert (found.box_left, found.box_top, found.box_right, found.box_bottom) == (30, 20, 70, 60)
    assert (found.centre_x, found.centre_y) == (49.5, 39.5)
    assert found.area_pixels == 1600
    assert found.major_axis_pixels == pytest.approx(80 / math.sqrt(3), rel=1e-3)
    assert found.feret_diameter_pixels == pytest.approx(math.hypot(40, 40), rel=0.02)
    assert found.perimeter_pixels == 4 * 39
    assert (found.solidity, found.asymmetry) == (1, 0)


def test_asymmetry_is_the_share_that_its_mirror_image_misses():
    """If broken, asymmetry is of other axes than the principal ones, or none of a half-moon."""
    half = drawn((200, 200), disk((100, 100), 60))
    half[:, 100:] = False
    found = measured(half)
    # The half disc's long axis is its straight side, across which it is not symmetric.
    assert found.asymmetry_minor < 0.01
    assert found.asymmetry_major > 0.1
    assert found.asymmetry == (found.asymmetry_major + found.asymmetry_minor) / 2


def test_random_shapes_agree_with_regionprops():
    """If broken, the faster computation of solidity and largest diameter has left scikit-image's definition."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        noise = ndimage.gaussian_filter(rng.normal(size=rng.integers(3, 60, 2)), rng.uniform(0.1, 4))
        mask = noise > np.quantile(noise, rng.uniform(0.05, 0.95))
        found, (region,) = measured(mask), regionprops(mask.astype(int))
        assert found.solidity == pytest.approx(region.solidity, rel=1e-9)
        assert found.feret_diameter_pixels == pytest.approx(region.feret_diameter_max, rel=1e-9)
        assert found.perimeter_pixels == region.perimeter
        assert found.area_pixels == region.area


def test_a_blurred_border_has_a_lower_gradient():
    """If broken, the sharpness of a border is not what is measured, or depends on which side is darker."""
    mask = drawn((200, 200), disk((100, 100), 60))
    sharp = painted(mask)
    soft = ndimage.gaussian_filter(sharp, (8, 8, 0))
    assert measure(mask, soft).border_gradient < 0.5 * measure(mask, sharp).border_gradient
    assert measure(mask, 255 - sharp).border_gradient == pytest.approx(measure(mask, sharp).border_gradient, rel=0.02)


def test_millimetres_come_with_a_scale_alone():
    """If broken, a length in millimetres is given that nobody can know, or is wrong by the scale."""
    mask = drawn((300, 400), disk((140, 210), 60))
    plain, scaled = measured(mask).as_row(), measured(mask, pixels_per_mm=20).as_row()
    assert not [name for name in plain if name.endswith(("_mm", "_mm2"))]
    assert scaled["feret_diameter_mm"] == plain["feret_diameter_pixels"] / 20
    assert scaled["area_mm2"] == plain["area_pixels"] / 400
    assert tuple(plain) == columns()
    assert tuple(scaled) == columns(20)
    for scale in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="must be above 0"):
            measured(mask, pixels_per_mm=scale)


def test_an_empty_mask_has_an_area_of_0_and_no_shape():
    """If broken, an image without a lesion ends in an error, or has a centre and a colour."""
    row = measured(np.zeros((20, 30), bool)).as_row()
    assert (row["area_pixels"], row["area_share"], row["components"], row["cut_by_frame"]) == (0, 0, 0, False)
    assert {value for name, value in row.items() if name not in ("area_pixels", "area_share", "components",
                                                                 "cut_by_frame")} == {None}  # fmt: skip
    assert tuple(row) == columns()


def test_several_parts_are_one_region():
    """If broken, a lesion in two parts loses one of them, or they are not counted."""
    mask = np.zeros((60, 100), bool)
    mask[10:20, 10:20] = mask[10:20, 60:70] = True
    found = measured(mask)
    assert (found.components, found.area_pixels) == (2, 200)
    assert (found.box_left, found.box_right) == (10, 70)


def test_the_frame_cuts_a_lesion():
    """If broken, nobody learns that a diameter is of a part only; or the frame counts as a sharp border."""
    for part in (np.s_[:5, 10:20], np.s_[-5:, 10:20], np.s_[10:20, :5], np.s_[10:20, -5:]):
        mask = np.zeros((60, 80), bool)
        mask[part] = True
        assert measured(mask).cut_by_frame
    mask = np.zeros((60, 80), bool)
    mask[1:-1, 1:-1] = True
    assert not measured(mask).cut_by_frame
    full = measured(np.ones((6, 8), bool))
    assert full.cut_by_frame
    assert (full.around_mean, full.border_gradient) == (None, None)


def test_pixels_and_lines_are_measured():
    """If broken, a lesion of a few pixels ends in an error or a warning of a library."""
    point = np.zeros((5, 5), bool)
    point[2, 2] = True
    assert measured(point).feret_diameter_pixels == 1
    assert measured(point).compactness is None
    assert measured(np.eye(5, dtype=bool)).components == 1
    line = np.zeros((5, 50), bool)
    line[2, 5:35] = True
    assert measured(line).feret_diameter_pixels == 30


def test_arrays_of_other_shapes_are_refused():
    """If broken, a mask is measured with the colours of another image."""
    with pytest.raises(ValueError, match="must be uint8"):
        measure(np.zeros((5, 6), bool), np.zeros((6, 5, 3), np.uint8))
