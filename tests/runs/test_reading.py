"""A run's data in another place are read as in training; another set is not."""

import json
import logging

import pytest

from jaxseg import cli
from jaxseg.config import Config
from jaxseg.data import open_split
from jaxseg.runs import splits
from jaxseg.runs.reading import with_reading_of
from tests.helpers.drawn_folders import draw_folder, reencode
from tests.helpers.skin import folder, grey, pair, save


@pytest.fixture
def heard(heard):
    heard.set_level(logging.INFO)
    return heard


@pytest.fixture
def run(tmp_path):
    """Returns a run's folder and settings: its masks are drawn inverted, and read so."""
    inverted = folder(tmp_path / "inverted", draw=lambda mask: grey(~mask))
    config = Config().updated({"data.name": str(inverted), "data.mask_invert": True})
    opened = splits.open_splits(config, tmp_path / "run")
    splits.register(opened, config, tmp_path / "run", (lambda *_: None, lambda *_: None), lambda: False)
    (tmp_path / "run" / "config.json").write_text(json.dumps({"config": config.to_dict()}))
    return tmp_path / "run", config


def opened(run, config, place):
    data = config.updated({"data.name": str(place)}).data
    return with_reading_of(run, config, data, cli.READING_DEFAULTS)


def test_the_runs_own_images_are_read_as_in_training(run, tmp_path, heard):
    """If broken, a moved set is scored against its masks inside out, unless every setting is given again."""
    moved = reencode(tmp_path / "inverted", tmp_path / "moved")
    image, mask = pair(30)
    save(moved / "images" / "new.png", image)
    save(moved / "masks" / "new.png", grey(~mask))
    found = opened(*run, moved)
    assert (found.name, found.mask_invert) == (str(moved), True)
    assert "holds 10 images of the run, and is read as in training: data.mask_invert True" in heard.text
    assert open_split(found, "all").load(10).mask.mean() == pytest.approx(mask.mean())
    assert opened(*run, tmp_path / "inverted").mask_invert


@pytest.mark.parametrize("numbers", [range(10), range(20, 30)], ids=["redrawn masks", "other images"])
def test_another_set_is_read_by_the_defaults(run, numbers, tmp_path):
    """If broken, sound masks of the same or of other images are inverted because the run's were."""
    assert not opened(*run, draw_folder(tmp_path / "other", numbers)).mask_invert


@pytest.mark.parametrize("name", ["synthetic", "ph2"])
def test_a_known_set_is_read_by_the_defaults(run, name):
    """If broken, a published set is opened as the run's folder was."""
    assert not opened(*run, name).mask_invert
