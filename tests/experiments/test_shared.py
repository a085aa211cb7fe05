"""What all experiments share: origins without paths, and pages that scripts write into."""

import json
import statistics

import pytest

from experiments import keep_run
from experiments.shared import tables
from experiments.shared.origin import RESULTS, command_line, names_alone


def test_results_have_names_and_no_paths():
    """If broken, a result file shows a folder of the machine that made it, or loses what is no path."""
    folder = "/".join(["", "somewhere", "of", "mine"])
    result = {
        "command": f"python -m x --out {folder}/runs --pretrained={folder}/w.h5 --workdir runs/a --split isic:test",
        "settings": {"pretrained": f"{folder}/w.h5", "sizes": [1, 2.5, None, True]},
        "text": "293 images/s (293 to 296), 2 / 3 of https://example.org/a/b, or/and",
    }
    assert names_alone(result) == {
        "command": "python -m x --out runs --pretrained=w.h5 --workdir runs/a --split isic:test",
        "settings": {"pretrained": "w.h5", "sizes": [1, 2.5, None, True]},
        "text": result["text"],
    }
    assert command_line(["python", f"{folder}/my weights.h5", "~/w.h5", "../w.h5"]) == (
        "python 'my weights.h5' w.h5 w.h5"
    )


def test_only_the_text_between_the_marks_is_replaced(tmp_path, monkeypatch):
    """If broken, a script overwrites what others have written on the page, or adds a second table."""
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\nkept\n<!-- /b -->\nbelow\n")
    for text in ("first", "| new |"):
        tables.write_between("a", text, page)
    after = "above\n<!-- a -->\n| new |\n<!-- /a -->\nbetween\n<!-- b -->\nkept\n<!-- /b -->\nbelow\n"
    assert page.read_text() == after
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="lacks the marks <!-- c --> and <!-- /c -->"):
        tables.write_between("c", "lost", page)
    assert page.read_text() == after


MARKS = ("runs", "paper_cpu", "drawn_cpu", "paper_full", "fine-tuning", "keras-parity", "speed")


@pytest.mark.parametrize("mark", MARKS)
def test_the_page_of_results_has_all_marks(mark):
    """If broken, a script has no place for its table."""
    text = tables.PAGE.read_text()
    assert text.count(f"<!-- {mark} -->") == text.count(f"<!-- /{mark} -->") == 1


def test_every_link_of_the_page_of_results_leads_somewhere():
    """If broken, a moved page or chart leaves dead links behind."""
    text = tables.PAGE.read_text()
    links = [part.partition(")")[0] for part in text.split("](")[1:]]
    files = [link for link in links if not link.startswith(("#", "https://"))]
    assert len(files) > 10
    assert not [link for link in files if not (RESULTS / link).exists()]


def test_readme_s_table_is_that_of_the_files():
    """If broken, a number of README is not that of the kept file, or a row that is not scored ends the script."""
    names = (keep_run.STUDY, keep_run.RUN_IN_README, keep_run.HELD_OUT)
    study, run, held_out = (json.loads((RESULTS / f"{name}.json").read_text()) for name in names)
    lines = [line.strip("| ").split(" | ") for line in keep_run.short_table(study, run, held_out).splitlines()[2:]]
    assert len({len(cells) for cells in lines}) == 1
    scores = held_out["evaluations"]["as it is"]
    shown = [cells[4:8] for cells in lines if cells[3] == str(scores["images"])]
    each, pooled = scores["per_image"], scores["pooled"]
    numbers = (each["dice"], pooled["dice"], pooled["jaccard"], each["thresholded_jaccard"])
    assert shown[0] == [f"{number:.3f}" for number in numbers]
    full = study["rows"]["resnet_augmented"]["measured"]["native"]
    dice = statistics.fmean(run["external"]["as it is"]["native"]["per_image"]["dice"] for run in full)
    assert lines[1][4].startswith(f"{dice:.3f}")
    unscored = {"rows": {name: {**row, "measured": {}} for name, row in study["rows"].items()}}
    preset = {"generalise_without_1": {"measured": {}}}  # its row goes before the single run
    lines = keep_run.short_table({"rows": unscored["rows"] | preset}, run, held_out).splitlines()
    assert len(lines) == 2 + 1 + len(held_out["evaluations"])
