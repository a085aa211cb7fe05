"""Better predictions on request: symmetries, ensembles, components and holes, a chosen threshold; all recorded."""

import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest

from jaxseg import cli, data, evaluate
from jaxseg.data import open_split, training_splits
from jaxseg.data.images import resize_mask
from jaxseg.errors import UserError
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter
from jaxseg.inference.threshold import GRID, choose_threshold
from jaxseg.runs.workdir import run_id


def turn(array, quarters, mirrored):
    return np.ascontiguousarray(np.rot90(array[:, ::-1] if mirrored else array, quarters))


def turn_back(array, quarters, mirrored):
    array = np.rot90(array, -quarters)
    return array[:, ::-1] if mirrored else array


SYMMETRIES = [(quarters, mirrored) for quarters in range(4) for mirrored in (False, True)]


@pytest.fixture(scope="module")
def plain(tiny_run):
    return Segmenter.load(tiny_run)


@pytest.fixture(scope="module")
def augmented(tiny_run):
    return Segmenter.load(tiny_run, tta=True)


@pytest.fixture(scope="module")
def image():
    """Returns an image of the network's size, so that no resizing comes between."""
    from tests.helpers.runs import tiny_config

    config = tiny_config().data
    return open_split(config, "test").load(0).image[100:132, 100:132].copy()


def test_test_time_augmentation_is_the_mean_of_eight_calls(plain, augmented, image):
    """If broken, a symmetry is left out, taken twice, or turned back the wrong way."""
    calls = [turn_back(plain(turn(image, *symmetry)), *symmetry) for symmetry in SYMMETRIES]
    np.testing.assert_allclose(augmented(image), np.mean(calls, axis=0), atol=1e-6)
    assert np.std(calls, axis=0).max() > 1e-3, "the calls must differ for this to compare anything"


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_test_time_augmentation_turns_with_the_image(augmented, image, symmetry):
    """If broken, a photograph of a turned camera gets another mask."""
    np.testing.assert_allclose(augmented(turn(image, *symmetry)), turn(augmented(image), *symmetry), atol=1e-6)


def test_an_ensemble_is_the_mean_of_its_members(tiny_run, other_run, plain, image):
    """If broken, a member is left out, or counts more than another; networks may differ."""
    both = Segmenter.load(tiny_run, other_run)
    alone = [plain(image), Segmenter.load(other_run)(image)]
    np.testing.assert_allclose(both(image), np.mean(alone, axis=0), atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_a_copy_of_a_run_is_told(tiny_run, other_run, tmp_path, heard):
    """If broken, an ensemble of three is one of two, of which one counts double."""
    Segmenter.load(tiny_run, other_run)
    assert not heard.text
    Segmenter.load(tiny_run, other_run, shutil.copytree(tiny_run, tmp_path / "copy"))
    assert "hold the same weights, which count 2 times" in heard.text
    assert str(other_run) not in heard.text


def test_the_same_weights_twice_are_one_member(tiny_run, plain, image, heard):
    """If broken, the mean is no mean, or members of equal networks are compiled one by one, or nobody says so."""
    twice = Segmenter.load(tiny_run, tiny_run)
    assert "is given 2 times, and counts as often" in heard.text
    np.testing.assert_array_equal(twice(image), plain(image))
    first, second = twice.runtime.networks
    assert first.steps is second.steps


def with_config(run, folder, change):
    """Copies a run as release 0.1 leaves it, without a list of its images, and changes its config.json."""
    shutil.copytree(run, folder)
    (folder / "images.json").unlink(missing_ok=True)
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def test_members_of_other_image_sizes_are_refused(tiny_run, tmp_path):
    """If broken, probability maps of other sizes end in a traceback, or in nonsense."""
    larger = with_config(tiny_run, tmp_path / "larger", lambda c: c["config"]["data"].update(image_size=64))
    with pytest.raises(UserError, match=r"larger: takes images of 64 pixels, but .*tiny of 32"):
        Segmenter.load(tiny_run, larger)


@pytest.mark.parametrize("wrong", [np.zeros((8, 8)), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8)])
def test_what_is_no_image_is_refused(plain, wrong):
    """If broken, floats in [0, 1] are segmented as if they were nearly black."""
    with pytest.raises(ValueError, match=r"must be uint8 \[H, W, 3\]"):
        plain(wrong)


def picture(*rows):
    """Returns a probability map: 0.9 where a character is #, 0.1 elsewhere."""
    return np.array([[0.9 if c == "#" else 0.1 for c in row] for row in rows], np.float32)


def drawn(mask):
    return ["".join(".#"[int(v)] for v in row) for row in mask]


RINGS = picture(
    "####....",
    "#..#..##",
    "#.##..##",
    "####....",
    "....#...",
    "......#.",
)


def test_largest_component_and_holes():
    """If broken, the wrong region stays, corners do not connect, or a hole that is open at a corner is left open."""
    assert drawn(Prediction().mask(RINGS)) == ["####....", "#..#..##", "#.##..##", "####....", "....#...", "......#."]
    largest = Prediction(largest_component=True).mask(RINGS)
    assert drawn(largest) == ["####....", "#..#....", "#.##....", "####....", "....#...", "........"]
    filled = Prediction(fill_holes=True).mask(RINGS)
    assert drawn(filled) == ["####....", "####..##", "####..##", "####....", "....#...", "......#."]
    both = Prediction(largest_component=True, fill_holes=True).mask(RINGS)
    assert drawn(both) == ["####....", "####....", "####....", "####....", "....#...", "........"]
    assert both.dtype == bool


def test_what_lies_in_a_hole_comes_back_filled():
    """If broken, holes are filled first, or an island in the lesion's hole counts as another lesion."""
    island = picture("#####", "#...#", "#.#.#", "#...#", "#####")
    assert Prediction(largest_component=True, fill_holes=True).mask(island).all()
    diagonal = picture(".#.", "#.#", ".#.")
    assert drawn(Prediction(fill_holes=True).mask(diagonal)) == [".#.", "###", ".#."]


def test_an_empty_mask_stays_empty_and_of_equal_regions_the_first_stays():
    """If broken, post-processing fails where nothing is found, or picks at random."""
    every = Prediction(largest_component=True, fill_holes=True)
    assert not every.mask(np.zeros((5, 4), np.float32)).any()
    assert every.mask(np.ones((5, 4), np.float32)).all()
    assert drawn(every.mask(picture("...#", "#...", "...."))) == ["...#", "....", "...."]


def test_the_threshold_is_the_best_on_the_validation_images_alone(plain, tiny, monkeypatch):
    """If broken, the threshold is not the best there, or other images than the run's validation images have a say."""
    train, validation = training_splits(tiny.data)

    def never(index):
        raise AssertionError("an image outside the validation split was looked at")

    splits = dataclasses.replace(train, load=never), validation
    monkeypatch.setattr(data, "training_splits", lambda config: splits)
    monkeypatch.setattr(data, "open_split", never)
    start = Prediction(fill_holes=True)
    chosen = choose_threshold(plain, start)
    dice = np.zeros(len(GRID))
    for i in range(len(validation)):
        image, mask = validation.load(i)
        probability, truth = plain(plain.resize(image)), resize_mask(mask, (32, 32))[..., 0] > 0
        for k, threshold in enumerate(GRID):
            found = dataclasses.replace(start, threshold=threshold).mask(probability)
            size = found.sum() + truth.sum()
            dice[k] += 2 * (found & truth).sum() / size if size else 1
    dice /= len(validation)
    assert dice[GRID.index(chosen.threshold)] == pytest.approx(dice.max(), abs=1e-9)
    assert dice.max() > dice[GRID.index(0.5)], "another threshold must be better for this to compare anything"
    assert chosen.fill_holes
    assert not chosen.largest_component
    record = chosen.threshold_chosen_on
    assert {k: record[k] for k in ("dataset", "split", "images", "trained_on")} == {
        "dataset": "synthetic",
        "split": "validation",
        "images": 6,
        "trained_on": 0,
    }
    assert record["score"] == pytest.approx(dice.max(), abs=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["config"]["data"].update(name="nowhere"), "needs the validation images of .*nowhere"),
        (lambda c: c["data"]["fingerprints"].update(validation="0"), "synthetic validation has changed since"),
    ],
)
def test_without_its_validation_images_no_threshold_is_chosen(tiny_run, tmp_path, change, said):
    """If broken, a traceback where the data are elsewhere, or a threshold from images that the run was trained on."""
    segmenter = Segmenter.load(with_config(tiny_run, tmp_path / "run", change))
    with pytest.raises(UserError, match=said) as error:
        choose_threshold(segmenter, Prediction())
    assert "\n" not in str(error.value)


def test_an_ensemble_that_trained_on_the_validation_images_says_so(tiny, tiny_run, tmp_path):
    """If broken, a member that was trained on the scored images, or on those of the threshold, goes unnoticed."""

    def of_fold(k, config):
        train, validation = training_splits(tiny.updated({"data.folds": 6, "data.fold": k}).data)
        config["config"]["data"].update(folds=6, fold=k)
        config["data"]["fingerprints"] = {"train": train.fingerprint(), "validation": validation.fingerprint()}

    folds = [with_config(tiny_run, tmp_path / str(k), functools.partial(of_fold, k)) for k in range(2)]
    segmenter = Segmenter.load(*folds)
    everything, _ = training_splits(tiny.data)
    _, validation = training_splits(segmenter.config.data)
    assert segmenter.trained_on(validation, "") == len(validation) == 2  # by the second member
    assert segmenter.trained_on(everything, "") == len(everything) == 12  # ten by each


def test_unknown_training_images_are_not_none(tiny, tiny_run, tmp_path):
    """If broken, where the training images were moved, a score on them passes for an honest one."""
    examples, _ = training_splits(tiny.data)
    moved = with_config(tiny_run, tmp_path / "moved", lambda c: c["config"]["data"].update(name="nowhere"))
    assert Segmenter.load(moved).trained_on(examples, "") is None
    assert Segmenter.load(moved, tiny_run).trained_on(examples, "") is None
    changed = with_config(tiny_run, tmp_path / "changed", lambda c: c["data"]["fingerprints"].update(train="0"))
    assert Segmenter.load(changed).trained_on(examples, "") is None
    elsewhere = with_config(moved, tmp_path / "elsewhere", lambda c: c["data"].update(dataset="ph2"))
    assert Segmenter.load(elsewhere).trained_on(examples, "") == 0


@pytest.fixture(scope="module")
def chosen_and_scored(tiny_run, other_run, tmp_path_factory):
    """Returns metrics.json of the validation and the test split, everything asked for."""
    flags = ["--workdir", str(tiny_run), "--ensemble", str(other_run), "--tta", "--threshold", "auto"]
    result = {}
    for split in ("validation", "test"):
        out = tmp_path_factory.mktemp(split)
        evaluate.main([*flags, "--largest-component", "--fill-holes", "--split", split, "--out", str(out)])
        result[split] = json.loads((out / "metrics.json").read_text())
    return result


def test_everything_asked_for_is_recorded(chosen_and_scored, tiny_run, other_run):
    """If broken, nobody can tell from metrics.json how the masks were made."""
    metrics = chosen_and_scored["test"]
    record = metrics["prediction"]
    assert metrics["threshold"] == record["threshold"] == chosen_and_scored["validation"]["threshold"]
    assert [m["workdir"] for m in record["ensemble"]] == [str(tiny_run), str(other_run)]
    assert all(isinstance(m["step"], int) for m in record["ensemble"])
    assert record["test_time_augmentation"] is record["largest_component"] is record["fill_holes"] is True
    assert record["threshold_chosen_on"]["split"] == "validation"
    assert set(record["threshold_chosen_on"]) >= {"dataset", "split", "images", "criterion", "score"}


def test_scoring_what_the_threshold_was_chosen_on_is_said(chosen_and_scored):
    """If broken, a score on the images that chose the threshold passes for a test score."""
    overlap = {s: m["prediction"]["threshold_chosen_on"]["scored_images"] for s, m in chosen_and_scored.items()}
    assert overlap == {"validation": 6, "test": 0}
    metrics = chosen_and_scored["validation"]
    score = metrics["prediction"]["threshold_chosen_on"]["score"]
    assert metrics["network"]["per_image"]["dice"] == pytest.approx(score, abs=1e-9)


def test_nothing_is_on_unless_asked_for(tiny_run, tmp_path, capsys):
    """If broken, predictions change though nobody asked, or a log line about the threshold comes without reason."""
    evaluate.main(["--workdir", str(tiny_run), "--out", str(tmp_path)])
    assert json.loads((tmp_path / "metrics.json").read_text())["prediction"] == {
        "test_time_augmentation": False,
        "ensemble": [{"workdir": str(tiny_run), "step": 6, "run": run_id(tiny_run)}],
        "threshold": 0.5,
        "threshold_chosen_on": None,
        "largest_component": False,
        "fill_holes": False,
    }
    assert "CHOSEN ON" not in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "1", "-0.1", "1.5", "nan", "best"])
def test_a_wrong_threshold_is_one_line(value, capsys):
    """If broken, a threshold that makes every mask empty or full is taken."""
    parser = cli.Parser("predict", "", "")
    cli.add_mask_arguments(parser)
    with pytest.raises(SystemExit) as exit:
        parser.parse_args(["--threshold", value])
    assert exit.value.code == 2
    said = capsys.readouterr().err
    assert value in said
    assert "0.4" in said
    assert said.count("\n") == 1
