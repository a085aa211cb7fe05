"""Writes the experiments' sections as one HTML page and as Markdown.

Each experiment writes a folder `OUT/sections/NAME` with a `section.json` (description, tables, figures, what could not
be run, and the origin of the numbers) and the PNG files that it names. `write_page` turns them into `OUT/index.html`
and `OUT/results.md`. The page loads its figures and nothing else, and runs no script.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from PIL import Image

import jaxseg
from experiments.shared.tables import markdown
from jaxseg.errors import UserError
from jaxseg.report.figures import SYNTHETIC_NOTE
from jaxseg.report.page import duration
from jaxseg.system.files import write_text

SECTIONS, SECTION = "sections", "section.json"


def write_page(out: Path, names: Sequence[str]) -> Path:
    """Writes `index.html` and `results.md`.

    Args:
      out: folder of the study, which holds `sections/`.
      names: names of the sections in their order; a section that is not there is shown as not run.

    Returns:
      The page's path.

    Raises:
      UserError: a damaged `section.json`.
    """
    sections = [_read(out, name) for name in names]
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(Path(__file__).parent / "templates"), PackageLoader("jaxseg.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    page = environment.get_template("paper.html")
    html = page.render(sections=sections, note=SYNTHETIC_NOTE, version=jaxseg.__version__)
    write_text(out / "results.md", _markdown(sections))
    write_text(out / "index.html", html)
    return out / "index.html"


def _read(out: Path, name: str) -> dict[str, Any]:
    """Returns a section with all that the page needs; a section that is not there has "source" None."""
    folder = out / SECTIONS / name
    if not (folder / SECTION).is_file():
        title = name.replace("_", " ").capitalize()
        return {"name": name, "title": title, "synthetic": False, "source": None}
    try:
        section = json.loads((folder / SECTION).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / SECTION}: is damaged ({error}); run the experiment again") from error
    figures = [figure for figure in section["figures"] if (folder / figure["file"]).is_file()]
    lost = [figure["file"] for figure in section["figures"] if figure not in figures]
    return {
        **section,
        "name": name,
        "paragraphs": [" ".join(text.split()) for text in re.split(r"\n\s*\n", section["about"]) if text.strip()],
        "tables": [{**table, "words": _wordy(table["rows"])} for table in section["tables"]],
        "figures": [_figure(folder, figure) for figure in figures],
        "missing": [*section["missing"], *(f"{file}: the picture is not there" for file in lost)],
    }


def _figure(folder: Path, figure: dict[str, str]) -> dict[str, Any]:
    """Returns a figure with its link, relative to `out`, and its size in pixels, so that the page does not jump."""
    with Image.open(folder / figure["file"]) as image:
        return {**figure, "link": quote(f"{SECTIONS}/{folder.name}/{figure['file']}"), "size": image.size}


def _wordy(rows: Sequence[Sequence[str]]) -> list[bool]:
    """Returns which columns hold other text than numbers: they are set flush left, and their lines may break."""
    return [not all(re.match(r"\W*(\d|$)", cell) for cell in column) for column in zip(*rows, strict=True)]


def _markdown(sections: Sequence[dict[str, Any]]) -> str:
    """Returns the page's content as Markdown."""
    parts = ["# The paper's experiments"]
    for section in sections:
        parts.append(f"## {_text(section['title'])}")
        source = section["source"]
        if source is None:
            parts.append("Not run.")
            continue
        if section["synthetic"]:
            parts.append(f"**{SYNTHETIC_NOTE}**")
        parts.append(f"Paper, {_text(section['paper'])}." if section["paper"] else "Not in the paper.")
        parts += map(_text, section["paragraphs"])
        for table in section["tables"]:
            cells = ([_cell(cell) for cell in row] for row in (table["head"], *table["rows"]))
            parts += [_text(table["caption"]), markdown(next(cells), list(cells))]
        parts += [f"![{_bracketed(figure['caption'])}]({figure['link']})" for figure in section["figures"]]
        if section["missing"]:
            parts.append("\n".join(["Not run here:", "", *(f"- {_text(text)}" for text in section["missing"])]))
        took = f"{duration(source['seconds'])} at scale {section['scale']}"
        where = (took, source["hardware"], source["versions"], source["date"], f"commit {source['commit']}")
        parts.append(f"Source: {', '.join(map(_text, where))}: `{source['command']}`")
    return "\n\n".join(parts) + "\n"


def _text(text: str) -> str:
    """Returns plain text for Markdown, on one line and without HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")


def _cell(text: str) -> str:
    return _text(text).replace("|", r"\|")


def _bracketed(text: str) -> str:
    return re.sub(r"([\[\]])", r"\\\1", _text(text))
