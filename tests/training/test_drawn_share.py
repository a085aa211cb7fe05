"""Training beside images that are drawn on the device."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxseg import train
from jaxseg.data import Example, Examples
from jaxseg.errors import UserError
from jaxseg.system.stop import Stopped
from jaxseg.training.run import epoch_steps
from tests.helpers.runs import AskedAt, results


def images_of(dataset: str, count: int) -> Examples:
    def load(index: int) -> Example:
        raise AssertionError("no image is needed")

    return Examples(dataset, "train", tuple(map(str, range(count))), ("",) * count, load)


def test_an_epoch_is_a_pass_over_the_training_images(tiny):
    """If broken, some training images are never seen, or an epoch with drawn images is none."""
    config = tiny.updated({"train.batch_size": 4, "data.synthetic_share": 0.5})
    assert epoch_steps(config, images_of("ph2", 12)) == 6
    assert epoch_steps(config.updated({"data.synthetic_share": 0.0}), images_of("ph2", 12)) == 3
    assert epoch_steps(config.updated({"data.synthetic_share": 1.0}), images_of("synthetic", 12)) == 3


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (1.0, r"no image of ph2 would be trained on; use 0\.75 or less, or --data synthetic"),
        (0.9, r"no image of ph2 would be trained on"),
        (0.1, r"less than half an image per batch; use 0\.25 or more"),
    ],
)
def test_impossible_shares_are_refused(tiny, share, message):
    """If broken, a run that is said to train on PH2 saw none of it, or one that asked for drawn images drew none."""
    with pytest.raises(UserError, match=message):
        epoch_steps(tiny.updated({"data.synthetic_share": share}), images_of("ph2", 12))


def test_a_stopped_run_goes_on_with_the_same_drawn_images(tiny, tmp_path, caplog):
    """If broken, drawn images depend on when a run was stopped, or a run of drawn images alone waits for others."""
    config = tiny.updated({"data.synthetic_share": 1.0})
    with caplog.at_level("INFO", "jaxseg"):
        state, _ = train.train_and_evaluate(config, tmp_path / "whole")
    assert "4 of the 4 images of each batch are drawn" in caplog.text
    assert json.loads((tmp_path / "whole/config.json").read_text())["config"]["data"]["synthetic_share"] == 1
    with pytest.raises(Stopped):
        train.train_and_evaluate(config, tmp_path / "halves", AskedAt(3))
    resumed, _ = train.train_and_evaluate(config, tmp_path / "halves")
    jax.tree.map(np.testing.assert_array_equal, dataclasses.asdict(state), dataclasses.asdict(resumed))
    assert results(tmp_path / "whole") == results(tmp_path / "halves")
