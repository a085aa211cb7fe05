"""Charts of the paper's experiments."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper.rows import mean_sd
from experiments.shared.origin import JSON
from jaxseg.report.figures import empty_figure, save_figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Colours of Okabe and Ito, which colour-blind readers can distinguish."""

MARKERS = "os^Dv*PX"


def curves(results: Sequence[JSON], path: Path, *, synthetic: bool) -> None:
    """Draws training and validation loss and accuracy over the epochs (Fig. 6): mean and range over a row's runs.

    Args:
      results: results of rows.
      path: PNG file.
      synthetic: whether to mark the picture as made of generated images.
    """
    figure = empty_figure(13, 4.8, "", synthetic)
    axes = figure.subplots(1, 2)
    for ax, name in zip(axes, ("loss", "accuracy"), strict=True):
        for result, colour in zip(results, COLOURS, strict=False):
            for part, style in (("train", "--"), ("val", "-")):
                runs = [run["curves"][f"{part}_{name}"] for run in result["members"]]
                epochs = min(map(len, runs))  # beyond, some runs have stopped early
                stacked = np.array([run[:epochs] for run in runs])
                x = np.arange(1, epochs + 1)
                ax.plot(x, stacked.mean(axis=0), style, color=colour, label=result["title"] if part == "val" else None)
                ax.fill_between(x, stacked.min(axis=0), stacked.max(axis=0), color=colour, alpha=0.12, linewidth=0)
        ax.set(title=f"{name.capitalize()}; dashed: training", xlabel="epoch")
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    save_figure(figure, path)


def bars(
    results: Mapping[str, Mapping[str, Sequence[float]]],
    path: Path,
    *,
    synthetic: bool,
    paper: Mapping[str, Mapping[str, float]],
) -> None:
    """Draws loss and scores as bars, mean and standard deviation (Fig. 7), with the paper's as black lines.

    Args:
      results: number of each run, by the model's title and by the name under the bars.
      path: PNG file.
      synthetic: whether to mark the picture as made of generated images.
      paper: the paper's numbers, by the same names.
    """
    figure = empty_figure(9, 4.5, "", synthetic)
    ax = figure.subplots()
    width = 0.8 / len(results)
    for i, ((title, numbers), colour) in enumerate(zip(results.items(), COLOURS, strict=False)):
        places = np.arange(len(numbers)) + (i - (len(results) - 1) / 2) * width
        means, sds = zip(*map(mean_sd, numbers.values()), strict=True)
        ax.bar(places, means, width, yerr=sds, color=colour, label=title, capsize=2)
        for place, name in zip(places, numbers, strict=True):
            if (value := paper.get(title, {}).get(name)) is not None:
                ax.hlines(value, place - width / 2, place + width / 2, color="black", linewidth=2)
    ax.hlines([], 0, 0, color="black", linewidth=2, label="the paper")
    ax.set_xticks(places - (len(results) - 1) / 2 * width, numbers)
    ax.set_ylim(0, 1)
    ax.grid(axis="y", alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    save_figure(figure, path)


def stacked(parts: Mapping[str, Mapping[str, float]], path: Path, *, synthetic: bool, x_label: str) -> None:
    """Draws parts of a whole as bars end to end, a line for each model, the first at the top.

    Args:
      parts: numbers by the model's title and by the part's name, which are the same for all.
      path: PNG file.
      synthetic: whether to mark the picture as made of generated images.
      x_label: name of the whole.
    """
    figure = empty_figure(9, 1.5 + 0.45 * len(parts), "", synthetic)
    ax = figure.subplots()
    titles = list(parts)
    begun = np.zeros(len(titles))
    for name, colour in zip(parts[titles[0]], COLOURS, strict=False):
        widths = np.array([parts[title][name] for title in titles])
        bar = ax.barh(titles, widths, left=begun, color=colour, label=name)
        ax.bar_label(bar, [f"{width:.3f}" for width in widths], label_type="center", fontsize=8, color="white")
        begun += widths
    ax.invert_yaxis()
    ax.set_xlabel(x_label)
    ax.grid(axis="x", alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    save_figure(figure, path)


def lines(
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    path: Path,
    *,
    synthetic: bool,
    x_label: str,
    y_label: str,
    log_x: bool = False,
) -> None:
    """Draws means and standard deviations over a quantity.

    Args:
      series: triples of quantity, mean and standard deviation, by label.
      path: PNG file.
      synthetic: whether to mark the picture as made of generated images.
      x_label: name of the quantity.
      y_label: name of the score.
      log_x: whether the quantity's axis is logarithmic.
    """
    figure = empty_figure(8, 4.8, "", synthetic)
    ax = figure.subplots()
    _draw_lines(ax, series)
    ax.set(xlabel=x_label, ylabel=y_label)
    if log_x:
        ticks = sorted({x for points in series.values() for x, _, _ in points})
        ax.set_xscale("log")
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    ax.legend(fontsize=8)
    save_figure(figure, path)


def grid(
    charts: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]],
    path: Path,
    *,
    synthetic: bool,
    x_label: str,
    y_label: str,
    columns: int = 3,
) -> None:
    """Draws several charts of means and standard deviations on common axes.

    Args:
      charts: triples of quantity, mean and standard deviation, by title and label.
      path: PNG file.
      synthetic: whether to mark the picture as made of generated images.
      x_label: name of the quantity.
      y_label: name of the score.
      columns: charts beside each other.
    """
    count = -(-len(charts) // columns)
    figure = empty_figure(4.2 * columns, 3.1 * count, "", synthetic)
    axes = figure.subplots(count, columns, squeeze=False, sharex=True, sharey=True)
    for ax, chart in itertools.zip_longest(axes.flat, charts.items()):
        if chart is None:
            ax.set_axis_off()
            continue
        _draw_lines(ax, chart[1])
        ax.set_title(chart[0], fontsize=10)
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel(x_label, fontsize=10)
    figure.supylabel(y_label, fontsize=10)
    save_figure(figure, path)


def _draw_lines(ax: Any, series: Mapping[str, Sequence[tuple[float, float, float]]]) -> None:
    for (label, points), colour, marker in zip(series.items(), COLOURS, MARKERS, strict=False):
        x, mean, sd = np.array(points).T
        ax.errorbar(x, mean, sd, color=colour, marker=marker, markersize=4, capsize=2, linewidth=1.5, label=label)
    ax.grid(alpha=0.3)
