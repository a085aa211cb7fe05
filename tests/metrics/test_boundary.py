"""Boundary measures against scikit-image, brute force, and the erosions of the boundary IoU paper's reference code."""

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import hausdorff_distance

from jaxseg.metrics.boundary import BAND, _hausdorff, boundary_scores, signed_distance


def blobs(seed, size=(57, 83)):
    """Returns two overlapping ragged masks, which touch the frame in some of the seeds."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, *size)), (0, 5, 5))
    shared = smooth[0] + 0.6 * smooth[1]
    return smooth[0] > 0.02, shared > 0.03


def outline(mask):
    """Returns the coordinates of a mask's outline, found with scipy's erosion; beyond the frame is outside."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


@pytest.mark.parametrize("seed", range(5))
def test_distance_equals_brute_force(seed):
    """If broken, the percentile covers both directions at once, the outline is thick, or the crop cuts pixels off."""
    prediction, truth = blobs(seed)
    distances = np.linalg.norm(outline(prediction)[:, None] - outline(truth)[None], axis=-1)
    expected = max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))
    got = boundary_scores(prediction, truth)
    assert got["hausdorff95"] == pytest.approx(expected, abs=1e-9)
    assert got["hausdorff95_relative"] == pytest.approx(expected / math.hypot(57, 83), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_all_of_the_distance_equals_scikit_images(seed):
    """If broken, the maximum of the directed distances is not the customary Hausdorff distance."""
    prediction, truth = blobs(seed)
    images = np.zeros((2, *truth.shape), bool)
    for image, mask in zip(images, (prediction, truth), strict=True):
        image[tuple(outline(mask).T)] = True
    assert _hausdorff(prediction, truth, percentile=100) == pytest.approx(hausdorff_distance(*images), abs=1e-9)


@pytest.mark.parametrize("size", [(57, 83), (300, 451), (20, 20)])
def test_boundary_iou_equals_the_reference_code(size):
    """If broken, the band differs from Cheng et al.'s in width or shape, or is open where the frame cuts a lesion."""
    prediction, truth = blobs(1, size)
    width = max(1, round(0.02 * math.hypot(*size)))

    def band(mask):
        eroded = ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=width)
        return mask & ~eroded[1:-1, 1:-1]

    expected = (band(prediction) & band(truth)).sum() / (band(prediction) | band(truth)).sum()
    assert boundary_scores(prediction, truth)["boundary_iou"] == pytest.approx(expected, abs=1e-12)
    assert BAND == 0.02


def test_a_shift_is_measured_in_pixels():
    """If broken, distances are squared, halved, or scaled with the crop."""
    truth, prediction = np.zeros((2, 100, 200), bool)
    truth[20:60, 30:90] = True
    prediction[20:60, 37:97] = True
    got = boundary_scores(prediction, truth)
    assert got["hausdorff95"] == 7
    assert got["hausdorff95_relative"] == pytest.approx(7 / math.sqrt(100**2 + 200**2))
    assert boundary_scores(truth, truth) == {"hausdorff95": 0, "hausdorff95_relative": 0, "boundary_iou": 1}


def test_one_stray_pixel_is_forgiven():
    """If broken, the maximum is reported instead of the 95th percentile, and one pixel of noise decides it."""
    truth = np.zeros((200, 200), bool)
    truth[50:150, 50:150] = True
    prediction = truth.copy()
    prediction[0, 0] = True
    assert boundary_scores(prediction, truth)["hausdorff95"] == 0


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        (False, False, {"hausdorff95": 0, "hausdorff95_relative": 0, "boundary_iou": 1}),
        (True, False, {"hausdorff95": 50, "hausdorff95_relative": 1, "boundary_iou": 0}),
        (False, True, {"hausdorff95": 50, "hausdorff95_relative": 1, "boundary_iou": 0}),
        (True, True, {"hausdorff95": 0, "hausdorff95_relative": 0, "boundary_iou": 1}),
    ],
)
def test_empty_and_full_masks(predicted, true, expected):
    """If broken, an image without lesion crashes, gives NaN, or counts as good where a lesion was missed."""
    masks = np.full((30, 40), predicted), np.full((30, 40), true)
    assert boundary_scores(*masks) == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2)])
def test_the_smallest_images(size):
    """If broken, an image narrower than the band or than an outline's neighbourhood crashes."""
    one = np.zeros(size, bool)
    one[0, 0] = True
    whole = np.ones(size, bool)
    assert boundary_scores(one, one)["boundary_iou"] == 1
    assert boundary_scores(one, whole)["hausdorff95"] <= math.hypot(*size)


def disc(radius, centre=(60, 60), size=(121, 121)):
    """Returns a disc, pixels within `radius` of its centre."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


@pytest.mark.parametrize("radius", [20, 30, 36, 40])
def test_signed_distance_of_discs(radius):
    """If broken, an outline that is too wide counts as too tight, or its distance is in other units than diameters."""
    truth = disc(30)
    expected = (radius - 30) / 60
    assert signed_distance(disc(radius), truth) == pytest.approx(expected, abs=0.008)  # half a pixel of 60
    if radius == 30:
        assert signed_distance(disc(radius), truth) == 0


def test_signed_distance_of_a_shift_cancels():
    """If broken, a shifted outline passes for one of another style."""
    moved, truth = disc(30, centre=(60, 66)), disc(30)
    assert abs(signed_distance(moved, truth)) < 0.01
    assert boundary_scores(moved, truth)["hausdorff95"] == pytest.approx(6, abs=0.5)


def test_signed_distance_does_not_depend_on_the_place_or_the_margin():
    """If broken, the crop moves one of the masks against the other, or the frame counts."""
    wide = signed_distance(disc(20, (40, 30), (200, 90)), disc(25, (42, 31), (200, 90)))
    assert wide == signed_distance(disc(20, (60, 60)), disc(25, (62, 61)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_masks_of_numbers_are_those_of_bools(dtype):
    """If broken, distances of masks as files hold them, 0 and 255, are divided by sixteen times the diameter."""
    a, b = disc(20), disc(25)
    level = 255 if dtype == np.uint8 else 1
    numbers = [mask.astype(dtype) * dtype(level) for mask in (a, b)]
    assert signed_distance(*numbers) == signed_distance(a, b)
    assert boundary_scores(*numbers) == boundary_scores(a, b)
    with pytest.raises(ValueError, match="not probabilities"):
        signed_distance(a * 0.3, b)


def test_signed_distance_of_nothing_is_not_a_number():
    """If broken, an image without any mask found counts as one with a perfect outline."""
    truth, empty = disc(20), np.zeros((121, 121), bool)
    assert math.isnan(signed_distance(empty, truth))
    assert math.isnan(signed_distance(truth, empty))
