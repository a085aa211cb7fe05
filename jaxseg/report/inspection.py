"""`inspect.html`: a data set on one page, with the outlines of its masks as they will be read.

The page is a single file: it loads nothing and runs no script.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxseg.errors import UserError
from jaxseg.report import html
from jaxseg.report.overlays import overlay
from jaxseg.system.files import read_json, write_json, write_text

PAGE, NUMBERS = "inspect.html", "inspect.json"

SIDE = 320
"""Longer side of a picture on the page, pixels."""


def picture(image: np.ndarray, mask: np.ndarray | None) -> str:
    """Draws a small picture with the outline of its mask.

    Args:
      image: uint8 [H, W, 3], RGB in [0, 255].
      mask: uint8 [H, W, 1] in {0, 1}, or None where it cannot be read.

    Returns:
      A JPEG as a data URI.
    """
    scale = min(1.0, SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    if mask is not None:
        share = Image.fromarray(mask[..., 0] * np.uint8(255)).resize(size, Image.Resampling.BOX)
        small = overlay(small, np.zeros(small.shape[:2], bool), np.asarray(share) > 127)
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, "JPEG", quality=85)
    return html.jpeg_uri(buffer.getvalue())


def check_may_replace(out: Path, dataset: str) -> None:
    """Makes sure that a folder holds no files that the page or the numbers of another data set would replace.

    Args:
      out: the folder.
      dataset: the set's name, or its folder.

    Raises:
      UserError: it holds an inspection of another set, or a file of that name that is none; or it is a file itself.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; give a folder")
    there = [name for name in (PAGE, NUMBERS) if (out / name).exists()]
    if not there:
        return
    try:
        stored = read_json(out / NUMBERS)["dataset"]
    except (UserError, KeyError, TypeError):
        raise UserError(f"--out {out}: holds {there[0]}, which is not of an inspection; give another folder") from None
    if stored != dataset:
        raise UserError(f"--out {out}: holds the inspection of another data set, {stored}; give another folder")


def write_inspection(out: Path, numbers: Mapping[str, Any], pictures: Sequence[Mapping[str, str]]) -> Path:
    """Writes the page and the numbers.

    Args:
      out: folder for both files; made if it is not there.
      numbers: the content of `inspect.json`, as from `jaxseg.data.survey.summary`.
      pictures: what to show, each with "name", "split", "group", "doubt" and "uri".

    Returns:
      The page's path.
    """
    write_json(out / NUMBERS, numbers)
    write_text(out / PAGE, html.environment().get_template(PAGE).render(n=numbers, pictures=pictures))
    return out / PAGE
