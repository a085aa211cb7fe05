"""evaluate and predict as a user runs them, on a tiny trained model; the Python call; mistakes in one line."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg import evaluate, predict
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
    """Broken: a score is computed at the wrong resolution, of the wrong pairs, or averaged wrongly."""
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
    """Broken: evaluate loads other weights than the best, or scores at the network's resolution differ from training's.

    The set's 6 images do not fill the last batch of 4: the padded tail is part of the comparison.
    """
    evaluate.main(["--workdir", str(tiny_run), "--split", "validation", "--out", str(tmp_path)])
    network = json.loads((tmp_path / "metrics.json").read_text())["network"]
    best = json.loads((tiny_run / "summary.json").read_text())["best"]
    for name in SCORES:
        assert network["per_image"][name] == pytest.approx(best[f"val_{name}"], abs=1e-6)
        assert network["pooled"][name] == pytest.approx(best[f"val_{name}_pooled"], abs=1e-6)


def test_pictures_are_left(evaluation):
    """Broken: evaluate leaves numbers alone, and nobody sees where the model fails."""
    assert (evaluation / "cases.png").read_bytes().startswith(b"\x89PNG")
    assert list((evaluation / "overlays").glob("worst_*.png"))


def test_scoring_training_images_is_said(tiny_run, tmp_path, capsys):
    """Broken: a score on the training images passes for a test score."""
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
    """Broken: a mistyped folder, set or split ends in a traceback."""
    with pytest.raises(UserError) as error:
        evaluate.main(["--workdir", str(tiny_run), *flags])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def pictures(tmp_path):
    """Returns a folder of images of several sizes and kinds, in subfolders, with a text file and a broken image."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a.jpg": (40, 61), "sub/b.png": (33, 32), "c.bmp": (10, 200)}.items():
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
    Image.fromarray(rng.integers(0, 256, (20, 20), dtype=np.uint8)).save(folder / "a.tif")
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_predict_keeps_sizes_names_and_folders(tiny_run, pictures, tmp_path):
    """Broken: a mask has the network's size, loses its folder, or overwrites that of a.jpg with that of a.tif."""
    out = tmp_path / "out"
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(out)]
    assert predict.main([*flags, "--overlay", "--probabilities"]) == 0
    sizes = {str(p.relative_to(out)): pixels(p).shape for p in out.rglob("*_mask.png")}
    assert sizes == {
        "a.jpg_mask.png": (40, 61),
        "a.tif_mask.png": (20, 20),
        "c_mask.png": (10, 200),
        "sub/b_mask.png": (33, 32),
    }
    mask = pixels(out / "sub/b_mask.png")
    assert set(np.unique(mask)) <= {0, 255}
    image = pixels(pictures / "sub/b.png")
    probability = jaxseg.Segmenter.load(tiny_run)(image)
    np.testing.assert_array_equal(mask > 0, probability > 0.5)
    saved = pixels(out / "sub/b_probability.png")
    np.testing.assert_allclose(saved / 255, probability, atol=0.5 / 255 + 1e-6)
    assert pixels(out / "c_overlay.png").shape == (10, 200, 3)


def test_a_bad_image_does_not_stop_the_rest(tiny_run, pictures, tmp_path, capsys):
    """Broken: one truncated file among a thousand ends the run, or goes unnoticed."""
    (pictures / "bad.jpg").write_bytes((pictures / "a.jpg").read_bytes()[:300])
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 1
    said = capsys.readouterr().err
    assert "4 of 5 images segmented" in said
    assert "bad.jpg" in said
    assert len(list((tmp_path / "out").rglob("*_mask.png"))) == 4


def test_predict_overwrites_nothing(tiny_run, pictures, tmp_path):
    """Broken: a user's corrected masks are replaced by running predict again."""
    flags = ["--workdir", str(tiny_run), "--input", str(pictures / "a.jpg"), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 0
    with pytest.raises(UserError, match=r"a_mask.png: is there already; --overwrite replaces it"):
        predict.main(flags)
    assert predict.main([*flags, "--overwrite"]) == 0


def test_an_output_inside_the_input_is_no_input(tiny_run, pictures):
    """Broken: running twice segments the first run's masks."""
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(pictures / "masks"), "--overwrite"]
    for _ in range(2):
        assert predict.main(flags) == 0
    assert len(list((pictures / "masks").rglob("*.png"))) == 4


@pytest.mark.parametrize(("name", "said"), [("nowhere", "no such file or folder"), ("empty", "no image in it")])
def test_predict_without_images(tiny_run, tmp_path, name, said):
    """Broken: a mistyped input folder is "0 images segmented" with exit code 0."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=said):
        predict.main(["--workdir", str(tiny_run), "--input", str(tmp_path / name), "--output", str(tmp_path / "out")])
