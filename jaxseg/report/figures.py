"""What all figures share: an empty figure with its synthetic note, and writing PNG files in one step."""

import os
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from jaxseg.system.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SYNTHETIC_NOTE = "SYNTHETIC DATA: no result on real lesions"
"""On pictures, in red."""


SYNTHETIC_MARK = "  *** SYNTHETIC DATA ***"
"""At the end of log lines."""


_DPI = 100


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
