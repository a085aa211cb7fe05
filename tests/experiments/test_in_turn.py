"""Rows whose runs train one after the other are those whose runs train together, and can be added to."""

import json
from pathlib import Path

import pytest

from experiments.paper import keep, measured, plan, rows, study
from experiments.paper.scales import SMOKE
from jaxseg.errors import UserError
from jaxseg.inference.segmenter import Segmenter

ROW = rows.Row("row", "a row")


def smoke(out: Path, **changes) -> study.Study:
    return study.Study(out, SMOKE, "none", "none", "synthetic", SMOKE.external, "", **changes)


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    """A row of two runs, of which the second was added to the first."""
    out = tmp_path_factory.mktemp("study")
    first = smoke(out, in_turn=True, runs=1).row(ROW)
    folder = out / "rows" / "row"
    measured.of_runs(smoke(out), ROW, "names", lambda workdirs: [path.name for path in workdirs])
    before = (folder / "member-0" / "summary.json").read_text()
    both = smoke(out, in_turn=True, runs=2).row(ROW)
    assert (folder / "member-0" / "summary.json").read_text() == before, "the finished run was trained again"
    return folder, first, both


def test_runs_are_added_to_a_row(in_turn):
    """If broken, a row with one seed more trains the others again, loses them, or keeps numbers made of fewer runs."""
    folder, first, both = in_turn
    assert [run["seed"] for run in first["members"]] == [0]
    assert [run["seed"] for run in both["members"]] == [0, 1]
    assert both["tests"]["validation"][0] == first["tests"]["validation"][0]
    assert both["tests"]["external"][0]["dice"] == first["tests"]["external"][0]["dice"]
    assert both["members"][0] == first["members"][0]
    assert study.load_maps(folder / "maps.npz")["external"].shape[0] == 2
    names = measured.of_runs(
        smoke(folder.parents[1]), ROW, "names", lambda workdirs: [f"new {p.name}" for p in workdirs]
    )
    assert names == ["member-0", "new member-1"]
    assert Segmenter.load(folder / "member-1").config.train.seed == 1


def test_in_turn_is_together(in_turn, tmp_path):
    """If broken, a study's numbers depend on whether its runs trained one after the other."""
    _, _, ours = in_turn
    theirs = smoke(tmp_path).row(ROW)
    for mine, other in zip(ours["members"], theirs["members"], strict=True):
        for name in ("seed", "epochs", "best_epoch", "stopped", "train_images", "fingerprints"):
            assert mine[name] == other[name]
        for name, curve in mine["curves"].items():
            assert curve == pytest.approx(other["curves"][name], abs=1e-4)
    pooled = [rows.values(row, "external", "pooled", "dice") for row in (ours, theirs)]
    assert pooled[0] == pytest.approx(pooled[1], abs=1e-3)


def test_a_row_trained_together_is_not_added_to(tmp_path):
    """If broken, its runs, which are saved after their best epoch, are trained on from there under the same name."""
    smoke(tmp_path, runs=1).row(ROW)
    for way in ({}, {"in_turn": True}):
        with pytest.raises(UserError, match="has 1 of 2 runs"):
            smoke(tmp_path, **way).row(ROW)
    assert len(smoke(tmp_path, report=True).row(ROW)["members"]) == 1


def test_a_run_goes_on_after_it_was_ended(tmp_path, monkeypatch):
    """If broken, an ended row of one run after the other starts again, or says nothing of where it stands."""
    told = []

    def end_after_the_first(line):
        told.append(line)
        if "epoch 1 of 2" in line:
            raise KeyboardInterrupt

    monkeypatch.setattr(study, "say", end_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        smoke(tmp_path, in_turn=True, runs=1).row(ROW)
    monkeypatch.setattr(study, "say", told.append)
    result = smoke(tmp_path, in_turn=True, runs=1).row(ROW)
    assert any("run 1 of 1 goes on after epoch 1 of 2" in line for line in told)
    assert sum("epoch 1 of 2: train loss" in line for line in told) == 1
    assert result["members"][0]["epochs"] == 2


def test_the_time_left_counts_epochs_of_single_runs(tmp_path):
    """If broken, the time that a study tells forgets the epochs of the run that is training."""
    done = tmp_path / "rows" / "a"
    done.mkdir(parents=True)
    (done / "row.json").write_text(json.dumps({"seconds": 600, "members": [{"epochs": 10}]}))
    lines = tmp_path / "rows" / "b" / "member-0"
    lines.mkdir(parents=True)
    (lines / "metrics.jsonl").write_text("{}\n" * 5)
    planned = [(rows.Row("a", ""), 1), (rows.Row("b", ""), 2)]
    assert plan.sentence(tmp_path, planned) == "1 of 2 rows are done; about 15 min left"
    assert plan.sentence(tmp_path, [(rows.Row("a", ""), 3)]).startswith("0 of 1 rows are done; about 30 min left")


def test_rows_that_may_not_be_trained_are_shown(tmp_path):
    """If broken, `--rows` trains rows that were not asked for, or hides those that are there."""
    assert "missing" in smoke(tmp_path, only=["other"]).row(ROW)
    trained = smoke(tmp_path, only=["row"], runs=1).row(ROW)
    assert smoke(tmp_path, only=["other"]).row(ROW)["members"] == trained["members"]


def test_a_study_goes_on_on_another_machine(in_turn, tmp_path):
    """If broken, runs kept from another machine are trained again, or lose what was measured of them."""
    _, _, both = in_turn
    (tmp_path / "there" / "rows").mkdir(parents=True)
    first = {**both, "members": both["members"][:1], "tests": {k: v[:1] for k, v in both["tests"].items()}}
    there = tmp_path / "there" / "rows" / "row"
    there.mkdir()
    (there / study.ROW_FILE).write_text(json.dumps(first))
    (there / "names.json").write_text('["kept"]')
    section = tmp_path / "there" / "sections" / "gap" / "section.json"
    section.parent.mkdir(parents=True)
    section.write_text('{"name": "gap", "tables": [], "figures": []}')  # made where the maps were
    kept = keep.collect(tmp_path / "there")

    keep.bring(kept, tmp_path / "here")
    here = smoke(tmp_path / "here", in_turn=True)
    assert smoke(tmp_path / "here", report=True).row(ROW)["members"] == first["members"]
    assert measured.of_runs(here, ROW, "unmeasured", None) == []  # no weights to measure with
    result = here.row(ROW)
    assert not here.workdirs(ROW)[0].exists()
    assert result["tests"]["external"][0]["pooled"] == first["tests"]["external"][0]["pooled"]
    assert [run["seed"] for run in result["members"]] == [0, 1]
    for name, curve in result["members"][1]["curves"].items():
        assert curve == pytest.approx(both["members"][1]["curves"][name])
    assert measured.of_runs(here, ROW, "names", lambda paths: [p.name for p in paths]) == ["kept", "member-1"]
    assert measured.of_runs(here, ROW, "late", lambda paths: [p.name for p in paths]) == ["member-1"]
    assert json.loads((tmp_path / "here" / "rows" / "row" / "late.json").read_text()) == [None, "member-1"]
    assert rows.partly("a row", 1, result) == "a row (1 of 2 runs)"

    after = keep.collect(tmp_path / "here")
    assert keep.lost(kept, after) == []
    assert keep.lost(after, kept) == ["1 runs of row row"]
    unmeasured = json.loads(json.dumps(after))
    unmeasured["rows"]["row"]["measured"]["names"][1] = None
    assert keep.lost(after, unmeasured) == ["names of row row"]
    assert keep.lost(after, {"rows": {}, "sections": {}}) == ["section gap", "row row"]
    keep.bring(kept, tmp_path / "here")  # what is there stays
    assert len(here.row(ROW)["members"]) == 2
