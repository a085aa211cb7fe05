"""evaluate as a user runs it, on a tiny trained model; the Python call; mistakes in one line."""

import csv
import json

import numpy as np
import pytest

import jaxseg
from jaxseg import evaluate
from jaxseg.data import open_split
from jaxseg.errors import UserError
from jaxseg.metrics import SCORES


@pytest.fixture(scope="module")
def evaluation(tiny_run, tmp_path_factory):
    """Returns the folder of an evaluation on the synthetic test split."""
    out = tmp_path_factory.mktemp("evaluation")
    evaluate.main(["--workdir", str(tiny_run), "--data", "synthetic", "--out", str(out)])
    return out


def test_metrics_equal_an_independent_scoring(tiny, tiny_run, evaluation):
    """If broken, a score is computed at the wrong resolution, of the wrong pairs, or averaged wrongly."""
    metrics = json.loads((evaluation / "metrics.json").read_text())
    segmenter = jaxseg.Segmenter.load(tiny_run)
    examples = open_split(tiny.data, "test")
    dice, intersections, sizes = [], 0, 0
    for i in range(len(examples)):
        image, mask = examples.load(i)
        prediction, truth = segmenter(image) > 0.5, mask[..., 0] > 0
        intersection, size = (prediction & truth).sum(), prediction.sum() + truth.sum()
        dice.append(2 * intersection / size)
        intersections, sizes = intersections + intersection, sizes + size
    assert metrics["data"]["images"] == len(examples) == 6
    assert metrics["native"]["per_image"]["dice"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert metrics["native"]["per_image_sd"]["dice"] == pytest.approx(np.std(dice, ddof=1), abs=1e-6)
    assert metrics["native"]["pooled"]["dice"] == pytest.approx(2 * intersections / sizes, abs=1e-6)
    assert 0 < intersections < sizes / 2, "the model must find something for this to compare anything"
    rows = list(csv.DictReader((evaluation / "per_image.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == list(examples.names)
    np.testing.assert_allclose([float(row["dice"]) for row in rows], dice, atol=1e-6)


def test_validation_scores_equal_trainings(tiny_run, tmp_path):
    """If broken, evaluate loads other weights than the best, or its scores differ from those of training.

    The set's 6 images do not fill the last batch of 4: the padded tail is part of the comparison.
    """
    evaluate.main(["--workdir", str(tiny_run), "--split", "validation", "--out", str(tmp_path)])
    network = json.loads((tmp_path / "metrics.json").read_text())["network"]
    best = json.loads((tiny_run / "summary.json").read_text())["best"]
    for name in SCORES:
        assert network["per_image"][name] == pytest.approx(best[f"val_{name}"], abs=1e-6)
        assert network["pooled"][name] == pytest.approx(best[f"val_{name}_pooled"], abs=1e-6)


def test_pictures_are_left(evaluation):
    """If broken, evaluate leaves numbers alone, and nobody sees where the model fails."""
    assert (evaluation / "cases.png").read_bytes().startswith(b"\x89PNG")
    assert list((evaluation / "overlays").glob("worst_*.png"))
    assert len(json.loads((evaluation / "cases.json").read_text())["cases"]) == 6
    assert (evaluation / "report.html").read_text().count("<image") == 2 * 6  # each with its uncertainty


def test_scoring_training_images_is_said(tiny_run, tmp_path, capsys):
    """If broken, a score on the training images passes for a test score."""
    evaluate.main(["--workdir", str(tiny_run), "--split", "train", "--out", str(tmp_path)])
    assert "12 of the 12 images were TRAINED ON" in capsys.readouterr().err
    assert json.loads((tmp_path / "metrics.json").read_text())["data"]["trained_on"] == 12


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--workdir", "nowhere"], "nowhere: no config.json in it, so no run"),
        (["--data", "nowhere"], "nowhere"),
        (["--split", "tset"], "did you mean 'test'"),
    ],
)
def test_evaluate_refuses_in_one_line(tiny_run, flags, said):
    """If broken, a mistyped folder, set or split ends in a traceback."""
    with pytest.raises(UserError) as error:
        evaluate.main(["--workdir", str(tiny_run), *flags])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
