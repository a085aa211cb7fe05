"""Scores of masks against scikit-learn, the tables of metrics.json and per_image.csv, and both after `evaluate`."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score, recall_score

from jaxseg import evaluate
from jaxseg.errors import UserError
from jaxseg.evaluation.records import (
    NATIVE_SCORES,
    OVERLAP_SCORES,
    per_image_csv,
    read_per_image,
    score_image,
    score_tables,
)
from jaxseg.metrics import COUNTS, SCORES
from jaxseg.runs.workdir import PER_IMAGE

TABLES = ("per_image", "per_image_sd", "per_image_median", "per_image_interval", "pooled", "pooled_interval")


def record(index, prediction, truth):
    """Scores one pair of masks, at both resolutions the same."""
    masks = np.asarray(prediction, bool), np.asarray(truth, bool)
    return score_image(index, masks, masks, masks[0].astype(np.float32))


def squares(*areas, side=20):
    """Returns records of images whose lesions have the given numbers of pixels, all found but for one pixel."""
    records = []
    for i, area in enumerate(areas):
        truth = np.arange(side * side).reshape(side, side) < area
        records.append(record(i, truth & (np.arange(side * side).reshape(side, side) > 0), truth))
    return records


def test_scores_equal_scikit_learns():
    """If broken, a score of `per_image.csv` is another one than its name says."""
    rng = np.random.default_rng(0)
    prediction, truth = rng.random((2, 31, 17)) < 0.4
    got, flat = record(0, prediction, truth), (truth.ravel(), prediction.ravel())
    assert [got.native_counts[k] for k in ("tn", "fp", "fn", "tp")] == confusion_matrix(*flat).ravel().tolist()
    assert got.native["accuracy"] == pytest.approx(accuracy_score(*flat))
    assert got.native["dice"] == pytest.approx(f1_score(*flat))
    assert got.native["jaccard"] == pytest.approx(jaccard_score(*flat))
    assert got.native["sensitivity"] == pytest.approx(recall_score(*flat))
    assert got.native["specificity"] == pytest.approx(recall_score(*flat, pos_label=0))
    assert got.lesion_fraction == pytest.approx(truth.mean())


@pytest.mark.parametrize(
    ("hit", "missed", "expected"), [(65, 35, 0.65), (64, 36, 0), (100, 0, 1), (0, 100, 0), (0, 0, 1)]
)
def test_thresholded_jaccard(hit, missed, expected):
    """If broken, 0.65 itself counts as missed, 0.64 counts, or an empty image that is found empty does not score 1."""
    truth = np.arange(400).reshape(20, 20) < hit + missed
    prediction = np.arange(400).reshape(20, 20) < hit
    assert record(0, prediction, truth).native["thresholded_jaccard"] == expected


def test_groups_have_tables_of_their_own():
    """If broken, a subgroup's numbers are another's, or a group of one image ends in a warning."""
    records = squares(40, 80, 120, 160, 200)
    tables = score_tables(records, ("melanoma", "", "nevus", "nevus", "nevus"), 20)
    groups = tables["subgroups"]["group"]
    assert {name: table["images"] for name, table in groups.items()} == {"melanoma": 1, "nevus": 3, "unknown": 1}
    assert groups["melanoma"]["per_image"] == records[0].native
    assert groups["nevus"]["per_image"]["dice"] == pytest.approx(np.mean([r.native["dice"] for r in records[2:]]))
    assert set(TABLES) < set(groups["nevus"])
    assert score_tables(records, ("",) * 5, 20)["subgroups"]["group"] == {}


@pytest.mark.parametrize(
    ("areas", "images"), [((9, 3, 7, 5, 1, 8, 2, 6), [2, 2, 2, 2]), ((1, 2, 3, 4, 5), [2, 1, 1, 1]), ((5,), [1])]
)
def test_lesions_by_size(areas, images):
    """If broken, quarters are of unequal size, in the order of the images, or empty for a set of fewer than four."""
    parts = score_tables(squares(*areas), ("",) * len(areas), 20)["subgroups"]["lesion_size"]
    assert [part["images"] for part in parts.values()] == images
    ordered = np.sort(areas) / 400
    starts = np.cumsum([0, *images])
    for part, start, stop in zip(parts.values(), starts, starts[1:], strict=False):
        assert part["lesion_fraction"] == pytest.approx([ordered[start], ordered[stop - 1]])


def test_the_table_of_images_comes_back(tmp_path):
    """If broken, a name with a comma or a quote shifts the columns, or reading mixes them up."""
    records = squares(40, 80, 120)
    names, groups = ("a,b", 'c "d"', "ü"), ("nevus, common", "", "x")
    (tmp_path / PER_IMAGE).write_text(per_image_csv(records, names, groups), encoding="utf-8")
    got = read_per_image(tmp_path)
    assert (got.names, got.groups) == (names, groups)
    for name in NATIVE_SCORES:
        np.testing.assert_allclose(got.values[name], [r.native[name] for r in records], atol=5e-7)
    for name in COUNTS:
        np.testing.assert_array_equal(got.values[name], [r.native_counts[name] for r in records])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "holds no image"),
        (lambda text: text.splitlines()[0], "holds no image"),
        (lambda text: text.replace("boundary_iou", "iou"), "no column 'boundary_iou'"),
        (lambda text: text[: text.rindex(",")], "holds a line that is not what evaluate writes"),
        (lambda text: text.replace("0.98", "x"), "holds a line that is not what evaluate writes"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(tmp_path, change, said):
    """If broken, a table that was cut off, edited or written by an older version is a traceback, or is believed."""
    text = per_image_csv(squares(40, 80), ("a", "b"), ("", ""))
    (tmp_path / PER_IMAGE).write_text(change(text))
    with pytest.raises(UserError, match=said) as error:
        read_per_image(tmp_path)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def evaluation(tiny_run, tmp_path_factory):
    """Returns the folder of an evaluation on the synthetic test split."""
    out = tmp_path_factory.mktemp("evaluation")
    evaluate.main(["--workdir", str(tiny_run), "--data", "synthetic", "--out", str(out)])
    return out


def test_metrics_hold_what_is_promised(evaluation, tiny_run):
    """If broken, a key that the HTML page, `compare` or a user's script reads is gone or has moved."""
    metrics = json.loads((evaluation / "metrics.json").read_text())
    assert list(metrics["data"]) == ["dataset", "split", "images", "synthetic", "fingerprint", "trained_on", "reading"]
    assert metrics["model"]["workdir"] == str(tiny_run)
    assert metrics["threshold"] == metrics["prediction"]["threshold"] == 0.5
    assert metrics["bootstrap"].keys() == {"replicates", "level", "seed", "method"}
    assert metrics["network"]["resolution"] == 32
    for place, names in (("native", NATIVE_SCORES), ("network", OVERLAP_SCORES)):
        for table in TABLES:
            wanted = SCORES if table.startswith("pooled") else names
            assert tuple(metrics[place][table]) == wanted, (place, table)
        for kind in ("per_image", "pooled"):
            for name, (low, high) in metrics[place][f"{kind}_interval"].items():
                assert low <= metrics[place][kind][name] <= high
    assert [part["images"] for part in metrics["subgroups"]["lesion_size"].values()] == [2, 1, 2, 1]
    assert sum(part["pixels"] for part in metrics["calibration"]["bins"]) == 6 * 32 * 32
    assert 0 < metrics["calibration"]["expected_calibration_error"] < 1


def test_the_table_of_images_averages_to_the_metrics(evaluation):
    """If broken, per_image.csv and metrics.json are of different masks or resolutions. 1e-6: the table's last digit."""
    native = json.loads((evaluation / "metrics.json").read_text())["native"]
    columns = read_per_image(evaluation).values
    for name in NATIVE_SCORES:
        assert native["per_image"][name] == pytest.approx(columns[name].mean(), abs=1e-6)
        assert native["per_image_median"][name] == pytest.approx(np.median(columns[name]), abs=1e-6)
    tp, fp, fn, _ = (columns[name].sum() for name in COUNTS)
    assert native["pooled"]["dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-12)
    np.testing.assert_allclose(columns["lesion_fraction"], (columns["tp"] + columns["fn"]) / (192 * 256), atol=1e-6)
    assert 0 < columns["hausdorff95_relative"].mean() < 1, "the model must find something for this to compare anything"
