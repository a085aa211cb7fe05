"""Training curves: loss, validation scores and learning rate over the epochs."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from jaxseg.report.figures import empty_figure, save_figure


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
        `val_jaccard`, `learning_rate`. A value that is missing, null, or not finite leaves a gap.
      path: the PNG file, replaced in one step; its folder is made if necessary.
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
    """Draws loss, validation scores and learning rate on three axes.

    Args:
      panels: three axes.
      history: the lines of `metrics.jsonl`.
      best_epoch: the epoch to mark; default: the first with the lowest validation loss.
    """
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
    # Markers show a single epoch, or one between two gaps, which a line alone would not.
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
