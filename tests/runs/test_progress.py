"""How a run that is resumed is judged by its settings."""

import pytest

from jaxseg.config import Config
from jaxseg.errors import UserError
from jaxseg.optim import EarlyStopState
from jaxseg.runs.progress import Progress, resumed

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
