"""What the tests of `prepare` share."""

import logging
from pathlib import Path

import pytest


@pytest.fixture
def whole_log(heard: pytest.LogCaptureFixture) -> None:
    """Lets `caplog` see all of jaxseg's log; `restored_logging` undoes it."""
    logger = logging.getLogger("jaxseg")
    logger.handlers.clear()
    logger.setLevel(logging.INFO)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "tfds"
