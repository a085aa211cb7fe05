"""Pictures of a run: training curves, outlines on images, sheets of cases.

Whoever draws from synthetic data says so (`synthetic=True`) and gets a red note on the picture, so that nobody takes
it for a result on real lesions. Files are written under a temporary name and renamed: a reader never sees half of one.
"""

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from jaxseg.atomic import replacing
from jaxseg.boundary import outline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH_COLOUR = (0, 220, 80)
PREDICTION_COLOUR = (255, 0, 230)
BOTH_COLOUR = (255, 255, 255)
"""Outlines: green, magenta and white differ in brightness too, so that colour-blind readers tell them apart."""

SYNTHETIC_NOTE = "SYNTHETIC DATA: no result on real lesions"
"""On pictures, in red."""

SYNTHETIC_MARK = "  *** SYNTHETIC DATA ***"
"""At the end of log lines."""

_DPI = 100
_PANEL_INCHES = (2.7, 2.05)  # one picture of a sheet, nearly 4:3
_HEAD_INCHES = 0.75  # title, synthetic note
_LARGEST_SIDE = 800  # of a picture on a sheet, pixels; more would be thrown away in drawing


class Case(NamedTuple):
    """One image and what was found in it, for `overlay_sheet`.

    Attributes:
      name: shown beside the picture, as "worst: IMD003".
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


def plot_curves(
    history: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    synthetic: bool = False,
    best_epoch: int | None = None,
) -> None:
    """Draws loss, validation scores and learning rate over the epochs into a PNG of 1300 x 450 pixels.

    Args:
      history: the lines of `metrics.jsonl`: `epoch` (from 1) and, where known, `train_loss`, `val_loss`, `val_dice`,
        `val_jaccard`, `learning_rate`. What is missing, null, or not finite leaves a gap.
      path: the PNG file; replaced in one step, its folder made.
      title: names the model and the data set.
      synthetic: whether to put the red note on the picture.
      best_epoch: the epoch to mark; by default the first of the lowest validation loss.
    """
    figure = empty_figure(13, 4.5, title, synthetic)
    panels = figure.subplots(1, 3)
    draw_curves(panels, history, best_epoch)
    for axes, name in zip(panels, ("Loss", "Validation: mean over images", "Learning rate"), strict=True):
        axes.set_title(name)
    save_figure(figure, path)


def draw_curves(panels: Sequence["Axes"], history: Sequence[Mapping[str, Any]], best_epoch: int | None = None) -> None:
    """Draws loss, validation scores and learning rate on three axes; arguments as for `plot_curves`."""
    epochs = _column(history, "epoch")
    if best_epoch is None:
        best_epoch = _best_epoch(epochs, _column(history, "val_loss"))
    loss, score, rate = panels
    losses = {"training": _column(history, "train_loss"), "validation": _column(history, "val_loss")}
    _curves(loss, epochs, losses, log_scale=_spans_decades(losses))
    _curves(score, epochs, {"Dice": _column(history, "val_dice"), "Jaccard": _column(history, "val_jaccard")})
    score.set_ylim(0, 1.02)
    _curves(rate, epochs, {"learning rate": _column(history, "learning_rate")}, log_scale=True)
    for axes in panels:
        if best_epoch is not None:
            axes.axvline(best_epoch, color="0.35", linestyle="--", linewidth=1, label=f"best epoch: {best_epoch}")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9)


def overlay(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None = None) -> np.ndarray:
    """Draws the outlines of masks on an image: truth green, prediction magenta, white where both coincide.

    An outline lies inside its mask, along the image's border too, so that a mask of the whole image is seen as a frame.
    It is one pixel wide for each 400 of the longer side, and at least one.

    Args:
      image: uint8 [H, W, 3], RGB in [0, 255]; left as it is.
      prediction: [H, W], bool or {0, 1}.
      truth: likewise, or None where unknown.

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
    """Draws cases into one PNG, each as image, truth, and prediction with truth; from five on, two cases abreast.

    Args:
      cases: at least one, in the order to show.
      path: the PNG file; replaced in one step, its folder made.
      title: names the model and the data set.
      synthetic: whether to put the red note on the picture.

    Raises:
      ValueError: no cases, or as `overlay`.
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


def save_png(pixels: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Writes uint8 [H, W, 3] (RGB) or [H, W] (grey, as a {0, 255} mask) as a PNG, replaced in one step."""
    with replacing(path) as temporary:
        # Level 1 is several times as fast as the default and hardly larger.
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)


def empty_figure(width: float, height: float, title: str, synthetic: bool) -> "Figure":
    """Returns an empty figure of width x height inches with its head, free of pyplot's global state and display."""
    # Not imported at the top: the first import on a machine indexes its fonts for seconds, which predict need not.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    head = 0.32 * (bool(title) + synthetic) / height
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - head))
    # Names come from files and may hold a dollar sign, which would be read as a formula.
    figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", size=13, weight="bold", parse_math=False)
    if synthetic:
        y = 1 - (0.08 + 0.28 * bool(title)) / height
        figure.text(0.5, y, SYNTHETIC_NOTE, ha="center", va="top", size=13, weight="bold", color="#d00000")
    return figure


def save_figure(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Writes a figure as a PNG, replaced in one step."""
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script that the font lacks
        # No version stamp: equal pictures are equal files.
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _column(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Returns a field of all lines, float64 [epochs], NaN where it is absent, null or not finite."""
    values = np.array([math.nan if (v := line.get(name)) is None else float(v) for line in history], np.float64)
    return np.where(np.isfinite(values), values, math.nan)


def _best_epoch(epochs: np.ndarray, losses: np.ndarray) -> int | None:
    known = np.isfinite(epochs) & np.isfinite(losses)
    return int(epochs[known][np.argmin(losses[known])]) if known.any() else None


def _spans_decades(curves: dict[str, np.ndarray]) -> bool:
    """Returns whether all values are positive and the largest is more than 20 times the smallest."""
    known = np.concatenate(list(curves.values()))
    known = known[np.isfinite(known)]
    return known.size > 0 and known.min() > 0 and known.max() > 20 * known.min()


def _curves(axes: "Axes", epochs: np.ndarray, curves: dict[str, np.ndarray], *, log_scale: bool = False) -> None:
    """Draws named curves over the epochs."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    known = np.concatenate(list(curves.values()))
    known = known[np.isfinite(known)]
    if log_scale and (known > 0).any():
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    # A single epoch, or one between two gaps, is a point, which a line alone would not show.
    marker = "o" if epochs.size <= 60 else "."
    for (name, values), colour in zip(curves.items(), ("#0072b2", "#d55e00"), strict=False):
        if np.isfinite(values).any():
            axes.plot(epochs, values, marker=marker, markersize=3.5, linewidth=1.6, color=colour, label=name)
    if not known.size:
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color="0.4")
        axes.set_yticks([])
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)


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
    name = case.name if len(case.name) <= 40 else f"…{case.name[-39:]}"  # as much as fits above a picture
    captions = (name, "black"), ("truth", "#008a32"), (f"prediction, {score}", "#c000ad")
    for axes, picture, (caption, colour) in zip(panels, pictures, captions, strict=True):
        axes.imshow(picture)
        axes.set_title(caption, size=9, color=colour, parse_math=False)
