"""Charts of `report.html`: inline SVG that takes its colours and fonts from the page's style sheet.

Drawn by matplotlib without a time or a random id, so that equal values are equal text.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg.metrics import LEAST_JACCARD
from jaxseg.report.curves import draw_curves

if TYPE_CHECKING:
    # Imported only to draw: the import takes as long as that of JAX, and training draws after its first epoch.
    from matplotlib.figure import Figure

_WIDTH_INCHES = 3.75  # 360 px at the size of the page's text: a phone's width
_RC = {
    "svg.fonttype": "none",  # text stays text: selected, searched, read aloud
    "svg.hashsalt": "jaxseg",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "font.size": 9,
}
# Colours that matplotlib draws with, and the page's variables for them, which differ in light and dark mode.
_COLOURS = {
    "#0072b2": "var(--first)",
    "#d55e00": "var(--second)",
    "#595959": "var(--muted)",
    "#b0b0b0": "var(--grid)",
    "#000000": "var(--ink)",
}


def curves(history: Sequence[Mapping[str, Any]], ids: str) -> tuple[str, str, str]:
    """Returns charts of loss, validation scores and learning rate over the epochs.

    Args:
      history: the lines of `metrics.jsonl`.
      ids: prefix of the charts' ids, unique on the page.
    """
    from matplotlib import rc_context

    with rc_context(_RC):
        figures = [_figure(2.5) for _ in range(3)]
        draw_curves([figure.subplots() for figure in figures], history)
        loss, score, rate = (_svg(figure, f"{ids}{i}-") for i, figure in enumerate(figures))
    return loss, score, rate


def histogram(dice: Sequence[float], ids: str) -> str:
    """Returns a histogram of Dice per image over [0, 1] in steps of 0.05, with the median marked.

    Args:
      dice: Dice of each image.
      ids: prefix of the chart's ids, unique on the page.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.hist(dice, bins=np.linspace(0, 1, 21), color="#0072b2", rwidth=0.88)
        median = float(np.median(dice))
        axes.axvline(median, color="0.35", linestyle="--", linewidth=1.2, label=f"median {median:.3f}")
        axes.set(xlim=(0, 1), xlabel="Dice of an image", ylabel="images")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left")

    return _chart(draw, 3.0, ids)


def reliability(bins: Sequence[Mapping[str, float]], ids: str) -> str:
    """Returns a chart of the share of lesion over the predicted probability, above the pixels in each bin.

    Args:
      bins: "from", "to", "probability" (mean) and "lesion" (share) of each bin, in [0, 1], and "pixels", a count.
      ids: prefix of the chart's ids, unique on the page.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    filled = [b for b in bins if b["pixels"]]

    def draw(figure: "Figure") -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], color="0.35", linestyle="--", linewidth=1, label="as it should be")
        points = [b["probability"] for b in filled], [b["lesion"] for b in filled]
        above.plot(*points, color="#0072b2", marker="o", markersize=4, linewidth=1.6, label="this model")
        above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that is lesion")
        above.legend(loc="upper left")
        edges = [b["from"] for b in filled], [b["pixels"] for b in filled], [b["to"] - b["from"] for b in filled]
        below.bar(*edges, align="edge", color="#0072b2", edgecolor="none", alpha=0.6)
        below.set(yscale="log", xlabel="predicted probability of lesion", ylabel="pixels")
        below.yaxis.set_major_locator(LogLocator(numticks=3))
        below.yaxis.set_major_formatter(EngFormatter(sep=""))
        below.yaxis.set_minor_locator(NullLocator())
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.set_axisbelow(True)

    return _chart(draw, 3.6, ids)


def triage(trust: Sequence[float], jaccard: Sequence[float], ids: str) -> str:
    """Returns a chart of the failures that are left over the share of images looked at, the least trusted first.

    Args:
      trust: score of each image without the truth.
      jaccard: Jaccard of each image; below `LEAST_JACCARD` the mask failed, and at least one did.
      ids: prefix of the chart's ids, unique on the page.
    """
    failed = np.asarray(jaccard) < LEAST_JACCARD
    images, failures = len(failed), int(failed.sum())
    looked_at = np.arange(images + 1) / images

    def left(order: np.ndarray) -> np.ndarray:
        return failures - np.concatenate([[0], np.cumsum(failed[order])])

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [failures, 0], color="0.35", linestyle="--", linewidth=1, label="in any order")
        axes.plot(looked_at, left(np.argsort(jaccard)), color="#b0b0b0", linewidth=1.2, label="at best")
        axes.plot(looked_at, left(np.argsort(trust, kind="stable")), color="#0072b2", linewidth=1.8, label="by trust")
        axes.set(xlim=(0, 1), ylim=(0, 1.05 * failures), xlabel="share of images looked at", ylabel="failures left")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(loc="upper right")

    return _chart(draw, 3.0, ids)


def _chart(draw: Callable[["Figure"], None], height: float, ids: str) -> str:
    from matplotlib import rc_context

    with rc_context(_RC):
        figure = _figure(height)
        draw(figure)
        return _svg(figure, ids)


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")


def _svg(figure: "Figure", ids: str) -> str:
    """Returns a figure as an SVG element that can stand in a page among others."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL
    )  # a style sheet here would rule the whole page
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{ids}", svg)
    svg = re.sub(
        r' width="[^"]*pt" height="[^"]*pt"', ' aria-hidden="true"', svg, count=1
    )  # the caption tells its content
    svg = re.sub(r"font-family: [^;]*;|\s*font: [^;]*;", "", svg)
    for colour, name in _COLOURS.items():
        svg = svg.replace(colour, name)
    return svg
