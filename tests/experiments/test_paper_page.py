"""The page of the experiments, of hand-made sections: what it says, that it is safe, and what is not there yet."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.paper.page import write_page
from jaxseg.errors import UserError

HOSTILE = "<script>alert(1)</script>\"'&|[x]"

VOID = {"meta", "link", "img", "br"}


def section(out: Path, name: str = "three_models", **changes) -> dict:
    """Leaves a section with one table and one figure."""
    folder = out / "sections" / name
    folder.mkdir(parents=True)
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(folder / "the bars.png")
    content = {
        "name": name,
        "title": "Three models",
        "paper": "4.5, Fig. 6 and 7",
        "about": "Three models\nbeside each other.\n\nOn one split.",
        "tables": [
            {
                "caption": "Mean over images",
                "head": ["Model", "Dice", "Notes"],
                "rows": [["U-Net", "0.8125 ± 0.1", "weak"], ["full", "", "not run"]],
            }
        ],
        "figures": [{"file": "the bars.png", "caption": "Bars of all"}],
        "missing": ["ImageNet weights of V2: not at hand"],
        "synthetic": False,
        "scale": "cpu",
        "source": {
            "command": "python -m experiments.three --out x",
            "commit": "0123abc",
            "date": "2026-07-01",
            "hardware": "2 CPU cores",
            "versions": "jax 0.10.2",
            "seconds": 123.4,
        },
    } | changes
    (folder / "section.json").write_text(json.dumps(content))
    return content


class Page(HTMLParser):
    """Collects tags and their attributes, and fails where one is closed that is not the last opened."""

    def __init__(self, path: Path):
        super().__init__()
        self.found, self.open = [], []
        self.feed(path.read_text())
        assert not self.open

    def handle_starttag(self, tag, attrs):  # noqa: D102
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):  # noqa: D102
        assert self.open.pop() == tag


def text_of(path: Path) -> str:
    body = re.sub(r"<(style|title).*?</\1>", " ", path.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_both_files_say_what_the_section_does(tmp_path):
    """If broken, a number, a figure or what was not run is on neither or only one of the two pages."""
    section(tmp_path)
    page = write_page(tmp_path, ["three_models"])
    assert page == tmp_path / "index.html"
    seen, markdown = text_of(page), (tmp_path / "results.md").read_text()
    for text in (
        "Three models beside each other.",
        "On one split.",
        "4.5, Fig. 6 and 7",
        "Mean over images",
        "0.8125 ± 0.1",
        "weak",
        "ImageNet weights of V2: not at hand",
        "python -m experiments.three --out x",
        "commit 0123abc",
        "2026-07-01",
        "2 CPU cores",
        "jax 0.10.2",
        "2 min",
        "scale cpu",
    ):
        assert text in markdown
        assert text.replace("commit ", "Commit ").replace("scale ", "scale: ") in seen
    assert "| U-Net | 0.8125 ± 0.1 | weak |" in markdown
    assert "![Bars of all](sections/three_models/the%20bars.png)" in markdown
    found = Page(page).found
    (image,) = [attributes for tag, attributes in found if tag == "img"]
    assert (image["src"], image["alt"]) == ("sections/three_models/the%20bars.png", "Bars of all")
    assert (image["width"], image["height"]) == ("40", "30")
    assert {a["href"] for tag, a in found if tag == "a"} == {"#three_models"}
    of_words = [a.get("class") == "words" for tag, a in found if tag == "td"]
    assert of_words == [False, True] * 2
    assert "SYNTHETIC" not in seen + markdown


def test_sections_come_in_order_and_what_is_not_there_is_told(tmp_path):
    """If broken, an experiment that never ran is passed over in silence, or its lost picture is."""
    section(tmp_path, "b", title="Second")
    section(tmp_path, "a", title="First", paper="")
    (tmp_path / "sections" / "a" / "the bars.png").unlink()
    page = write_page(tmp_path, ["a", "hard_cases", "b"])
    for text in (text_of(page), (tmp_path / "results.md").read_text()):
        places = [text.rindex(part) for part in ("First", "Hard cases", "Second")]
        assert places == sorted(places)
        assert "Not run" in text[places[1] : places[2]]
        assert "Not in the paper" in text
        assert "the bars.png: the picture is not there" in text
    found = Page(page).found
    ids = [a["id"] for tag, a in found if tag == "section"]
    assert ids == ["a", "hard_cases", "b"] == [a["href"][1:] for tag, a in found if tag == "a"]


def test_synthetic_data_is_told_in_red_and_only_there(tmp_path):
    """If broken, a synthetic number passes for a real one."""
    section(tmp_path, "made_up", synthetic=True)
    section(tmp_path, "real")
    for names, alarms in ((["made_up", "real"], 1), (["real"], 0)):
        page = write_page(tmp_path, names)
        found = Page(page).found
        assert sum(a.get("class") == "alarm" for _, a in found) == alarms
        assert sum(a.get("class") == "synthetic" for tag, a in found if tag == "p") == alarms
        assert (tmp_path / "results.md").read_text().count("**SYNTHETIC DATA") == alarms


def test_whatever_is_shown_is_escaped(tmp_path):
    """If broken, a text of a section runs as code, or a bar in a cell moves all that follows into other columns."""
    content = section(tmp_path, title=HOSTILE, about=HOSTILE, paper=HOSTILE, missing=[HOSTILE], scale=HOSTILE)
    table = {"caption": HOSTILE, "head": [HOSTILE] * 2, "rows": [[HOSTILE] * 2]}
    figure = {"file": "the bars.png", "caption": HOSTILE}
    source = dict.fromkeys(content["source"], HOSTILE) | {"seconds": 1}
    path = tmp_path / "sections/three_models/section.json"
    path.write_text(json.dumps(content | {"tables": [table], "figures": [figure], "source": source}))
    page = write_page(tmp_path, ["three_models"])
    found = Page(page).found
    assert "script" not in {tag for tag, _ in found}
    assert {a["alt"] for tag, a in found if tag == "img"} == {HOSTILE}
    assert text_of(page).count(HOSTILE) > 10
    lines = (tmp_path / "results.md").read_text().splitlines()
    code = [line for line in lines if line.startswith("Source")]  # in backticks it is no HTML
    assert "<script" not in "".join(line.partition("`")[0] if line in code else line for line in lines)
    for line in lines:
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) == 3
        if line.startswith("!["):
            assert re.fullmatch(r"!\[([^\[\]]|\\\[|\\\])*\]\(sections/[^ ]*\)", line)


def test_the_page_loads_only_its_pictures(tmp_path):
    """If broken, it asks a server, or is blank without network."""
    section(tmp_path)
    page = write_page(tmp_path, ["three_models"])
    for tag, attributes in Page(page).found:
        assert tag not in ("script", "iframe", "object")
        for name in ("href", "src"):
            assert attributes.get(name, "#").startswith(("#", "data:", "sections/"))
    assert not re.search(r"url\(|@import|https?:", page.read_text())


def test_a_damaged_section_is_told_in_a_line(tmp_path):
    """If broken, a file cut short ends in a traceback, or its section is told as not run."""
    section(tmp_path)
    path = tmp_path / "sections/three_models/section.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(UserError, match=r"section\.json: is damaged .*; run the experiment again"):
        write_page(tmp_path, ["three_models"])
