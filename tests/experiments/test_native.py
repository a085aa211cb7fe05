"""The rows at the images' own size are scored as `evaluate` scores them."""

import json

import pytest

from experiments.paper import rows, study
from experiments.paper.scales import SMOKE
from experiments.paper.sections import in_domain, native
from jaxseg import evaluate


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A study with one row of two runs, and its scores."""
    of = study.Study(tmp_path_factory.mktemp("study"), SMOKE, "none", "none", "synthetic", SMOKE.external, "")
    row = rows.Row("row", "a row")
    of.row(row)
    return of, row, native.measure(of, row)


@pytest.mark.parametrize(
    ("way", "flags"),
    [(native.AS_IT_IS, []), (native.CLEAN, ["--threshold", "auto", "--largest-component", "--fill-holes"])],
)
def test_scores_are_those_of_evaluate(measured, way, flags, tmp_path):
    """If broken, the study's table of native scores shows other numbers than the command gives for the same runs."""
    of, row, found = measured
    members = [str(of.folder(row) / f"member-{i}") for i in (0, 1)]
    common = ["--data", "synthetic", "--split", "test", *flags]
    for ours, workdirs in (
        (found["external"][way]["runs"][1], [members[1]]),
        (found["external"][way]["ensemble"], [members[0], "--ensemble", members[1]]),
    ):
        out = tmp_path / f"of-{len(workdirs)}"
        evaluate.main(["--workdir", *workdirs, *common, "--out", str(out)])
        theirs = json.loads((out / "metrics.json").read_text())
        assert ours["native"]["per_image"] == pytest.approx(theirs["native"]["per_image"])
        assert ours["native"]["pooled"] == pytest.approx(theirs["native"]["pooled"])
        assert ours["threshold"] == theirs["threshold"]
        lines = (out / "per_image.csv").read_text().splitlines()
        jaccard = [float(line.split(",")[lines[0].split(",").index("jaccard")]) for line in lines[1:]]
        assert ours["failed"] == pytest.approx(sum(value < 0.65 for value in jaccard) / len(jaccard))


def test_scores_are_kept_and_shown(measured):
    """If broken, scoring is repeated each time, or a report computes, or a table's line is that of another way."""
    of, row, found = measured
    report = study.Study(of.out, SMOKE, "none", "none", "synthetic", SMOKE.external, "", report=True)
    assert native.measure(report, row) == found
    (of.folder(row) / "native.json").rename(of.out / "away")
    assert native.measure(report, row) == {}
    (of.out / "away").rename(of.folder(row) / "native.json")
    table = native.table({"a row": found}, "external")
    assert [line[1:3] for line in table["rows"]] == [
        [native.AS_IT_IS, "2 seeds"],
        [native.AS_IT_IS, "ensemble of 2"],
        [native.CLEAN, "2 seeds"],
        [native.CLEAN, "ensemble of 2"],
    ]
    assert all(len(line) == len(table["head"]) for line in table["rows"])
    dice = [run["native"]["per_image"]["dice"] for run in found["external"][native.AS_IT_IS]["runs"]]
    assert table["rows"][0][3] == rows.shown(dice)


def test_folds_are_scored_on_the_images_that_they_held_out(tmp_path):
    """If broken, a model's score in its own domain is that of images that it was trained on."""
    of = study.Study(tmp_path, SMOKE, "none", "none", "synthetic", SMOKE.external, "", runs=2)
    row = in_domain.rows_of(of)[1]
    members = of.row(row)["members"]
    found = native.measure(of, row)
    assert list(found) == ["validation"]
    assert list(found["validation"]) == [native.AS_IT_IS]
    for fold, run in enumerate(found["validation"][native.AS_IT_IS]["runs"]):
        workdir = of.folder(row) / f"member-{fold}"
        evaluate.main(["--workdir", str(workdir), "--split", "validation", "--out", str(tmp_path / str(fold))])
        theirs = json.loads((tmp_path / str(fold) / "metrics.json").read_text())
        lines = (tmp_path / str(fold) / "per_image.csv").read_text().splitlines()
        assert len(lines) - 1 == members[fold]["validation_images"]
        assert run["native"]["per_image"] == pytest.approx(theirs["native"]["per_image"])
    (table,) = native.tables_of_folds(of, [row])
    assert [line[1:3] for line in table["rows"]] == [[native.AS_IT_IS, "2 folds"]]
