"""Runs of earlier releases open in this one: they are scored, segmented with, and resumed.

`fixtures/run-VERSION/` is what that release left, on synthetic pictures: `run/` is a workdir without its pictures and
TensorBoard's events, `pictures/` three images with masks, `expected/` what evaluate and predict made of them. It was
made by that release itself, by

    python -m jaxseg.train --workdir run --data synthetic --data.image-size 32 --data.synthetic-train 12 \
        --data.synthetic-eval 6 --model.encoder none --model.pretrained none --model.unet-channels 4,8 \
        --model.decoder-bn-momentum 0.3 --loss.name bce --optim.learning-rate 0.01 --train.batch-size 4 \
        --train.epochs 2 --train.devices 1
    python -m jaxseg.evaluate --workdir run --data pictures --out expected       # of which per_image.csv is kept
    python -m jaxseg.predict --workdir run --input pictures/images --output expected --probabilities

and must NOT be made anew: a later release that cannot read it has to learn to. A release that changes what a workdir
holds adds a folder of its own beside it.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg import evaluate, predict, train
from jaxseg.config import Config
from jaxseg.metrics import COUNTS
from jaxseg.runs.workdir import read_config
from tests.helpers.paths import FIXTURES

MOVED = 10
"""Most pixels of an image that another processor or version of XLA may round to the other side of the threshold."""

RELEASES = sorted(FIXTURES.glob("run-*"))


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def old(request, tmp_path) -> Path:
    """Returns a copy of what a release left."""
    shutil.copytree(request.param, tmp_path / "old")
    return tmp_path / "old"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_there_is_a_run_of_each_release():
    """If broken, this module tests nothing."""
    assert RELEASES


def test_an_old_run_is_scored_as_it_was(old, tmp_path):
    """If broken, nobody can score, or compare with, a model of last year's; or its scores have changed."""
    flags = ["--workdir", str(old / "run"), "--data", str(old / "pictures"), "--out", str(tmp_path / "out")]
    evaluate.main(flags)
    tables = [(folder / "per_image.csv").read_text().splitlines() for folder in (tmp_path / "out", old / "expected")]
    for got, want in zip(*map(csv.DictReader, tables), strict=True):
        assert got.keys() >= want.keys()
        assert (got["name"], got["group"]) == (want["name"], want["group"])
        # A pixel that moves leaves one count and enters another.
        moved = sum(abs(int(got[name]) - int(want[name])) for name in COUNTS) / 2
        assert moved <= MOVED
        lesion = int(want["tp"]) + int(want["fn"])
        for name in want.keys() - {"name", "group", *COUNTS}:
            # The table has six decimals. A moved pixel changes a share by at most twice its part of the lesion, which
            # is the smallest denominator; an outline that moves by a pixel or two moves its distances as much.
            per_pixel = {"hausdorff95": 1.0, "hausdorff95_relative": 0.02}.get(name, 2 / lesion)
            assert float(got[name]) == pytest.approx(float(want[name]), abs=2e-6 + per_pixel * moved), name


def test_an_old_run_segments_as_it_did(old, tmp_path):
    """If broken, weights are read into other places than they were written from."""
    flags = ["--workdir", str(old / "run"), "--input", str(old / "pictures" / "images"), "--output", str(tmp_path)]
    assert predict.main([*flags, "--probabilities"]) == 0
    for want in sorted((old / "expected").glob("*_probability.png")):
        # Steps of 1/255; the pictures span a good part of them.
        assert np.abs(pixels(tmp_path / want.name) - pixels(want)).max() <= 2
        assert np.ptp(pixels(want)) > 20


def test_an_old_run_goes_on(old):
    """If broken, a training that was begun before an update has to begin anew."""
    run = old / "run"
    config, lines = (run / "config.json").read_text(), (run / "metrics.jsonl").read_text().splitlines()
    assert train.main(["--workdir", str(run), "--train.epochs", "3"]) == 0
    assert (run / "config.json").read_text() == config
    history = (run / "metrics.jsonl").read_text().splitlines()
    assert history[:2] == lines
    assert [json.loads(line)["epoch"] for line in history] == [1, 2, 3]
    assert json.loads((run / "summary.json").read_text())["epochs"] == 3


def test_settings_that_are_newer_than_a_run_keep_their_defaults(old):
    """If broken, every new setting makes all earlier runs unreadable."""
    path = old / "run" / "config.json"
    values = json.loads(path.read_text())
    del values["config"]["augment"], values["config"]["train"]["log_every_steps"]
    path.write_text(json.dumps(values))
    config = read_config(old / "run")
    assert config.augment == Config().augment
    assert config.train.log_every_steps == Config().train.log_every_steps
    assert config.model.unet_channels == (4, 8)
