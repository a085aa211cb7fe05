"""What all figures share: an empty figure with its synthetic note, and writing PNG files in one step."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jaxseg.system.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SYNTHETIC_NOTE = "SYNTHETIC DATA: no result on real lesions"
"""Note on pictures, in red."""


SYNTHETIC_MARK = "  *** SYNTHETIC DATA ***"
"""End of log lines."""


_DPI = 100


_MAKER = "jaxseg"
"""Key of the text in a PNG file that says what made it."""


_PHOTOGRAPH = "jaxseg-photograph"
"""Key of the text in a PNG file that says which photograph it shows."""


_PNG_START = b"\x89PNG\r\n\x1a\n"
"""First bytes of every PNG file."""


_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
"""Last bytes of a PNG file, behind which some programs leave more."""


def save_png(pixels: np.ndarray, path: str | os.PathLike[str], maker: str = "", photograph: str = "") -> None:
    """Writes a PNG file, replaced in one step.

    Args:
      pixels: uint8 [H, W, 3] in RGB, or [H, W] for grey, such as a {0, 255} mask.
      path: the file.
      maker: mark that says what made the picture, for `maker_of_png`; empty for none.
      photograph: mark that says which photograph it shows, for `photograph_of_png`; empty for none.
    """
    about = PngInfo()
    for key, mark in ((_MAKER, maker), (_PHOTOGRAPH, photograph)):
        if mark:
            about.add_text(key, mark)
    with replacing(path) as temporary:
        # Level 1 is several times as fast as the default and hardly larger.
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1, pnginfo=about)


def maker_of_png(path: str | os.PathLike[str]) -> str:
    """Returns the mark that `save_png` left in a file; empty where there is none, or no PNG file."""
    return _text_of_png(path, _MAKER)


def photograph_of_png(path: str | os.PathLike[str]) -> str:
    """Returns which photograph `save_png` was told that a file shows; empty where there is no such mark."""
    return _text_of_png(path, _PHOTOGRAPH)


def _text_of_png(path: str | os.PathLike[str], key: str) -> str:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return str(image.info.get(key, ""))
    except Exception:  # Pillow reports damage with a dozen kinds of exceptions
        return ""


def is_png(path: Path) -> bool:
    """Returns whether a file begins as PNG files do, or as far as it goes."""
    with path.open("rb") as file:
        return _PNG_START.startswith(file.read(len(_PNG_START)))


def is_whole(path: Path) -> bool:
    """Returns whether a file is complete as far as its end tells: an empty file and half a PNG file are not.

    What another program saved under a picture's name is complete if it is a picture of any kind, or has more behind its
    end.
    """
    try:
        with path.open("rb") as file:
            if path.suffix.lower() != ".png":
                return bool(file.read(1))
            file.seek(max(0, path.stat().st_size - len(_PNG_END)))
            if file.read() == _PNG_END:
                return True
            file.seek(0)
            if file.read(len(_PNG_START)) == _PNG_START:
                return _PNG_END in file.read()
        with Image.open(path) as image:
            image.load()
    except Exception:  # as above
        return False
    return True


def empty_figure(width: float, height: float, title: str, synthetic: bool) -> "Figure":
    """Returns an empty figure with a head, free of pyplot's global state and of any display.

    Args:
      width: inches.
      height: inches.
      title: first line of the head; may be empty.
      synthetic: whether the head says that the data are synthetic.
    """
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
    """Writes a figure as a PNG file, replaced in one step.

    Args:
      figure: a matplotlib figure.
      path: the file.
    """
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script that the font lacks
        # No version stamp: equal pictures are equal files.
        figure.savefig(temporary, format="png", metadata={"Software": None})
