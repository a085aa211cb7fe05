"""Two processes that train as one, over the loopback device: the same run as one process with as many devices."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxseg import train
from jaxseg.config import Config
from jaxseg.errors import UserError
from jaxseg.runs.checkpoint import Checkpoints, restore_best
from jaxseg.steps import Steps, state_target
from jaxseg.system import processes
from tests.helpers.runs import flags


def start(run: Path, config: Config) -> list[subprocess.Popen]:
    """Starts two processes of two devices each; the second is given a folder of its own, as on another machine."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    started = []
    for number, folder in enumerate((run, run.with_name("second"))):
        environment = {
            **os.environ,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            processes.VARIABLE: f"localhost:{port},{number},2",
        }
        command = [sys.executable, "-m", "jaxseg.train", "--workdir", str(folder), *flags(config)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    return started


def finish(started: list[subprocess.Popen], code: int) -> list[str]:
    """Waits for processes, checks their exit codes and returns what they said."""
    try:
        said = [process.communicate(timeout=600)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [code, code], said
    return said


def read(run: Path, config: Config):
    """Returns the newest state, on one device, and the lines of `metrics.jsonl`."""
    with Checkpoints(run, read_only=True) as checkpoints:
        steps = Steps(config, jax.local_devices()[:1])
        state, _ = checkpoints.restore(checkpoints.latest(), state_target(config, steps))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return jax.device_get(state), lines


@pytest.mark.slow
def test_two_processes_train_as_one(tiny, tmp_path):
    """If broken, gradients or scores come from one process, images are left out or used twice, or both write files."""
    # One step of 4 images, and 6 images to validate: the last batch is padded. Each of the 4 devices has one image.
    config = tiny.updated({"data.synthetic_train": 4, "train.epochs": 1, "train.devices": 0})
    finish(start(tmp_path / "two", config), 0)
    train.train_and_evaluate(config, tmp_path / "one")
    (state, lines), (expected, expected_lines) = (read(tmp_path / name, config) for name in ("two", "one"))
    # float32 sums in another order: gradients, read from Adam's first moment, agree to 1e-5 of a tensor's largest.
    for got, want in zip(jax.tree.leaves(state.opt_state.mu), jax.tree.leaves(expected.opt_state.mu), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    for got, want in zip(jax.tree.leaves(state.variables), jax.tree.leaves(expected.variables), strict=True):
        # The gradient of a bias before batch norm is noise, which may reverse Adam's first step of 1e-2.
        np.testing.assert_allclose(got, want, atol=2.1e-2 if want.ndim == 1 else 1e-4)
    for name, want in expected_lines[0].items():
        if name != "images_per_second":
            assert lines[0][name] == pytest.approx(want, rel=1e-3), name
    assert json.loads((tmp_path / "two" / "config.json").read_text())["device"]["count"] == 4
    assert not (tmp_path / "second").exists()


@pytest.mark.slow
def test_two_processes_stop_together_and_one_goes_on(tiny, tmp_path):
    """If broken, a SIGTERM to one of several processes hangs the others, or the checkpoint needs as many processes."""
    run = tmp_path / "two"
    endless = {"train.epochs": 10000, "optim.early_stop_patience": 10000}
    config = tiny.updated({**endless, "train.devices": 0, "augment.enabled": False})  # compiles in less time
    for _ in range(2):  # the second time they resume
        since = time.time()
        started = start(run, config)
        while not (run / "curves.png").exists() or (run / "curves.png").stat().st_mtime < since:
            assert started[0].poll() is None, started[0].communicate()
            time.sleep(0.05)
        started[1].send_signal(signal.SIGTERM)
        said, _ = finish(started, 143)
        assert "stopped by SIGTERM" in said
        assert "go on with: python -m jaxseg.train" in said
    assert "resuming " in said
    before, lines = read(run, config)
    epochs = len(lines) + 1
    train.train_and_evaluate(config.updated({"train.epochs": epochs, "train.devices": 2}), run)
    after, lines = read(run, config)
    # Equal if they stopped between the last step of that epoch and its validation.
    assert before.step <= after.step == 3 * epochs
    assert [line["epoch"] for line in lines] == list(range(1, epochs + 1))


@pytest.mark.slow
def test_all_processes_start_with_the_weights_that_the_first_one_reads(tiny, tiny_run, tmp_path):
    """If broken, `--init-from` needs the parent's folder on every machine, or processes start from other weights."""
    frozen = {"model.init_from": str(tiny_run), "optim.learning_rate": 1e-12, "augment.enabled": False}
    finish(start(tmp_path / "two", tiny.updated({**frozen, "train.epochs": 1, "train.devices": 0})), 0)
    target = state_target(tiny, Steps(tiny, jax.local_devices()[:1])).variables
    before, after = (restore_best(run, target)[0]["params"] for run in (tiny_run, tmp_path / "two"))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert json.loads((tmp_path / "two" / "config.json").read_text())["init_from"]["workdir"] == str(tiny_run)


@pytest.mark.parametrize("value", ["two", "localhost:1,2", "localhost:1,2,2", "localhost:1,x,2"])
def test_a_mistyped_job_is_told_in_a_line(monkeypatch, value):
    """If broken, a typing mistake in a job script ends in a traceback, or waits for processes that never come."""
    monkeypatch.setenv(processes.VARIABLE, value)
    with pytest.raises(UserError, match=r"JAXSEG_PROCESSES = .* give auto .* or HOST:PORT,NUMBER,COUNT"):
        processes.join()


def test_alone_there_is_nothing_to_tell(monkeypatch):
    """If broken, a single process waits for others."""
    monkeypatch.delenv(processes.VARIABLE, raising=False)
    processes.join()
    alone = processes.peers()
    assert (alone.number, alone.count) == (0, 1)
    assert alone.json_from_first({"a": [1.5, None]}) == {"a": [1.5, None]}
    assert alone.devices(jax.devices()[:2]) == jax.devices()[:2]
