"""Packed models: the one inside the package, and what reads them where a run's folder is expected."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.package_model import add_scores, describe_data, pack
from jaxseg import evaluate, export, predict, train
from jaxseg.errors import RunError, UserError
from jaxseg.inference.segmenter import Segmenter
from jaxseg.pretrained import card, place, weights
from jaxseg.runs import images
from jaxseg.runs.workdir import run_id

LICENCE = {"data": {"mine": {"title": "My images", "licence": "CC0"}}}


@pytest.fixture(scope="module")
def packed(tiny_run, tmp_path_factory):
    """Returns the folder of a packed tiny run; tests must not write into it."""
    folder = tmp_path_factory.mktemp("packed") / "model"
    pack(tiny_run, folder, {"name": "tiny"})
    return folder


@pytest.fixture
def inside(packed, monkeypatch):
    """Makes the packed tiny run the model inside the package."""
    monkeypatch.setattr(place, "FOLDER", packed)
    return packed


@pytest.fixture
def photo(tmp_path):
    """Returns a picture of 50 x 40 pixels."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return path


def test_the_model_inside_is_what_its_card_says():
    """If broken, the package holds no model, a model of another card, or one that is too large to install."""
    about = json.loads((place.FOLDER / place.CARD).read_text())
    assert (place.FOLDER / place.MODEL_CARD).read_text() == card.markdown(about)
    size = (place.FOLDER / place.WEIGHTS).stat().st_size
    assert size == about["weights"]["bytes"] <= weights.MAX_BYTES
    assert run_id(place.FOLDER) == about["weights"]["sha256"][:16]
    assert all(part["licence"] for part in about["trained_on"])
    assert not {"ph2"} & {part["dataset"] for part in about["trained_on"]}
    assert images.read(place.FOLDER).trained()
    if about["scores"] is None:
        assert "no scores yet" in card.line(about)
        assert "Not measured yet." in card.markdown(about)


def test_the_model_inside_segments_without_a_workdir(photo, tmp_path, capsys):
    """If broken, a user must train before anything happens with her own photograph, or does not learn what she used."""
    assert predict.main(["--input", str(photo), "--output", str(tmp_path / "masks")]) == 0
    with Image.open(tmp_path / "masks" / "photo_mask.png") as mask:
        assert mask.size == (50, 40)
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if "model builtin" in line]
    about = json.loads((place.FOLDER / place.CARD).read_text())
    assert about["name"] in line
    assert "trained on" in line
    assert "not a medical device" in line


def test_a_packed_model_makes_the_masks_of_its_run(tiny_run, packed, photo):
    """If broken, weights are rounded too far, or some are lost or mixed up."""
    before, after = Segmenter.load(tiny_run), Segmenter.load(packed)
    assert (after.step, after.image_size) == (before.step, before.image_size)
    # float16 has 11 bits: a few such errors add up in a network of ten layers.
    np.testing.assert_allclose(after(photo), before(photo), atol=5e-3)


def test_the_image_list_is_that_of_the_run_without_names(tiny_run, packed):
    """If broken, the package tells names of a user's files, or forgets images that the weights have seen."""
    listed, kept = images.read(tiny_run), images.read(packed)
    assert (kept.trained(), kept.validated()) == (listed.trained(), listed.validated())
    assert {entry.name for entry in (*kept.train, *kept.validation)} == {""}


def test_the_model_inside_is_scored_and_knows_its_images(inside, tmp_path, monkeypatch):
    """If broken, the scores on the card cannot be reproduced, or images that it was trained on pass for unseen ones."""
    monkeypatch.chdir(tmp_path)
    for split, seen in (("train", 12), ("test", 0)):
        evaluate.main(["--split", split])
        metrics = json.loads((tmp_path / "builtin" / "evaluation" / f"synthetic-{split}" / "metrics.json").read_text())
        assert metrics["data"]["trained_on"] == seen
        assert metrics["model"]["workdir"] == "builtin"
        assert metrics["prediction"]["ensemble"][0]["run"] == run_id(inside)
    assert sorted(path.name for path in inside.iterdir()) == sorted(
        [place.CARD, place.WEIGHTS, place.IMAGES, place.MODEL_CARD]
    )


def test_scores_and_threshold_of_the_card_are_those_of_its_weights(packed, tiny_run, tmp_path):
    """If broken, the card shows scores of another model, or of masks that nobody gets without options."""
    model = shutil.copytree(packed, tmp_path / "model")
    flags = ["--data", "synthetic", "--split", "test"]
    evaluate.main(["--workdir", str(model), *flags, "--out", str(tmp_path / "a")])
    content = add_scores(model, [tmp_path / "a" / "metrics.json"], None, {})
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    (score,) = content["scores"]
    assert score["dice"] == metrics["native"]["per_image"]["dice"]
    assert (score["images"], score["trained_on"], len(score["by_lesion_size"])) == (6, 0, 4)
    text = (model / place.MODEL_CARD).read_text()
    assert f"| {score['dice']:.3f} [" in text
    assert "Dice" in card.line(content)
    evaluate.main(["--workdir", str(tiny_run), *flags, "--out", str(tmp_path / "b")])
    with pytest.raises(UserError, match=r"scores of other weights; evaluate the packed model"):
        add_scores(model, [tmp_path / "b" / "metrics.json"], None, {})
    with pytest.raises(UserError, match=r"other options .* at threshold 0\.3"):
        add_scores(model, [tmp_path / "a" / "metrics.json"], 0.3, {})
    assert add_scores(model, [], 0.3, {})["scores"] is None
    assert Segmenter.load(model).threshold == 0.3


def test_a_run_starts_with_the_model_inside(inside, tmp_path):
    """If broken, the model inside cannot be improved with a user's images."""
    flags = ["--data", "synthetic", "--data.synthetic-train", "4", "--data.synthetic-eval", "2", "--train.devices", "1"]
    flags += ["--train.batch-size", "4", "--train.epochs", "1", "--init-from", "builtin"]
    assert train.main(["--workdir", str(tmp_path / "run"), *flags]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["config"]["model"]["init_from"] == config["init_from"]["workdir"] == "builtin"
    assert config["init_from"]["run"] == run_id(inside)
    assert len(images.read(tmp_path / "run").inherited_train) == 12
    with pytest.raises(UserError, match="holds a packed model, in which no run can be trained"):
        train.main(["--workdir", str(inside), *flags])


def test_the_model_inside_is_exported(inside, tmp_path):
    """If broken, the model inside cannot be used without jaxseg."""
    export.main(["--output", str(tmp_path / "model.stablehlo")])
    assert (tmp_path / "model.stablehlo").stat().st_size > 1000


def spoil(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("spoiled", "answer"),
    [
        (lambda f: (f / place.WEIGHTS).unlink(), r"cannot be read \(FileNotFoundError.*install jaxseg again"),
        (lambda f: spoil(f, place.WEIGHTS, lambda b: b[:-1] + b"?"), r"SHA-256 is not the one in card\.json"),
        (lambda f: spoil(f, place.CARD, lambda b: b.replace(b'"sha256"', b'"sha"')), "cannot be read"),
        (lambda f: spoil(f, place.CARD, lambda b: b.replace(b"8\n      ]", b"9\n      ]")), "does not hold the wei"),
    ],
)
def test_a_damaged_model_is_told_in_a_line(packed, tmp_path, spoiled, answer):
    """If broken, a damaged installation makes wrong masks, or ends in a traceback."""
    model = shutil.copytree(packed, tmp_path / "model")
    spoiled(model)
    with pytest.raises(RunError, match=answer):
        Segmenter.load(model)


def test_large_values_and_large_files_are_not_packed(tmp_path, monkeypatch):
    """If broken, weights become infinite in float16, or every installation grows."""
    variables = {"params": {"conv": {"kernel": np.full((1, 1, 3, 2), 1e6, np.float32)}}, "batch_stats": {}}
    with np.errstate(over="ignore"), pytest.raises(UserError, match="params/conv/kernel: holds values that float16"):
        weights.write(tmp_path, variables)
    variables["params"]["conv"]["kernel"][:] = 1
    monkeypatch.setattr(weights, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="a packed model may have 10; train a smaller network"):
        weights.write(tmp_path, variables)
    assert not list(tmp_path.iterdir())


def test_what_may_not_be_distributed_is_not_packed():
    """If broken, a model goes out that its data's licence does not allow."""

    def run(dataset, parent=None):
        return {"data": {"dataset": dataset, "train_images": 5}, "init_from": parent}

    with pytest.raises(UserError, match="trained on ph2: PH2 is licensed for research alone"):
        describe_data([run("isic2016", {"dataset": "ph2", "train_images": 160, "init_from": None})], {}, 10)
    with pytest.raises(UserError, match="trained on mine: its licence is not known; give it in --about"):
        describe_data([run("mine")], {}, 10)
    mine = {"dataset": "mine", "title": "My images", "images": 5, "licence": "CC0"}
    assert describe_data([run("mine")], LICENCE, 0) == [mine]
    assert [part["images"] for part in describe_data([run("mine")], LICENCE, 10)] == [5, 10]
