"""A run that starts with the weights of another: `--init-from RUN`."""

import json
import shutil

import jax
import numpy as np
import pytest

from jaxseg import evaluate, train
from jaxseg.config import Config
from jaxseg.errors import UserError
from jaxseg.inference.segmenter import Segmenter
from jaxseg.runs.checkpoint import restore_best
from jaxseg.runs.images import read
from jaxseg.runs.workdir import read_config, run_id
from jaxseg.steps import Steps, state_target
from jaxseg.training.folder import resolve
from tests.helpers.drawn_folders import draw_folder
from tests.helpers.paths import FIXTURES
from tests.helpers.runs import flags, results, tiny_config

FROZEN = 1e-12
"""A learning rate at which Adam moves no weight by more than float32 tells."""

CHILD = [
    *("--data", "synthetic", "--data.synthetic-train", "8", "--data.synthetic-eval", "4", "--data.workers", "2"),
    *("--train.batch-size", "4", "--train.epochs", "1", "--train.devices", "1", "--train.seed", "7"),
]
"""Settings of a child without those of the network, which it has from its parent."""


def start(workdir, parent, *more):
    return train.main(["--workdir", str(workdir), "--init-from", str(parent), *CHILD, *map(str, more)])


def best(workdir):
    config = read_config(workdir)
    target = state_target(config, Steps(config, jax.local_devices()[:1])).variables
    return jax.device_get(restore_best(workdir, target))


@pytest.fixture
def parent(tiny_run, tmp_path):
    """Returns a copy of a finished run, which tests may change."""
    shutil.copytree(tiny_run, tmp_path / "parent")
    return tmp_path / "parent"


@pytest.mark.parametrize("devices", [1, 2])
def test_it_starts_with_all_weights_of_the_best_checkpoint(parent, tmp_path, devices):
    """If broken, fine-tuning starts from other weights than those that were scored, or its decoder from random ones."""
    start(tmp_path / "child", parent, "--optim.learning-rate", FROZEN, "--train.devices", devices)
    (weights, step), (tuned, _) = best(parent), best(tmp_path / "child")
    jax.tree.map(np.testing.assert_array_equal, weights["params"], tuned["params"])
    record = json.loads((tmp_path / "child" / "config.json").read_text())["init_from"]
    assert record == {
        "workdir": str(parent),
        "run": run_id(parent),
        "step": step,
        "dataset": "synthetic",
        "train_images": 12,
        "drawn_images": 0,
        "averaged": False,
        "init_from": None,
    }


def test_it_starts_with_the_averages_where_there_are_any(tiny, tmp_path):
    """If broken, the child starts with the raw weights of a run that was scored with the averages."""
    averaging = tiny.updated({"optim.ema": 0.9, "train.epochs": 1})
    train.train_and_evaluate(averaging, tmp_path / "parent")
    start(tmp_path / "child", tmp_path / "parent", "--optim.learning-rate", FROZEN)
    jax.tree.map(
        np.testing.assert_array_equal, best(tmp_path / "parent")[0]["params"], best(tmp_path / "child")[0]["params"]
    )
    assert json.loads((tmp_path / "child" / "config.json").read_text())["init_from"]["averaged"]


def test_network_and_image_size_come_from_the_parent(parent, tmp_path):
    """If broken, a user has to repeat the parent's network, or the child is trained at a size that nobody chose."""
    config = Config().updated({"model.init_from": str(parent), "data.name": "synthetic"})
    resolved = resolve(config, tmp_path / "child")
    same = ("model.encoder", "model.unet_channels", "model.colour_constancy", "data.image_size")
    assert [resolved.get(name) for name in same] == [tiny_config().get(name) for name in same]
    assert (resolved.model.pretrained, resolved.model.init_from) == ("none", str(parent))
    assert resolved.optim == config.optim
    larger = config.updated({"data.image_size": 64})
    assert resolve(larger, tmp_path / "child").data.image_size == 64
    assert resolve(config, tmp_path / "child", {"data.image_size"}).data.image_size == 224


CONTRADICTIONS = {
    "encoder": (["--model.encoder", "resnet50"], r"model\.encoder = 'resnet50': .* has 'none'.*leave --model\.encoder"),
    "default encoder": (["--model.encoder", "resnet50v2"], r"model\.encoder = 'resnet50v2': .* has 'none'"),
    "channels": (["--model.unet-channels", "4,8,8"], r"model\.unet_channels = \(4, 8, 8\): .* has \(4, 8\)"),
    "colours": (["--model.colour-constancy", "shades_of_gray"], r"model\.colour_constancy = 'shades_of_gray'"),
    "ImageNet": (["--model.pretrained", "imagenet"], r"model\.pretrained = 'imagenet': --init-from .*leave one"),
    "encoder file": (["--model.pretrained", "w.h5"], r"model\.pretrained = 'w\.h5': --init-from starts with all"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_is_refused(parent, tmp_path, case):
    """If broken, settings that the user gave are dropped in silence, or weights fall into the wrong network."""
    more, answer = CONTRADICTIONS[case]
    with pytest.raises(UserError, match=answer):
        start(tmp_path / "child", parent, *more)
    assert not (tmp_path / "child" / "config.json").exists()


def test_what_is_no_run_is_refused(parent, tmp_path):
    """If broken, a wrong folder ends in a traceback, or starts from random weights."""
    (tmp_path / "file.h5").write_bytes(b"weights")
    (tmp_path / "empty").mkdir()
    broken = shutil.copytree(parent, tmp_path / "broken")
    (broken / "config.json").write_text("{")
    unfinished = shutil.copytree(parent, tmp_path / "unfinished")
    for folder in (unfinished / "checkpoints").iterdir():
        shutil.rmtree(folder)
    answers = {
        "gone": "no such folder",
        "file.h5": r"is a file; give the folder of a run \(--model\.pretrained",
        "empty": r"no config\.json in it, so no run",
        "broken": r"config\.json: cannot be read",
        "unfinished": "holds no checkpoint yet",
    }
    for name, answer in answers.items():
        with pytest.raises(UserError, match=rf"--init-from.*{name}.*{answer}"):
            start(tmp_path / "child", tmp_path / name)


def test_encoder_weights_from_a_run_are_sent_to_init_from(parent, tmp_path):
    """If broken, who gives a run as encoder weights does not learn how to start from it."""
    flags = ["--workdir", str(tmp_path / "child"), "--model.encoder", "resnet50", "--model.pretrained", str(parent)]
    with pytest.raises(UserError, match=r"is the folder of a run; --init-from .*parent starts with all"):
        train.main([*flags, *CHILD])


def test_the_child_goes_on_without_its_parent(parent, tmp_path):
    """If broken, a run cannot be resumed because another folder was moved, trained on or replaced."""
    start(tmp_path / "whole", parent, "--train.epochs", 2)
    start(tmp_path / "child", parent)
    config = json.loads((parent / "config.json").read_text())
    config["config"]["model"]["unet_channels"] = [8, 8, 8]
    (parent / "config.json").write_text(json.dumps(config))
    start(tmp_path / "child", parent)  # finished, and says so
    shutil.rmtree(parent)
    start(tmp_path / "child", parent, "--train.epochs", 2)
    assert results(tmp_path / "child") == results(tmp_path / "whole")
    with pytest.raises(UserError, match=r"holds a run with model\.init_from = .*parent', not .*other'"):
        start(tmp_path / "child", tmp_path / "other")
    with pytest.raises(UserError, match=r"--init-from .*parent: no such folder"):
        start(tmp_path / "another", parent)


def test_a_start_that_failed_binds_nobody(parent, other_run, tmp_path):
    """If broken, after a start that failed the folder can only be used with the parent that was named first."""
    start(tmp_path / "child", parent)
    shutil.rmtree(tmp_path / "child" / "checkpoints")
    (tmp_path / "child" / "summary.json").unlink()
    start(tmp_path / "child", other_run)
    assert read_config(tmp_path / "child").model.unet_channels == (4, 8, 8)


def test_the_images_of_all_generations_count_as_seen(tiny, tmp_path):
    """If broken, the score of images that the weights have been trained on passes for an honest test."""
    folders = [draw_folder(tmp_path / f"d{i}", range(10 * i, 10 * i + 10)) for i in range(4)]
    config = tiny.updated({"data.name": str(folders[0]), "train.epochs": 1})
    train.train_and_evaluate(config, tmp_path / "r0")
    tiny_flags = [*CHILD, "--data.name"]
    for i in (1, 2):
        command = ["--workdir", tmp_path / f"r{i}", "--init-from", tmp_path / f"r{i - 1}", *tiny_flags, folders[i]]
        train.main([str(part) for part in command])
    for run in ("r0", "r1"):
        shutil.rmtree(tmp_path / run)
    images = read(tmp_path / "r2")
    assert [len(images.train), len(images.inherited_train), len(images.inherited_validation)] == [8, 16, 4]
    for i, seen in enumerate([8, 8, 8, 0]):
        out = tmp_path / f"s{i}"
        evaluate.main(["--workdir", str(tmp_path / "r2"), "--data", str(folders[i]), "--out", str(out)])
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["data"]["trained_on"] == seen, i
    chain = json.loads((tmp_path / "r2" / "config.json").read_text())["init_from"]
    assert [chain["dataset"], chain["init_from"]["dataset"]] == [str(folders[1]), str(folders[0])]


def test_a_validation_image_that_the_parent_was_trained_on_is_told(parent, tmp_path, capsys):
    """If broken, early stopping and --threshold auto judge by images that the weights have learned in silence."""
    seed = ["--data.synthetic-train", "12", "--data.synthetic-eval", "6"]
    start(tmp_path / "child", parent, *seed, "--data.folds", "3", "--data.fold", "1")
    assert read(tmp_path / "child").inherited_train
    assert (
        "4 of the validation images are training images too, here or in a run whose weights" in capsys.readouterr().err
    )


def test_a_run_of_an_older_release_is_a_parent_too(tmp_path):
    """If broken, a model of last year's cannot be improved; or what it has seen is forgotten."""
    old = shutil.copytree(FIXTURES / "run-0.1.0" / "run", tmp_path / "old")
    start(tmp_path / "child", old, "--optim.learning-rate", FROZEN)
    jax.tree.map(np.testing.assert_array_equal, best(old)[0]["params"], best(tmp_path / "child")[0]["params"])
    images = read(tmp_path / "child")
    assert len(images.inherited_train) == 12
    assert not images.inherited_unlisted


def test_what_an_old_parent_has_seen_may_be_unknown(tmp_path):
    """If broken, images that nobody can tell apart from trained ones pass for unseen; or all sets are suspected."""
    old = shutil.copytree(FIXTURES / "run-0.1.0" / "run", tmp_path / "old")
    config = json.loads((old / "config.json").read_text())
    config["data"]["fingerprints"] = {"train": "other", "validation": "other"}
    (old / "config.json").write_text(json.dumps(config))
    start(tmp_path / "child", old)
    assert read(tmp_path / "child").inherited_unlisted == ("synthetic",)
    draw_folder(tmp_path / "d", range(10))
    evaluate.main(["--workdir", str(tmp_path / "child"), "--data", str(tmp_path / "d"), "--out", str(tmp_path / "s")])
    assert json.loads((tmp_path / "s" / "metrics.json").read_text())["data"]["trained_on"] is None


def test_the_child_is_a_run_like_any_other(parent, tmp_path):
    """If broken, a fine-tuned run cannot be used, or has learned nothing."""
    start(tmp_path / "child", parent, "--optim.learning-rate", 1e-2, "--loss.name", "bce")
    segmenter = Segmenter.load(tmp_path / "child")
    assert segmenter.image_size == 32
    before, after = best(parent)[0]["params"], best(tmp_path / "child")[0]["params"]
    assert any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    assert "--model.init_from" in flags(read_config(tmp_path / "child"))
