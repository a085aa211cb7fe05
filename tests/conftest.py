"""Four fake CPU devices for the whole suite, a tiny configuration, and two tiny trained runs that tests share."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from jaxseg.config import Config
from tests.helpers.runs import tiny_config

# With `-n`, pytest-xdist starts its workers from the main process, whose environment they inherit: one folder for all.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _FOLDER = tempfile.TemporaryDirectory(prefix="jaxseg-tests-")
    # Before jax is imported: it reads these once.
    os.environ |= {
        "JAXSEG_TESTS_FOLDER": _FOLDER.name,
        "JAX_PLATFORMS": "cpu",
        # A device waits for the others in a cross-device reduction. XLA ends the process after 40 s, which a machine
        # with more workers than cores may need.
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
        " --xla_cpu_collective_call_terminate_timeout_seconds=600",
        # Programs run once or twice here: LLVM's optimisations, half of the time of compilation, would not pay.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "1"),
        # Many tests compile the same tiny network: each program is compiled once per session. JAX locks its cache
        # against other processes only if the size is limited.
        "JAX_COMPILATION_CACHE_DIR": f"{_FOLDER.name}/compiled",
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(4 * 2**30),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        # The suite leaves nothing in the user's cache folder, but reads matplotlib's list of fonts from there, which
        # takes seconds to make.
        "XDG_CACHE_HOME": f"{_FOLDER.name}/cache",
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib")),
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts slow tests first: at the end, one of them would keep a single worker busy."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Undoes what a command's `main` does to the log, so that `caplog` works in the tests after it."""
    logger = logging.getLogger("jaxseg")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Returns `caplog`, which sees jaxseg's log whatever a command before has set."""
    monkeypatch.setattr(logging.getLogger("jaxseg"), "propagate", True)
    return caplog


@pytest.fixture
def own_steps() -> Iterator[None]:
    """Keeps what a test does to the steps from the tests after it, which would take the same compiled ones."""
    from jaxseg import steps

    steps.forget_compiled()
    yield
    steps.forget_compiled()


@pytest.fixture
def tiny() -> Config:
    return tiny_config()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a finished run; tests must not write into it."""
    return trained(tiny_config(), "tiny", tmp_path_factory)


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a finished run of another network on the same images; tests must not write into it."""
    config = tiny_config().updated({"model.unet_channels": (4, 8, 8), "train.seed": 1})
    return trained(config, "other", tmp_path_factory)


def trained(config: Config, name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trains once per session, and returns a copy for this worker: jaxseg locks a run against other processes."""
    from jaxseg.train import train_and_evaluate

    original = Path(os.environ["JAXSEG_TESTS_FOLDER"]) / name
    with FileLock(f"{original}.lock"):
        if not (original / "summary.json").exists():
            train_and_evaluate(config, original)
    return Path(shutil.copytree(original, tmp_path_factory.mktemp("runs") / name))
