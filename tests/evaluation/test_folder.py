"""Scores are never replaced by those of other images, other options or another checkpoint."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxseg import compare, evaluate
from jaxseg.config import DataConfig
from jaxseg.data import Examples, open_split
from jaxseg.data.identity import hash_all, identify
from jaxseg.errors import UserError
from jaxseg.evaluation.folder import check_may_replace, folder_of
from tests.helpers.bad_files import RGB, data_set, encoded
from tests.helpers.skin import save

NOW = {
    "test_time_augmentation": False,
    "ensemble": [{"workdir": "runs/a", "step": 6, "run": "0123"}],
    "threshold": 0.5,
    "threshold_chosen_on": None,
    "largest_component": False,
    "fill_holes": False,
}


def examples(dataset="/data/images_set", names=("a", "b")) -> Examples:
    return Examples(dataset, "all", names, ("",) * len(names), lambda index: None, "1")


def stored(out, prediction=NOW, images=None, **changes):
    """Writes what an evaluation leaves, as far as replacing it is concerned."""
    images = images or examples()
    data = {"dataset": images.dataset, "split": images.split, "fingerprint": images.fingerprint()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps({"data": data, "prediction": prediction, **changes}))


def chosen(threshold):
    return {**NOW, "threshold": threshold, "threshold_chosen_on": {"split": "validation"}}


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (NOW, NOW),
        (NOW, {**NOW, "ensemble": [{"workdir": "/moved/a", "step": 6, "run": "0123"}]}),
        ({**NOW, "ensemble": [{"workdir": "runs/a", "step": 6}]}, NOW),
        (chosen(0.4), chosen(0.45)),
    ],
    ids=["same", "run moved", "older release", "threshold chosen again"],
)
def test_the_same_evaluation_may_be_given_again(tmp_path, before, now):
    """If broken, a command that is given twice fails the second time."""
    check_may_replace(tmp_path / "new", examples(), DataConfig(), now)
    stored(tmp_path / "out", before)
    check_may_replace(tmp_path / "out", examples(), DataConfig(), now)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": 0.4}, "other options"),
        ({"threshold": 0.5, "threshold_chosen_on": {"split": "validation"}}, "other options"),
        ({"fill_holes": True}, "other options"),
        ({"test_time_augmentation": True}, "other options"),
        ({"ensemble": [{"workdir": "runs/a", "step": 12, "run": "0123"}]}, "another run or checkpoint"),
        ({"ensemble": [{"workdir": "runs/a", "step": 6, "run": "4567"}]}, "another run or checkpoint"),
        ({"ensemble": [*NOW["ensemble"], *NOW["ensemble"]]}, "another run or checkpoint"),
    ],
)
def test_scores_of_another_model_are_kept(tmp_path, change, said):
    """If broken, plain scores are gone after a try with other options, or after more training, without a word."""
    stored(tmp_path)
    with pytest.raises(UserError, match=rf"holds scores of {said}; --overwrite replaces them, --out DIR keeps both"):
        check_may_replace(tmp_path, examples(), DataConfig(), {**NOW, **change})


def test_scores_of_masks_that_were_read_otherwise_are_kept(tmp_path):
    """If broken, a try with `--data.mask-invert true` replaces the scores of masks read as they were meant."""
    stored(tmp_path)
    with pytest.raises(UserError, match="holds scores of masks that are read otherwise; "):
        check_may_replace(tmp_path, examples(), DataConfig(mask_invert=True), NOW)


def test_scores_of_other_images_are_kept(tmp_path):
    """If broken, the scores of one data set are replaced by those of another."""
    stored(tmp_path)
    with pytest.raises(UserError, match="holds scores of other images or masks; "):
        check_may_replace(tmp_path, examples(names=("a", "c")), DataConfig(), NOW)


def test_scores_of_masks_that_were_edited_since_are_kept(tmp_path):
    """If broken, a mask that was redrawn at the same size in bytes replaces the scores of the one before."""
    data_set(tmp_path / "set", 3)
    config = DataConfig(name=str(tmp_path / "set"))
    now = open_split(config, "all")
    stored(tmp_path / "out", images=now, identity=hash_all(identify(now)))
    check_may_replace(tmp_path / "out", open_split(config, "all"), config, NOW)
    path = tmp_path / "set" / "masks" / "im1.png"
    path.write_bytes(path.read_bytes().ljust(1000, b"\0"))  # decoders ignore what follows a PNG
    stored(tmp_path / "out", images=(before := open_split(config, "all")), identity=hash_all(identify(before)))
    save(path, np.roll(np.asarray(Image.open(path)), 3, axis=0))
    path.write_bytes(path.read_bytes().ljust(1000, b"\0"))
    after = open_split(config, "all")
    assert after.fingerprint() == before.fingerprint()
    with pytest.raises(UserError, match="holds scores of images or masks that have been edited since; --overwrite"):
        check_may_replace(tmp_path / "out", after, config, NOW)


def test_the_same_images_in_another_place_may_be_scored_again(tmp_path):
    """If broken, an evaluation cannot be repeated once its data have moved."""
    for place in ("a", "b"):
        data_set(tmp_path / place, 3)
    first, second = (open_split(DataConfig(name=str(tmp_path / place)), "all") for place in ("a", "b"))
    stored(tmp_path / "out", images=first, identity=hash_all(identify(first)))
    check_may_replace(tmp_path / "out", second, DataConfig(), NOW)


@pytest.mark.parametrize(
    ("name", "content"),
    [("metrics.json", "[]"), ("metrics.json", '{"data": {}}'), ("per_image.csv", "my table"), ("report.html", "mine")],
)
def test_files_of_the_users_are_kept(tmp_path, name, content):
    """If broken, `--out` of a folder of the user's replaces a file of that name."""
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"holds {name}, which is not of an evaluation by this version"):
        check_may_replace(tmp_path, examples(), DataConfig(), NOW)


def test_two_folders_of_one_name_do_not_share_an_evaluation(tmp_path):
    """If broken, `b/images_set` takes the place of `a/images_set`, both being `evaluation/images_set-all`."""
    first, second = examples("/a/images_set"), examples("/b/images_set", names=("x",))
    plain = folder_of(tmp_path, first)
    assert plain == tmp_path / "evaluation" / "images_set-all"
    stored(plain, images=first)
    assert folder_of(tmp_path, first) == plain
    other = folder_of(tmp_path, second)
    assert other.parent == plain.parent
    assert other != plain
    assert other != folder_of(tmp_path, examples("/c/images_set", names=("x", "y")))
    stored(other, images=second)
    assert folder_of(tmp_path, second) == other


def test_evaluate_replaces_only_the_same_or_when_asked(tiny_run, tmp_path):
    """If broken, the command does not ask before it replaces, or pictures of the old scores stay among the new."""
    shutil.copytree(tiny_run, tmp_path / "run")
    for place, count in (("a", 3), ("b", 2)):
        folder = data_set(tmp_path / place / "images_set", count)
        (folder / "images" / "im0.png").write_bytes(encoded(np.roll(RGB, count, axis=0)))
    flags = ["--workdir", str(tmp_path / "run"), "--data"]
    for _ in range(2):
        for place in ("a", "b"):
            evaluate.main([*flags, str(tmp_path / place / "images_set")])
    found = sorted(p.parent for p in (tmp_path / "run/evaluation").glob("*/metrics.json"))
    assert sorted(json.loads((p / "metrics.json").read_text())["data"]["images"] for p in found) == [2, 3]
    plain = tmp_path / "run/evaluation/images_set-all"
    assert plain in found
    before = (plain / "metrics.json").read_bytes()
    more = [*flags, str(tmp_path / "a/images_set"), "--threshold", "0.4"]
    with pytest.raises(UserError, match="holds scores of other options"):
        evaluate.main(more)
    assert (plain / "metrics.json").read_bytes() == before
    (plain / "overlays/worst_gone.png").write_bytes(b"of older scores")
    evaluate.main([*more, "--overwrite"])
    assert json.loads((plain / "metrics.json").read_text())["threshold"] == 0.4
    assert not (plain / "overlays/worst_gone.png").exists()


def test_compare_finds_the_same_images_under_other_names(tiny_run, tmp_path, capsys):
    """If broken, two runs that were scored on the same folders in another order cannot be compared."""
    folders = [data_set(tmp_path / place / "images_set", count) for place, count in (("a", 3), ("b", 2))]
    for name, order in (("one", folders), ("two", folders[::-1])):
        shutil.copytree(tiny_run, tmp_path / name)
        for folder in order:
            evaluate.main(["--workdir", str(tmp_path / name), "--data", str(folder)])
    capsys.readouterr()
    compare.main([str(tmp_path / "one"), str(tmp_path / "two"), "--data", str(folders[1])])
    assert "2 images" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cases/07.jpg", "cases/07_uncertainty.jpg", "overlays/best_mine.png"])
def test_pictures_of_other_origin_are_not_replaced(tmp_path, name):
    """If broken, photographs of the user's that happen to lie where ours would go are deleted."""
    save(tmp_path / name, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match=f"holds {name}, which is not of an evaluation"):
        check_may_replace(tmp_path, examples(), DataConfig(), NOW)
