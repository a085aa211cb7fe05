"""`report.html` of made-up files: what it says, that it is safe and stands alone, and that no file ends it."""

import fnmatch
import hashlib
import html
import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jaxseg.report import charts
from jaxseg.report.page import SCORES, write_page
from tests.helpers.made_up_run import a_run, an_evaluation
from tests.helpers.paths import ROOT

HOSTILE = "<script>alert(1)</script>\"'&$x$"


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def text_of(page: Path) -> str:
    """Returns what a reader sees, on one line."""
    body = re.sub(r"<(style|svg|title).*?</\1>", " ", page.read_text(), flags=re.DOTALL)
    spaced = re.sub(r"(<dd|</p>)", r" \1", body)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", spaced)).split())


class Elements(HTMLParser):
    """Collects a page's tags with their attributes."""

    def __init__(self, page: Path):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):  # noqa: D102
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def run(tmp_path) -> Path:
    return a_run(tmp_path / "run")


def test_the_page_says_what_was_trained_and_how_well_it_does(run):
    """If broken, the page shows other numbers than the files hold, or leaves out what makes sense of them."""
    folder = an_evaluation(run / "evaluation/isic2016-test")
    metrics = json.loads((folder / "metrics.json").read_text())
    page = write_page(run)
    assert page == run / "report.html"
    text = text_of(page)
    low, high = metrics["native"]["per_image_interval"]["dice"]
    for part in (
        "ResNet50V2-U-Net, trained on PH2",
        f"Dice, mean over images {metrics['native']['per_image']['dice']:.3f}",
        f"95% interval {low:.3f}\N{EN DASH}{high:.3f}, n = 9 images",
        "Scored on ISIC 2016, test split: 9 images",
        "Seen in training none of the scored images",
        f"{metrics['calibration']['expected_calibration_error']:.3f}",
        "By diagnosis",
        "quartile 1, smallest",
        "Seed 4711",
        "Commit 0123456789ab",
        "aaaa1111",
        "8 \N{MULTIPLICATION SIGN} H100",
        "1 h 7 min",
        "30,494,657",
        "jax 0.10.2",
        "model.encoder",
    ):
        assert part in text
    for label, meaning in SCORES.values():
        assert label in text
        assert meaning in text
    tags = [tag for tag, _ in Elements(page).found]
    assert tags.count("figure") == 3 + 2 + 3  # curves, histogram and calibration, cases
    assert "SYNTHETIC" not in text


def test_synthetic_data_is_told_in_red_and_only_there(tmp_path):
    """If broken, a synthetic score passes for a real one."""
    for data, scored, alarms in (("ph2", False, 0), ("synthetic", False, 1), ("ph2", True, 1), ("synthetic", True, 1)):
        run = a_run(tmp_path / f"{data}-{scored}", data)
        an_evaluation(run / "evaluation/x", synthetic=scored, dataset="synthetic" if scored else "ph2")
        found = Elements(write_page(run)).found
        assert sum(a.get("class") == "alarm" for _, a in found) == alarms
        assert (sum(a.get("class") == "synthetic" for _, a in found) > 0) == bool(alarms)


def test_what_flatters_the_scores_is_told(run):
    """If broken, scores on images that were trained on, or chose weights or threshold, pass for an honest test."""
    folder = an_evaluation(
        run / "evaluation/x", dataset="ph2", split="validation", trained_on=3, fingerprint="bbbb2222"
    )
    chosen = {"dataset": "ph2", "split": "validation", "scored_images": 7}
    members = [{"workdir": "a", "step": 1}, {"workdir": "b", "step": 1}]
    edit(
        folder / "metrics.json",
        prediction={
            "threshold": 0.375,
            "threshold_chosen_on": chosen,
            "ensemble": members,
            "test_time_augmentation": True,
            "largest_component": True,
            "fill_holes": True,
        },
    )
    text = text_of(write_page(run))
    for part in (
        "3 of the 9 scored images were trained on: this is not an honest test",
        "These images chose the epoch",
        "The threshold was chosen on 7 of the scored images",
        "above 0.375, chosen on PH2 validation",
        "2 runs: a, b",
        "test-time augmentation",
        "largest connected part",
        "holes are filled",
    ):
        assert part in text
    edit(folder / "metrics.json", data={"trained_on": None, "images": 9}, prediction={})
    assert "Seen in training not known" in text_of(write_page(run))


def test_scores_per_image_of_another_evaluation_are_told(run):
    """If broken, the page draws one evaluation's images beside another's means."""
    folder = an_evaluation(run / "evaluation/x")
    digest = hashlib.sha256((folder / "per_image.csv").read_bytes()).hexdigest()
    edit(folder / "metrics.json", per_image_sha256=digest)
    assert "per_image.csv is not as it was written" not in text_of(write_page(run))
    edit(folder / "metrics.json", per_image_sha256="0" * 64)
    assert "per_image.csv is not as it was written" in text_of(write_page(run))


def test_scores_of_other_weights_are_told(run):
    """If broken, scores from before a run went on pass for those of its present weights."""
    folder = an_evaluation(run / "evaluation/x")
    assert "Evaluate again" not in text_of(write_page(run))
    edit(folder / "metrics.json", model={"step": 30})
    assert "Scored at step 30, but the run went on: its best weights are of step 50" in text_of(write_page(run))


def test_whatever_is_shown_is_escaped(tmp_path):
    """If broken, a file's name runs as code in the reader's browser, or breaks the page."""
    run = a_run(tmp_path / HOSTILE.replace("/", "-"), data=HOSTILE)
    edit(run / "config.json", commit=HOSTILE, versions={HOSTILE: HOSTILE}, started=HOSTILE)
    folder = an_evaluation(run / "evaluation/x", name=HOSTILE, group=HOSTILE, dataset=HOSTILE, split=HOSTILE)
    edit(folder / "metrics.json", prediction={"ensemble": [{"workdir": HOSTILE}, {"workdir": HOSTILE}]})
    found = Elements(write_page(run)).found
    assert "script" not in {tag for tag, _ in found}
    assert f"{HOSTILE}0" in {a.get("aria-label") for _, a in found}
    attributes = {name for _, a in found for name in a}
    assert not {name for name in attributes if name.startswith("on") or "$" in name or "<" in name}


def test_the_page_stands_alone(run):
    """If broken, it is blank without network, asks a server, runs a script, or several charts share an id."""
    for name in ("a", "b"):
        an_evaluation(run / "evaluation" / name)
    page = write_page(run)
    found = Elements(page).found
    assert not {"script", "iframe", "object", "img"} & {tag for tag, _ in found}
    for _, attributes in found:
        for name in ("href", "xlink:href", "src"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)|@import", page.read_text())
    ids = [a["id"] for _, a in found if "id" in a]
    assert len(ids) == len(set(ids)) > 100
    linked = {a[n][1:] for _, a in found for n in ("href", "xlink:href") if a.get(n, "").startswith("#")}
    assert linked <= set(ids)
    pictures = [a["href"] for tag, a in found if tag == "image"]
    assert len(pictures) == len(set(pictures)) * 2 == 6  # the two evaluations hold the same, each once


def test_the_latest_evaluation_comes_first(run):
    """If broken, the headline is that of an old evaluation."""
    for name, age in (("a", 20), ("b", 0), ("c", 10)):
        an_evaluation(run / "evaluation" / name, split=name, images=3 + age, age=age)
    text = text_of(write_page(run))
    assert "n = 3 images" in text
    assert re.findall(r"Scores on ISIC 2016, (\w)", text) == ["b", "c", "a"]


def test_an_evaluation_elsewhere_has_a_page_of_its_own(run, tmp_path):
    """If broken, the page of an evaluation elsewhere is missing, or that of the run loses its evaluations."""
    inside = an_evaluation(run / "evaluation/a", split="inside")
    outside = an_evaluation(tmp_path / "elsewhere", split="outside")
    assert write_page(run, inside) == run / "report.html"
    assert write_page(run, outside) == outside / "report.html"
    assert "outside" not in text_of(run / "report.html")
    assert "inside" not in text_of(outside / "report.html")


def test_a_run_that_is_not_scored_says_how_to(run):
    """If broken, who has trained does not learn what to do next."""
    text = text_of(write_page(run))
    assert f"python -m jaxseg.evaluate --workdir {run}" in text
    assert "0.876" in text or "0.877" in text
    assert "Failed" not in text


def test_equal_files_make_equal_pages(run):
    """If broken, a page cannot be compared with one made before, and tests of it are chance."""
    an_evaluation(run / "evaluation/a")
    assert write_page(run).read_bytes() == write_page(run).read_bytes()


FILES = ("config.json", "metrics.jsonl", "summary.json", "metrics.json", "per_image.csv", "cases.json", "cases/0.jpg")


@pytest.mark.parametrize("missing", FILES)
@pytest.mark.parametrize("how", ["absent", "empty", "cut"])
def test_missing_and_damaged_files_leave_a_part_out(run, missing, how, monkeypatch):
    """If broken, an old or interrupted run ends its evaluation in a traceback instead of a page."""
    monkeypatch.setattr(charts, "_svg", lambda figure, ids: "")  # what takes the time
    folder = an_evaluation(run / "evaluation/a")
    path = next(p for p in (run / missing, folder / missing) if p.exists())
    content = path.read_bytes()
    path.unlink()
    if how != "absent":
        path.write_bytes(content[: len(content) // 2 if how == "cut" else 0])
    assert "</html>" in write_page(run).read_text()


def keys(values: dict, depth: int) -> list[tuple[str, ...]]:
    result = []
    for key, value in values.items():
        result.append((key,))
        if depth > 1 and isinstance(value, dict):
            result += [(key, *rest) for rest in keys(value, depth - 1)]
    return result


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "summary.json"])
def test_files_of_older_versions_leave_a_part_out(run, name, monkeypatch):
    """If broken, the page of an evaluation from before intervals, subgroups or calibration is a traceback."""
    monkeypatch.setattr(charts, "_svg", lambda figure, ids: "")  # what takes the time
    folder = an_evaluation(run / "evaluation/a")
    path = folder / name if name == "metrics.json" else run / name
    whole = path.read_text()
    for lost in keys(json.loads(whole), 2):
        values = json.loads(whole)
        part = values
        for key in lost[:-1]:
            part = part[key]
        del part[lost[-1]]
        path.write_text(json.dumps(values))
        assert "</html>" in write_page(run).read_text(), f"without {lost}"


def test_templates_are_installed():
    """If broken, an installed jaxseg lacks the page's template, which a checkout has."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "jaxseg.report"
    ]
    templates = [f"templates/{p.name}" for p in (ROOT / "jaxseg/report/templates").iterdir()]
    assert sorted(templates) == ["templates/inspect.html", "templates/report.css", "templates/report.html"]
    assert all(any(fnmatch.fnmatch(t, p) for p in patterns) for t in templates)
