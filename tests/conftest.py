"""Four fake CPU devices for the whole suite, a tiny configuration, and one tiny trained run that tests share."""

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxseg.config import Config
from tests.helpers.runs import tiny_config

# Before jax is imported: it reads this once.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"


os.environ["JAX_PLATFORMS"] = "cpu"


# Many tests compile the same tiny network: within a session each program is compiled once.
_COMPILED = tempfile.TemporaryDirectory(prefix="jaxseg-tests-")


os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name


os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Undoes what a command's `main` does to the log, so that `caplog` works in the tests after it."""
    logger = logging.getLogger("jaxseg")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture
def tiny() -> Config:
    return tiny_config()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a finished run; tests must not write into it."""
    from jaxseg.train import train_and_evaluate

    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train_and_evaluate(tiny_config(), workdir)
    return workdir


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a finished run of another network on the same images; tests must not write into it."""
    from jaxseg.train import train_and_evaluate

    workdir = tmp_path_factory.mktemp("runs") / "other"
    train_and_evaluate(tiny_config().updated({"model.unet_channels": (4, 8, 8), "train.seed": 1}), workdir)
    return workdir
