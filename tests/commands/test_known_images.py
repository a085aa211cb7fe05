"""A run knows its images: data that were added, edited, moved or renamed between the commands of a user."""

import json
import shutil

import pytest
from PIL import Image

from jaxseg import compare, evaluate, train
from jaxseg.errors import UserError
from jaxseg.runs.images import read
from tests.helpers.drawn_folders import draw_folder, reencode, remove
from tests.helpers.runs import flags, tiny_config
from tests.helpers.skin import save

TINY = [*flags(tiny_config().updated({"train.epochs": 1})), "--data.synthetic-train", "160"]
FLAGS = [flag for pair in zip(TINY[::2], TINY[1::2], strict=True) if pair[0] != "--data.name" for flag in pair]


def trained(run, *more):
    return train.main(["--workdir", str(run), *map(str, more)])


def scored(run, folder, *more):
    """Evaluates, and returns metrics.json."""
    out = run.parent / "scores"
    evaluate.main(["--workdir", str(run), "--data", str(folder), "--out", str(out), "--overwrite", *map(str, more)])
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Returns a folder with data `d` and a run `r` that was trained on them; tests work on copies."""
    root = tmp_path_factory.mktemp("known")
    draw_folder(root / "d", range(10))
    assert trained(root / "r", *FLAGS, "--data", root / "d") == 0
    return root


@pytest.fixture
def place(first, tmp_path):
    """Returns a copy of it, whose run has its data in the copy's `d`."""
    shutil.copytree(first / "d", tmp_path / "d")
    shutil.copytree(first / "r", tmp_path / "r")
    path = tmp_path / "r" / "config.json"
    path.write_text(path.read_text().replace(str(first / "d"), str(tmp_path / "d")))
    return tmp_path


def test_images_are_added_between_training_and_training(place, capsys):
    """If broken, training goes on with images on other sides, and trained images pass for unseen ones."""
    run, folder = place / "r", place / "d"
    before = read(run)
    draw_folder(folder, [10, 11, 12])
    with pytest.raises(UserError, match=r"3 added \(img10, img11, img12\)"):
        trained(run, "--train.epochs", "2")
    metrics = scored(run, folder, "--split", "validation")
    assert metrics["data"]["trained_on"] == 0
    assert metrics["identity"]["validated_on"] == metrics["data"]["images"] == len(before.validation)
    assert "holds 3 images that are not the run's" in capsys.readouterr().err
    metrics = scored(run, folder)
    assert (metrics["data"]["images"], metrics["data"]["trained_on"], metrics["identity"]["validated_on"]) == (13, 8, 2)
    assert trained(run, "--train.epochs", "2", "--data.keep-split", "true") == 0
    assert read(run) == before
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["epochs"], summary["train_images"], summary["validation_images"]) == (2, 8, 2)


def test_a_threshold_is_chosen_on_the_runs_own_validation_images(place):
    """If broken, --threshold auto refuses a set that has grown, or takes images that were trained on."""
    run, folder = place / "r", place / "d"
    draw_folder(folder, range(10, 16))
    chosen = scored(run, folder, "--threshold", "auto")["prediction"]["threshold_chosen_on"]
    assert (chosen["images"], chosen["trained_on"], chosen["scored_images"]) == (2, 0, 2)
    moved = reencode(folder, place / "elsewhere")
    shutil.rmtree(folder)
    again = scored(run, moved, "--threshold", "auto")["prediction"]["threshold_chosen_on"]
    assert (again["images"], again["scored_images"], again["score"]) == (2, 2, chosen["score"])
    remove_validation = read(run).validation[0].name
    (moved / "images" / f"{remove_validation}.bmp").unlink()
    with pytest.raises(UserError, match=rf"1 of the 2 validation images of .* as {remove_validation}; put them back"):
        scored(run, moved, "--threshold", "auto")


def test_the_data_moved(place, capsys):
    """If broken, a run whose data lie elsewhere takes them for unseen images, and cannot be resumed."""
    run, moved = place / "r", place / "moved"
    (place / "d").rename(moved)
    metrics = scored(run, moved, "--split", "train")
    assert metrics["data"]["trained_on"] == metrics["data"]["images"] == 8
    assert "8 of the 8 images were TRAINED ON" in capsys.readouterr().err
    assert scored(run, moved)["data"]["trained_on"] == 8
    with pytest.raises(UserError, match="--data NEWPLACE"):
        trained(run, "--train.epochs", "2")
    assert trained(run, "--train.epochs", "2", "--data", moved) == 0
    assert json.loads((run / "config.json").read_text())["config"]["data"]["name"] == str(moved)
    assert trained(run, "--train.epochs", "3") == 0, "the new place was not kept"


def test_copies_of_training_images_are_told(place, capsys):
    """If broken, training images that were mirrored or turned are scored as unseen, without a word."""
    folder = place / "turned"
    for path in (place / "d").rglob("*.png"):
        with Image.open(path) as picture:
            save(folder / path.relative_to(place / "d"), picture.transpose(Image.Transpose.TRANSVERSE))
    metrics = scored(place / "r", folder)
    assert (metrics["data"]["trained_on"], metrics["identity"]["copies"]) == (0, 8)
    assert "8 of the 10 images LOOK LIKE TRAINING IMAGES (img0" in capsys.readouterr().err
    assert scored(place / "r", place / "d")["identity"]["copies"] == 0, "those were trained on"


def test_a_members_images_count_too(place, tmp_path):
    """If broken, an ensemble's second run was trained on the scored images, and nobody is told."""
    other = draw_folder(tmp_path / "other", range(20, 30))
    second = tmp_path / "second"
    assert trained(second, *FLAGS, "--data", other) == 0
    mixed = draw_folder(tmp_path / "mixed", [*range(3), *range(20, 24), 40])
    both = {entry.name for run in (place / "r", second) for entry in read(run).train}
    expected = sum(f"img{i:02d}" in both for i in [*range(3), *range(20, 24)])
    assert scored(place / "r", mixed, "--ensemble", second)["data"]["trained_on"] == expected > 4


def test_a_first_start_that_failed_binds_nobody(tmp_path):
    """If broken, settings and images of a start that never trained are held against the second."""
    folder, run = draw_folder(tmp_path / "d", range(10)), tmp_path / "r"
    spoilt = folder / "images" / "img06.png"
    spoilt.write_bytes(spoilt.read_bytes()[:-500])
    for more in ((), ("--data.image-size", "64")):
        with pytest.raises(UserError, match=r"img06.png: cannot be decoded"):
            trained(run, *FLAGS, "--data", folder, *more)
        assert not (run / "config.json").exists()
        assert not (run / "images.json").exists()
    # What an older release left of a failed start.
    run.mkdir(exist_ok=True)
    old = tiny_config().updated({"data.name": str(folder), "data.image_size": 64}).to_dict()
    (run / "config.json").write_text(json.dumps({"schema_version": 1, "config": old, "data": {"fingerprints": {}}}))
    remove(folder, "img06")
    assert trained(run, *FLAGS, "--config", "paper", "--data", folder) == 0
    values = json.loads((run / "config.json").read_text())
    assert values["config"]["data"]["image_size"] == 32
    assert len(values["data"]["fingerprints"]["train"]) == 16
    assert scored(run, folder, "--split", "validation", "--threshold", "auto")["data"]["trained_on"] == 0


def test_runs_are_compared_by_the_content_of_images(place, capsys):
    """If broken, the same images in two places are other images, or edited images are the same ones."""
    run, other = place / "r", reencode(place / "d", place / "other")
    evaluate.main(["--workdir", str(run), "--out", str(place / "a")])
    evaluate.main(["--workdir", str(run), "--data", str(other), "--out", str(place / "b")])
    compare.main([str(place / "a"), str(place / "b")])
    assert "10 images" in capsys.readouterr().out
    shutil.copytree(run, place / "r2")
    for folder, data in ((run, place / "d"), (place / "r2", other)):
        evaluate.main(["--workdir", str(folder), "--data", str(data)])
    compare.main([str(run), str(place / "r2")])
    assert "10 images" in capsys.readouterr().out
    mask = other / "masks" / "img03.tif"
    mask.write_bytes((other / "masks" / "img04.tif").read_bytes())
    evaluate.main(["--workdir", str(run), "--data", str(other), "--out", str(place / "c")])
    with pytest.raises(UserError, match="not of the same images"):
        compare.main([str(place / "a"), str(place / "c")])
    # An older evaluation is told by its fingerprint.
    for name in ("a", "b"):
        metrics = json.loads((place / name / "metrics.json").read_text())
        del metrics["identity"]
        (place / name / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="not of the same images"):
        compare.main([str(place / "a"), str(place / "b")])
    shutil.copytree(place / "a", place / "a2")
    compare.main([str(place / "a"), str(place / "a2")])


def test_fewer_images_make_shorter_epochs(place):
    """If broken, a run that goes on with fewer images ends with the weights of another epoch than its best."""
    run = place / "r"
    for name in sorted(entry.name for entry in read(run).train)[:4]:
        remove(place / "d", name)
    more = ["--data.keep-split", "true", "--optim.early-stop-patience", "50"]
    assert trained(run, "--train.epochs", "5", *more) == 0
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [2, 3, 4, 5, 6]
    best = min(history, key=lambda line: line["val_loss"])
    scores = scored(run, place / "d", "--split", "validation")
    assert scores["model"]["step"] == best["step"]
    assert scores["network"]["per_image"]["dice"] == pytest.approx(best["val_dice"], abs=1e-4)


def own_sides(root, train, validation):
    """Draws a set that has validation images of its own."""
    draw_folder(root / "train", train)
    draw_folder(root / "validation", validation)
    return root


def test_folds_are_of_the_runs_own_set(first, tmp_path):
    """If broken, a run of a cross-validation scores training images of another set as its validation images."""
    run = tmp_path / "r"
    assert trained(run, *FLAGS, "--data", first / "d", "--data.folds", "5", "--data.fold", "2") == 0
    other = own_sides(tmp_path / "other", range(30, 34), range(40, 43))
    assert scored(run, other, "--split", "validation")["data"]["images"] == 3
    moved = reencode(first / "d", tmp_path / "moved")  # the run's own images, in another place
    metrics = scored(run, moved, "--split", "validation")
    assert (metrics["data"]["images"], metrics["identity"]["validated_on"]) == (2, 2)


def test_images_that_changed_sides_are_told_by_evaluate(tmp_path, capsys):
    """If broken, evaluate scores the old validation images of a set that the user has divided anew, in silence."""
    data, run = own_sides(tmp_path / "d", range(6), range(10, 13)), tmp_path / "r"
    assert trained(run, *FLAGS, "--data", data) == 0
    for part in ("images", "masks"):
        shutil.move(data / "train" / part / "img00.png", data / "validation" / part / "img00.png")
    assert scored(run, data, "--split", "validation")["data"]["images"] == 3
    assert "1 images lie on the other side of the split than when the run was started (train/img00)" in (
        capsys.readouterr().err
    )
