"""How a run that is resumed is judged by its settings."""

import pytest

from jaxseg.config import Config
from jaxseg.errors import UserError
from jaxseg.optim import EarlyStopState
from jaxseg.runs.progress import EpochSums, Progress, after_epoch, resumed

STOPPED = Progress(early_stop=EarlyStopState(epoch=12, best_epoch=2, wait=10, should_stop=True))


def settings(epochs: int, patience: int) -> Config:
    return Config().updated({"train.epochs": epochs, "optim.early_stop_patience": patience})


def test_more_epochs_after_early_stopping_are_answered():
    """If broken, who asks for more epochs gets exit code 0 and nothing trained."""
    with pytest.raises(UserError, match=r"stopped early after epoch 12, .* add --optim\.early-stop-patience 20"):
        resumed(STOPPED, settings(60, 10), 30)


@pytest.mark.parametrize(("epochs", "patience", "stops"), [(60, 20, False), (30, 10, True)])
def test_patience_decides_whether_a_stopped_run_goes_on(epochs, patience, stops):
    """If broken, a run with more patience trains nothing, or a finished one trains on when it is called again."""
    assert resumed(STOPPED, settings(epochs, patience), 30).early_stop.should_stop == stops


def test_a_run_beyond_its_planned_epochs_is_told(heard):
    """If broken, a run of 2000 epochs that was stopped at 47 passes for finished when it is resumed without them."""
    progress = Progress(early_stop=EarlyStopState(epoch=47, best_epoch=47))
    resumed(progress, settings(1, 10), 1)
    assert "the run is at epoch 47, beyond train.epochs = 1; a higher" in heard.text
    heard.clear()
    resumed(progress, settings(2000, 10), 1)
    assert not heard.text


def test_epochs_may_differ_in_length():
    """If broken, the best epoch's step names the checkpoint of another epoch, whose weights are then used."""
    progress, scores = Progress(), {"loss": 1.0}
    for steps, loss in ((3, 3.0), (3, 2.0), (2, 1.0), (1, 1.5)):
        progress = after_epoch(
            Progress(**{**vars(progress), "sums": EpochSums(steps=steps, seconds=1.0)}), scores | {"loss": loss},
            Config(), 1.0,
        )  # fmt: skip
    assert [line["step"] for line in progress.history] == [3, 6, 8, 9]
    assert (progress.best_step, progress.steps) == (8, 9)
