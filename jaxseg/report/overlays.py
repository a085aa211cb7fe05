"""Pictures of masks over images: one overlay, and a sheet of cases."""

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxseg.metrics.boundary import outline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from jaxseg.report.figures import empty_figure, save_figure

TRUTH_COLOUR = (0, 220, 80)


PREDICTION_COLOUR = (255, 0, 230)


BOTH_COLOUR = (255, 255, 255)
"""Outlines: green, magenta and white differ in brightness too, so that colour-blind readers tell them apart."""


_PANEL_INCHES = (2.7, 2.05)  # one picture of a sheet, nearly 4:3


_HEAD_INCHES = 0.75  # title, synthetic note


_LARGEST_SIDE = 800  # largest side of a picture on a sheet, pixels; drawing would discard more


class Case(NamedTuple):
    """One image and what was found in it, for `overlay_sheet`.

    Attributes:
      name: caption of the picture, as "worst: IMD003".
      image: uint8 [H, W, 3], RGB in [0, 255].
      truth: [H, W], bool or {0, 1}.
      prediction: [H, W], bool or {0, 1}.
      dice: in [0, 1], or NaN.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    dice: float


def overlay(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None = None) -> np.ndarray:
    """Draws the outlines of masks on an image: truth green, prediction magenta, white where both coincide.

    An outline lies inside its mask, also along the image's border: a mask of the whole image appears as a frame. Its
    width is one pixel per 400 pixels of the image's longer side, at least one.

    Args:
      image: uint8 [H, W, 3], RGB in [0, 255]; not modified.
      prediction: [H, W], bool or {0, 1}.
      truth: [H, W], bool or {0, 1}; None where unknown.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: an image or mask of another shape, type or range.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}: must be uint8 [H, W, 3]")
    width = max(1, round(max(image.shape[:2]) / 400))
    predicted = outline(_as_mask("prediction", prediction, image), width)
    result = image.copy()
    result[predicted] = PREDICTION_COLOUR
    if truth is not None:
        true = outline(_as_mask("truth", truth, image), width)
        result[true] = TRUTH_COLOUR
        result[true & predicted] = BOTH_COLOUR
    return result


def overlay_sheet(
    cases: Sequence[Case], path: str | os.PathLike[str], title: str = "", *, synthetic: bool = False
) -> None:
    """Draws cases into one PNG file, each as image, truth, and prediction with truth; two abreast from five cases on.

    Args:
      cases: at least one, in the order to show.
      path: the PNG file, replaced in one step; its folder is made if necessary.
      title: names the model and the data set.
      synthetic: whether to put the red note on the picture.

    Raises:
      ValueError: no cases, or an image or mask of another shape, type or range.
    """
    if not cases:
        raise ValueError("overlay_sheet needs at least one case")
    abreast = 1 if len(cases) < 5 else 2
    rows = math.ceil(len(cases) / abreast)
    panel_width, panel_height = _PANEL_INCHES
    figure = empty_figure(
        3 * abreast * panel_width, rows * (panel_height + 0.3) + _HEAD_INCHES + 0.25, title, synthetic
    )
    grid = figure.subplots(rows, 3 * abreast, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    figure.supxlabel("outlines: truth green, prediction magenta, white where both", size=9)
    for i, case in enumerate(cases):
        row, column = divmod(i, abreast)
        _draw_case(grid[row, 3 * column : 3 * column + 3], case)
    save_figure(figure, path)


def _as_mask(name: str, mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    if mask.shape != image.shape[:2]:
        raise ValueError(f"{name} is {list(mask.shape)}: must be {list(image.shape[:2])}, as the image")
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{name} holds values from {mask.min()} to {mask.max()}: must be 0 or 1")
    return mask.astype(bool)


def _draw_case(panels: Sequence["Axes"], case: Case) -> None:
    step = math.ceil(max(case.image.shape[:2]) / _LARGEST_SIDE)
    image, truth, prediction = (a[::step, ::step] for a in (case.image, case.truth, case.prediction))
    nothing = np.zeros(truth.shape, bool)
    pictures = image, overlay(image, nothing, truth), overlay(image, prediction, truth)
    score = f"Dice {case.dice:.3f}" if math.isfinite(case.dice) else "Dice unknown"
    name = case.name if len(case.name) <= 40 else f"…{case.name[-39:]}"  # as many characters as fit above a picture
    captions = (name, "black"), ("truth", "#008a32"), (f"prediction, {score}", "#c000ad")
    for axes, picture, (caption, colour) in zip(panels, pictures, captions, strict=True):
        axes.imshow(picture)
        axes.set_title(caption, size=9, color=colour, parse_math=False)
