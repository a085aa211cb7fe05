"""Measurements of a mask: size, shape, border and colours of a lesion, from arrays alone.

    from jaxseg.inference.measurements import measure

    found = measure(mask, image, pixels_per_mm=21.5)
    found.feret_diameter_pixels, found.as_row()["feret_diameter_mm"]

Sizes and shapes are those of scikit-image's `regionprops`. All lesion pixels are one region, also where they form
several parts; `Prediction(largest_component=True)` leaves the largest part alone.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from PIL import Image

from jaxseg.metrics.boundary import outline

BLUR_PIXELS = 2.0
"""Standard deviation of the blur before the border gradient is taken, pixels: less would measure hairs and noise."""

AROUND = 0.1
"""Width of the band of skin around a lesion, as a share of the lesion's equivalent diameter; at least 2 pixels."""

_CHANNELS = ("red", "green", "blue")

_ROUNDING = 1e-9
"""Error of a crossing, pixels: a pixel's middle on the hull's edge counts as inside."""

_SAMPLES = 250_000
"""Lesion pixels of which the mirror images are looked up; larger lesions are sampled on a regular grid."""

SCALES = (1e-3, 1e5)
"""Scales that images may have, pixels per millimetre: from aerial photographs to electron microscopes."""

_LENGTHS = ("equivalent_diameter", "major_axis", "minor_axis", "feret_diameter", "perimeter")


@dataclasses.dataclass(frozen=True)
class Measurements:
    """What is measured of one mask. Everything but the first four is None for an empty mask.

    Coordinates are those of the image as it is shown, upright: x to the right, y down. As in `regionprops`, whole
    numbers are the middles of pixels: add 0.5 for the coordinates of outlines, in which the image's corner is (0, 0).

    Attributes:
      area_pixels: number of lesion pixels.
      area_share: their share of the image, in [0, 1].
      components: number of parts; pixels that touch at an edge or a corner connect.
      cut_by_frame: whether a lesion pixel lies on the image's border, so that sizes and shapes are of a part only.
      box_left: first column with lesion pixels.
      box_top: first row with lesion pixels.
      box_right: the column after the last with lesion pixels.
      box_bottom: the row after the last with lesion pixels.
      centre_x: mean column of the lesion pixels.
      centre_y: mean row of the lesion pixels.
      equivalent_diameter_pixels: diameter of the disc of the same area.
      major_axis_pixels: major axis of the ellipse with the same second moments.
      minor_axis_pixels: minor axis of that ellipse.
      feret_diameter_pixels: largest distance of two points on the outline of the convex hull.
      perimeter_pixels: length of the outlines, of holes too, through the middles of the outermost pixels; the image's
        border is outline where it cuts the lesion.
      compactness: 4 pi area / perimeter^2: 0.92 for a large disc (its outline of pixels is longer than a circle), more
        for a very small one, near 0 for a ragged or long lesion; None for one pixel alone, which has no perimeter.
      solidity: area by the area of the convex hull, in (0, 1].
      asymmetry: mean of the two asymmetries below, in [0, 1].
      asymmetry_major: share of the lesion whose mirror image in the major axis is no lesion; 0 for an ellipse.
      asymmetry_minor: likewise in the minor axis.
      border_gradient: how sharp the border is: mean over the outline of the change of brightness, in levels of 255 per
        pixel, after a blur of `BLUR_PIXELS`; None where the lesion fills the image.
      inside_mean: mean of (red, green, blue) in the lesion, in [0, 255].
      inside_sd: standard deviation of (red, green, blue) in the lesion.
      around_mean: mean of (red, green, blue) in a band of skin around it, as wide as `AROUND` says; None where the
        lesion fills the image.
      around_sd: standard deviation there.
      pixels_per_mm: the image's scale, if it is known.
    """

    area_pixels: int
    area_share: float
    components: int
    cut_by_frame: bool
    box_left: int | None = None
    box_top: int | None = None
    box_right: int | None = None
    box_bottom: int | None = None
    centre_x: float | None = None
    centre_y: float | None = None
    equivalent_diameter_pixels: float | None = None
    major_axis_pixels: float | None = None
    minor_axis_pixels: float | None = None
    feret_diameter_pixels: float | None = None
    perimeter_pixels: float | None = None
    compactness: float | None = None
    solidity: float | None = None
    asymmetry: float | None = None
    asymmetry_major: float | None = None
    asymmetry_minor: float | None = None
    border_gradient: float | None = None
    inside_mean: tuple[float, float, float] | None = None
    inside_sd: tuple[float, float, float] | None = None
    around_mean: tuple[float, float, float] | None = None
    around_sd: tuple[float, float, float] | None = None
    pixels_per_mm: float | None = None

    def as_row(self) -> dict[str, Any]:
        """Returns the measurements by name of column: a column per colour, millimetres where the scale is known."""
        row: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.startswith(("inside_", "around_")):
                place, statistic = field.name.split("_")
                row |= {f"{place}_{c}_{statistic}": value[i] if value else None for i, c in enumerate(_CHANNELS)}
            elif field.name != "pixels_per_mm":
                row[field.name] = value
        if scale := self.pixels_per_mm:
            row["pixels_per_mm"] = scale
            row["area_mm2"] = self.area_pixels / scale**2
            lengths = {name: row[f"{name}_pixels"] for name in _LENGTHS}
            row |= {f"{name}_mm": None if length is None else length / scale for name, length in lengths.items()}
        return row


def columns(pixels_per_mm: float | None = None) -> tuple[str, ...]:
    """Returns the names of the columns of `Measurements.as_row`."""
    return tuple(Measurements(0, 0.0, 0, False, pixels_per_mm=pixels_per_mm).as_row())


def is_scale(pixels_per_mm: float) -> bool:
    """Returns whether a number can be the scale of an image, in pixels per millimetre."""
    return SCALES[0] <= pixels_per_mm <= SCALES[1]


def measure(mask: np.ndarray, image: np.ndarray, pixels_per_mm: float | None = None) -> Measurements:
    """Measures the lesion of one image.

    Args:
      mask: [H, W], bool or {0, 1}, true for lesion.
      image: uint8 [H, W, 3], RGB in [0, 255].
      pixels_per_mm: the image's scale, for measurements in millimetres; None where it is not known.

    Returns:
      The measurements.

    Raises:
      ValueError: another shape or type, or a scale out of `SCALES`.
    """
    if image.dtype != np.uint8 or image.shape != (*mask.shape, 3) or mask.ndim != 2:
        raise ValueError(f"image is {image.dtype} {list(image.shape)} with a mask {list(mask.shape)}: must be uint8 "
                         "[H, W, 3] with [H, W]")  # fmt: skip
    if pixels_per_mm is not None and not is_scale(pixels_per_mm):
        raise ValueError(f"pixels_per_mm is {pixels_per_mm}: must be above 0, from {SCALES[0]:g} to {SCALES[1]:g}")
    # Not at the top: the import takes as long as that of JAX.
    from scipy import ndimage
    from skimage.measure import regionprops

    mask = mask.astype(bool)
    if not mask.any():
        return Measurements(0, 0.0, 0, False, pixels_per_mm=pixels_per_mm)
    (region,) = regionprops(mask.view(np.uint8))
    top, left, bottom, right = map(int, region.bbox)
    mirrored = [_asymmetry(region.image, region.centroid_local, region.orientation + turn) for turn in (0, math.pi / 2)]
    area, perimeter = int(region.area), float(region.perimeter)
    hull_area, feret_diameter = _hull(region.image)
    return Measurements(
        area_pixels=area,
        area_share=area / mask.size,
        components=int(ndimage.label(region.image, np.ones((3, 3)))[1]),
        cut_by_frame=top == 0 or left == 0 or bottom == mask.shape[0] or right == mask.shape[1],
        box_left=left,
        box_top=top,
        box_right=right,
        box_bottom=bottom,
        centre_x=float(region.centroid[1]),
        centre_y=float(region.centroid[0]),
        equivalent_diameter_pixels=float(region.equivalent_diameter_area),
        major_axis_pixels=float(region.axis_major_length),
        minor_axis_pixels=float(region.axis_minor_length),
        feret_diameter_pixels=feret_diameter,
        perimeter_pixels=perimeter,
        compactness=4 * math.pi * area / perimeter**2 if perimeter else None,
        solidity=area / hull_area,
        asymmetry=sum(mirrored) / 2,
        asymmetry_major=mirrored[0],
        asymmetry_minor=mirrored[1],
        **_colours(mask, image, (top, left, bottom, right), region.equivalent_diameter_area),
        pixels_per_mm=pixels_per_mm,
    )


def _hull(region: np.ndarray) -> tuple[int, float]:
    """Returns area and largest diameter of a region's convex hull, as `regionprops` defines them.

    `regionprops` tests every pixel against every corner of the hull, and compares all pairs of points on its outline: a
    lesion of 3000 pixels across takes ten seconds and a gigabyte. Here each row has its first and last pixel, which
    gives the same numbers.

    Args:
      region: bool [H, W], without empty rows or columns at its border.
    """
    from scipy.spatial.distance import pdist

    corners = _corners(np.arange(len(region)), region)
    rows, ends = np.arange(len(region)), [np.full(len(region), np.inf), np.full(len(region), -np.inf)]
    for (row, column), (next_row, next_column) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = sorted((row, next_row))
        crossed = (rows >= low) & (rows <= high)
        if row == next_row:
            crossings = [column, next_column] if crossed.any() else []
        else:
            crossings = [column + (rows[crossed] - row) * (next_column - column) / (next_row - row)]
        for x in crossings:
            ends[0][crossed] = np.minimum(ends[0][crossed], x)
            ends[1][crossed] = np.maximum(ends[1][crossed], x)
    first, last = np.ceil(ends[0] - _ROUNDING).astype(int), np.floor(ends[1] + _ROUNDING).astype(int)
    filled = (np.arange(region.shape[1]) >= first[:, None]) & (np.arange(region.shape[1]) <= last[:, None])
    return int((last - first + 1).sum()), float(pdist(_corners(rows, filled)).max())


def _corners(rows: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Returns the corners (row, column) of the convex hull of the middles of pixels' edges, in order: [N, 2]."""
    from scipy.spatial import ConvexHull

    first, last = region.argmax(axis=1), region.shape[1] - 1 - region[:, ::-1].argmax(axis=1)
    filled = region.any(axis=1)
    extremes = np.concatenate([np.stack([rows, ends], axis=-1)[filled] for ends in (first, last)])
    points = np.concatenate([extremes + step for step in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))])
    return points[ConvexHull(points).vertices]


def _asymmetry(region: np.ndarray, centre: tuple[float, float], angle: float) -> float:
    """Returns the share of a region whose mirror image lies outside the region.

    Args:
      region: bool [H, W].
      centre: (row, column) of a point on the mirror axis.
      angle: angle of the axis from the direction of the rows downwards, radians.
    """
    step = max(1, math.ceil(math.sqrt(np.count_nonzero(region) / _SAMPLES)))
    points = np.argwhere(region[::step, ::step]) * step
    if not len(points):  # a hairline that the grid misses
        points = np.argwhere(region)
    axis = np.array([math.cos(angle), math.sin(angle)])
    offsets = points - np.array(centre)
    rows, columns = np.rint(2 * (offsets @ axis)[:, None] * axis - offsets + centre).astype(int).T
    inside = (rows >= 0) & (columns >= 0) & (rows < region.shape[0]) & (columns < region.shape[1])
    return 1 - float(region[rows[inside], columns[inside]].sum()) / len(points)


def _colours(mask: np.ndarray, image: np.ndarray, box: tuple[int, int, int, int], diameter: float) -> dict[str, Any]:
    """Returns the border gradient and the colours in a lesion and around it, by field of `Measurements`."""
    from scipy import ndimage

    width = max(2, round(AROUND * diameter))
    margin = max(width, math.ceil(4 * BLUR_PIXELS))  # the blur reaches as far
    top, left, bottom, right = box
    part = np.s_[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]
    mask, image = mask[part], image[part]
    near = ndimage.maximum_filter(mask, 2 * width + 1, mode="constant", cval=0) & ~mask
    # Rows and columns beyond the image repeat its border, so that a cut there is no outline.
    border = outline(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
    gradient = None
    if border.any():
        brightness = np.asarray(Image.fromarray(image).convert("L"), np.float32)
        gradient = float(ndimage.gaussian_gradient_magnitude(brightness, BLUR_PIXELS, mode="nearest")[border].mean())
    (inside_mean, inside_sd), (around_mean, around_sd) = _mean_and_sd(image[mask]), _mean_and_sd(image[near])
    return {
        "border_gradient": gradient,
        "inside_mean": inside_mean,
        "inside_sd": inside_sd,
        "around_mean": around_mean,
        "around_sd": around_sd,
    }


def _mean_and_sd(pixels: np.ndarray) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Returns mean and standard deviation of each channel of pixels, uint8 [N, 3]; None where N is 0."""
    if not len(pixels):
        return None, None
    levels = np.arange(256)
    counts = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T]) / len(pixels)
    mean = counts @ levels
    sd = np.sqrt((counts * np.square(levels - mean[:, None])).sum(axis=1))
    return tuple(mean.tolist()), tuple(sd.tolist())
