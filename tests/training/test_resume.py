"""Runs that are killed, stopped, damaged or out of disk, and go on: they end as one that was left alone."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import pytest

from jaxseg import evaluate, train
from jaxseg.config import Config
from jaxseg.data.published.build import prepare
from jaxseg.errors import RunError, UserError
from jaxseg.inference.segmenter import Segmenter
from jaxseg.runs import checkpoint
from jaxseg.runs.checkpoint import Checkpoints
from jaxseg.runs.workdir import describe_run
from jaxseg.steps import Steps, state_target
from jaxseg.system.files import write_json
from jaxseg.system.stop import Stopped
from jaxseg.training.folder import resolve
from tests.helpers.published import make_ph2
from tests.helpers.runs import AskedAt, flags, results


def final_state(run: Path, config: Config):
    """Returns the last epoch's state, on one device."""
    with Checkpoints(run, read_only=True) as checkpoints:
        steps = Steps(config, jax.local_devices()[:1])
        state, _ = checkpoints.restore(checkpoints.latest(), state_target(config, steps))
    return jax.device_get(state)


def assert_same_run(got: Path, want: Path, config: Config) -> None:
    assert results(got) == results(want)
    chex.assert_trees_all_equal(final_state(got, config), final_state(want, config))


# Runs the command, and sends it SIGKILL at the COUNT-th call of MODULE.NAME, before or after the call.
SUICIDE = """
import importlib, os, signal, sys
module, path, count, moment, *argv = sys.argv[1:]
owner = importlib.import_module(module)
*parents, name = path.split(".")
for parent in parents:
    owner = getattr(owner, parent)
original, calls = getattr(owner, name), 0
def replacement(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(count) and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    if calls == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, name, replacement)
from jaxseg import cli, train
cli.run("train", lambda: train.main(argv))
"""


# Runs the command, an epoch in no less than a second: some of its 16 epochs are left when it is killed, however fast
# the machine is.
SLOW = """
import sys, time
from jaxseg import cli, train
from jaxseg.training.hooks import Hook

class Slow(Hook):
    def on_step(self, metrics):
        time.sleep(0.35)

cli.run("train", lambda: train.main(sys.argv[1:], [Slow()]))
"""


SUICIDES = [
    # In a step of the first epoch, before there is any checkpoint, though the run's folder is there.
    ("jaxseg.steps", "Steps.shard", "2", "before"),
    # Between the last step of an epoch and its validation, and within validation (3 steps, 4 batches each).
    ("jaxseg.training.loop", "validate", "2", "before"),
    ("jaxseg.training.loop", "after_epoch", "2", "before"),
    # A save was begun in the background; a line is ahead of its checkpoint; a file is written and not yet renamed.
    ("jaxseg.runs.checkpoint", "Checkpoints.save", "2", "after"),
    ("jaxseg.runs.workdir", "write_metrics", "3", "after"),
    ("pathlib", "Path.replace", "4", "before"),
]


@pytest.mark.slow
def test_killed_eight_times_it_ends_as_if_never_killed(tiny, tmp_path):
    """If broken, a crash at a bad moment costs the run, an epoch's line, or changes its result.

    It is killed at six moments that are known to be delicate, then at two random ones: shortly after orbax creates its
    temporary folder, and after a line is written.
    """
    config = tiny.updated({"data.synthetic_eval": 16, "train.epochs": 12, "optim.early_stop_patience": 100})
    argv = ["--workdir", str(tmp_path / "killed"), *flags(config)]
    command = [sys.executable, "-m", "jaxseg.train", *argv]
    train.main(["--workdir", str(tmp_path / "whole"), *flags(config)])
    for suicide in SUICIDES:
        ended = subprocess.run([sys.executable, "-c", SUICIDE, *suicide, *argv], capture_output=True, text=True)
        assert ended.returncode == -signal.SIGKILL, (suicide, ended.stderr)
    rng = random.Random(0)
    folder, lines = tmp_path / "killed" / "checkpoints", tmp_path / "killed" / "metrics.jsonl"

    def temporary_folder(_: int) -> bool:
        return any("tmp" in path.name for path in folder.iterdir())

    def new_line(since: int) -> bool:
        return lines.stat().st_mtime_ns > since

    for happened in (temporary_folder, new_line):
        since = time.time_ns()
        slow = [sys.executable, "-c", SLOW, *argv]
        process = subprocess.Popen(slow, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not happened(since) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.8))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "finished before it could be killed"
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert_same_run(tmp_path / "killed", tmp_path / "whole", config)
    assert not list((tmp_path / "killed" / "checkpoints").glob("*tmp*"))


def newest(folder: Path) -> int:
    """Returns the number of the newest checkpoint that has been written in whole."""
    return max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=0)


def test_a_run_stopped_anywhere_goes_on_exactly(tiny, tiny_run, tmp_path):
    """If broken, a run stopped within an epoch trains other steps, or reports another loss, than one never stopped.

    The loop asks once before an epoch's steps, after each of them, and before each of the two batches of validation.
    """
    run = tmp_path / "run"

    def stop_at(question: int) -> str:
        with pytest.raises(Stopped) as stopped:
            train.train_and_evaluate(tiny, run, AskedAt(question))
        return str(stopped.value)

    assert "in epoch 1, after 1 of 3 steps" in stop_at(2)
    with pytest.raises(UserError, match=r"holds no checkpoint yet; let .* finish an epoch"):
        Segmenter.load(run)
    assert "in epoch 1, after 3 of 3 steps" in stop_at(3)
    assert "in epoch 1, after 3 of 3 steps" in stop_at(2)
    assert "in epoch 2, after 2 of 3 steps" in stop_at(2 + 3)
    assert Segmenter.load(run).step == 3
    train.train_and_evaluate(tiny, run)
    assert_same_run(run, tiny_run, tiny)


@pytest.mark.slow
def test_signals_to_the_command(tiny, tmp_path):
    """If broken, SIGTERM, as a cluster sends it, loses the epoch; or the user is not told how to resume."""
    argv = ["--workdir", str(tmp_path / "run"), *flags(tiny), "--train.epochs", "10000"]
    argv += ["--optim.early_stop_patience", "10000"]
    steps, epochs = [0], [0]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        started = time.time()
        curves = tmp_path / "run/curves.png"
        with subprocess.Popen(
            [sys.executable, "-m", "jaxseg.train", *argv], stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                while not curves.exists() or curves.stat().st_mtime < started:
                    assert process.poll() is None
                    time.sleep(0.02)
                process.send_signal(number)
                _, said = process.communicate(timeout=60)
            finally:
                process.kill()  # it would train for hours
        assert process.returncode == code, said
        assert "Traceback" not in said
        assert f"stopped by {signal.Signals(number).name}" in said
        assert said.splitlines()[-1].endswith(f"go on with: python -m jaxseg.train {' '.join(argv)}")
        steps.append(newest(tmp_path / "run" / "checkpoints"))
        epochs.append(len((tmp_path / "run/metrics.jsonl").read_text().splitlines()))
    # A run stopped between the last step of an epoch and its validation may resume with only that validation.
    assert 0 < steps[1] <= steps[2]
    assert 0 < epochs[1] < epochs[2]
    assert "resuming " in said


def truncate(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "all files cut in half": truncate,
    "parameters cut": lambda folder: truncate(folder / "variables"),
    "progress cut": lambda folder: truncate(folder / "progress"),
    "no parameters": lambda folder: shutil.rmtree(folder / "variables"),
    "no optimizer": lambda folder: shutil.rmtree(folder / "optimizer"),
    "no progress": lambda folder: shutil.rmtree(folder / "progress"),
    "empty": lambda folder: [shutil.rmtree(path) if path.is_dir() else path.unlink() for path in folder.iterdir()],
    "no fields": lambda folder: next(p for p in (folder / "progress").iterdir() if "_" not in p.name).write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(tiny, tiny_run, tmp_path, caplog, damage):
    """If broken, a file cut short by a dying disk ends the run with a traceback, or training continues from it."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    DAMAGES[damage](run / "checkpoints" / "6")
    with Checkpoints(run) as checkpoints:
        state, progress = checkpoints.resume(state_target(tiny, Steps(tiny, jax.local_devices()[:1])))
        assert checkpoints.latest() == 3
    assert (int(state.step), progress.epoch) == (3, 1)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "jaxseg.train"]
    assert "checkpoints/6 cannot be read" in said
    assert said.endswith("kept as damaged-6; the checkpoint before it is used")
    assert "\n" not in said


def test_a_run_goes_on_from_before_the_damage(tiny, tiny_run, tmp_path):
    """If broken, after a damaged checkpoint the same number cannot be saved again, or the result differs."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    truncate(run / "checkpoints" / "6")
    train.train_and_evaluate(tiny, run)
    assert_same_run(run, tiny_run, tiny)


def test_records_without_checkpoints_are_not_replaced(tiny, tiny_run, tmp_path):
    """If broken, who deletes large checkpoints and gives the command again loses the run's curves and scores."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    shutil.rmtree(run / "checkpoints")
    said = r"records of a run of 2 epochs \(metrics\.jsonl\) but no checkpoint"
    with pytest.raises(UserError, match=said):
        train.train_and_evaluate(tiny, run)
    (run / "summary.json").unlink()
    with pytest.raises(UserError, match=said):
        train.train_and_evaluate(tiny, run)
    assert (run / "metrics.jsonl").read_bytes() == (tiny_run / "metrics.jsonl").read_bytes()


def test_if_all_checkpoints_are_damaged_none_is_touched(tiny, tiny_run, tmp_path):
    """If broken, the run silently starts over in its own remains, or renames what only a bug could not read."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    truncate(run / "checkpoints")
    with pytest.raises(RunError, match=r"checkpoints: none of the checkpoints \(6, 3\) can be read: .* new --workdir"):
        train.train_and_evaluate(tiny, run)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["3", "6"]


def test_a_damaged_best_checkpoint_is_told_in_a_line(tiny_run, tmp_path):
    """If broken, evaluate and predict answer a damaged file with a traceback."""
    shutil.copytree(tiny_run, tmp_path / "run")
    truncate(tmp_path / "run" / "checkpoints")
    with pytest.raises(RunError, match="cannot be read") as error:
        Segmenter.load(tmp_path / "run")
    assert "\n" not in str(error.value)


def test_looking_at_a_run_leaves_its_folder_alone(tiny_run, tmp_path):
    """If broken, evaluating a run that is still training deletes the checkpoint that it is writing."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()
    Segmenter.load(run)
    assert (run / "checkpoints" / "9.orbax-checkpoint-tmp").is_dir()


def test_a_run_that_trains_on_while_it_is_read_is_read_again(tiny, tiny_run, tmp_path, monkeypatch):
    """If broken, evaluating a run that is still training fails when it removes the checkpoint being read."""
    run, target = tmp_path / "run", state_target(tiny, Steps(tiny, jax.local_devices()[:1])).variables
    shutil.copytree(tiny_run, run)
    read, failures = Checkpoints.restore_best, [FileNotFoundError("checkpoints/3"), RunError("checkpoint 3")]

    def meanwhile(self, target):
        if failures:
            shutil.copytree(run / "checkpoints" / "6", run / "checkpoints" / str(9 * len(failures)))
            raise failures.pop()
        return read(self, target)

    monkeypatch.setattr(Checkpoints, "restore_best", meanwhile)
    assert checkpoint.restore_best(run, target)[1] == 6
    failures.append(RunError("checkpoint 3"))
    monkeypatch.setattr(shutil, "copytree", lambda *_: None)  # nothing changed meanwhile: it is damaged
    with pytest.raises(RunError, match="checkpoint 3"):
        checkpoint.restore_best(run, target)


def test_a_run_that_outpaces_its_reader_is_told(tiny, tiny_run, tmp_path, monkeypatch):
    """If broken, evaluating a run that saves faster than checkpoints can be read never ends."""
    run, attempts = tmp_path / "run", []
    target = state_target(tiny, Steps(tiny, jax.local_devices()[:1])).variables
    shutil.copytree(tiny_run, run)

    def always_gone(self, target):
        attempts.append(1)
        (run / "checkpoints" / str(1000 + len(attempts))).mkdir()
        raise FileNotFoundError("checkpoints/3")

    monkeypatch.setattr(Checkpoints, "restore_best", always_gone)
    with pytest.raises(RunError, match=r"checkpoints: changed during each of 20 attempts .* again when it has ended"):
        checkpoint.restore_best(run, target)
    assert len(attempts) == checkpoint.READ_ATTEMPTS


# In a mount namespace of its own, so that the small disks are gone with the process, however that ends.
ON_SMALL_DISKS = """
for kib in $KIB; do mkdir "$1/disk$kib" && mount -t tmpfs -o size="$kib"k tmpfs "$1/disk$kib" || exit 77; done
exec "$PYTHON" -c "$PROGRAM" "$@"
"""

# Runs the command on each disk, in one process: starting JAX and compiling would take most of the time.
TRAIN_ON_DISKS = """
import json, os, shutil, sys
from pathlib import Path
from jaxseg import cli, train
from jaxseg.errors import RunError

def main(run, argv, messages):
    try:
        return train.main(["--workdir", str(run), *argv])
    except RunError as error:
        messages.append(str(error))
        raise

place, *argv = sys.argv[1:]
ends = {}
for kib in os.environ["KIB"].split():
    run, messages = Path(place) / f"disk{kib}" / "run", []
    try:
        cli.run("train", lambda: main(run, argv, messages))
    except SystemExit as left:
        ends[kib] = (left.code, *messages)
    if run.exists():
        shutil.copytree(run, Path(place) / f"copy{kib}")
print(json.dumps(ends))
"""


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_costs_nothing(tiny, tmp_path):
    """If broken, a full disk ends in a traceback, hangs, or damages what was saved before.

    The sizes let the disk be full with the first files, the first checkpoint, the pictures, and later checkpoints.
    """
    sizes = ("8", "100", "300", "600")
    environment = {**os.environ, "KIB": " ".join(sizes), "PYTHON": sys.executable, "PROGRAM": TRAIN_ON_DISKS}
    shell = ["unshare", "-m", "sh", "-c", ON_SMALL_DISKS, "sh", str(tmp_path), *flags(tiny), "--train.epochs", "50"]
    ended = subprocess.run(shell, env=environment, capture_output=True, text=True)
    if ended.returncode == 77 or "unshare failed" in ended.stderr:
        pytest.skip("needs the right to mount a small disk")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("python -m jaxseg.train: error: ") == len(sizes)
    ends = json.loads(ended.stdout)  # not from stderr, where tensorstore's threads print about their last writes
    target = state_target(tiny, Steps(tiny, jax.local_devices()[:1]))
    epochs_done = []
    for kib in sizes:
        code, message = ends[kib]
        assert code == 1
        assert message.startswith(f"{tmp_path}/disk{kib}/run: no space left on the disk; ")
        assert "\n" not in message
        copy = tmp_path / f"copy{kib}"
        if not (copy / "checkpoints").exists():
            epochs_done.append(0)  # the run could not even begin, and left no folder
            continue
        with Checkpoints(copy, read_only=True) as checkpoints:
            for path in (copy / "checkpoints").glob("[0-9]*"):
                if path.name.isdigit():
                    checkpoints.restore(int(path.name), target)
            epochs_done.append((checkpoints.latest() or 0) // 3)
    assert epochs_done[0] == 0
    assert epochs_done[-1] > 1
    assert epochs_done == sorted(epochs_done)


def test_a_prepared_set_is_found_from_any_folder_and_where_it_has_moved(tiny, tmp_path, monkeypatch):
    """If broken, a run resumes from one working folder alone, or looks for ever where its data were once."""
    prepare("ph2", str(make_ph2(tmp_path)), str(tmp_path / "sets"))
    monkeypatch.chdir(tmp_path)
    config = tiny.updated({"data.name": "ph2", "data.data_dir": "sets", "train.epochs": 1, "train.batch_size": 2})
    train.train_and_evaluate(config, tmp_path / "run")
    monkeypatch.chdir("/")
    train.main(["--workdir", str(tmp_path / "run"), "--train.epochs", "2"])
    (tmp_path / "sets").rename(tmp_path / "moved")
    flags = ["--workdir", str(tmp_path / "run"), "--train.epochs", "3"]
    with pytest.raises(UserError, match=r"ph2 is not prepared in .*/sets"):
        train.main(flags)
    train.main([*flags, "--data.data-dir", str(tmp_path / "moved")])
    evaluate.main(["--workdir", str(tmp_path / "run")])
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["config"]["data"]["data_dir"] == str(tmp_path / "moved")


def test_a_weight_file_is_found_from_any_folder(tiny, tmp_path, monkeypatch):
    """If broken, a run with weights from a file cannot be repeated, or resumed with the same flag, from elsewhere."""
    monkeypatch.chdir(tmp_path)
    config = tiny.updated({"model.encoder": "resnet50", "model.pretrained": "w.npz"})
    assert resolve(config, tmp_path / "new").model.pretrained == "w.npz"  # missing: it is refused by the name given
    (tmp_path / "w.npz").write_bytes(b"weights")
    assert resolve(config, tmp_path / "new").model.pretrained == str(tmp_path / "w.npz")
    run = tmp_path / "run"
    (run / "checkpoints" / "1").mkdir(parents=True)
    write_json(run / "config.json", describe_run(config))  # as older releases wrote it
    assert resolve(config, run).model.pretrained == "w.npz"
    full = config.updated({"model.pretrained": str(tmp_path / "w.npz")})
    assert resolve(full, run).model.pretrained == "w.npz"


def test_more_epochs_after_early_stopping_are_refused_as_often_as_they_are_asked_for(tiny, tmp_path):
    """If broken, a run whose epochs were raised before trains nothing, and says that it is finished."""
    config = tiny.updated({"train.epochs": 1, "optim.early_stop_patience": 1, "optim.learning_rate": 0.3})
    train.train_and_evaluate(config, tmp_path / "run")
    for _ in range(2):  # the same command again is no request for more
        _, summary = train.train_and_evaluate(config.updated({"train.epochs": 12}), tmp_path / "run")
        assert (summary["stopped"], summary["planned_epochs"]) == ("early", 12)
    with pytest.raises(UserError, match=r"stopped early after epoch .*; to train on, add --optim"):
        train.train_and_evaluate(config.updated({"train.epochs": 13}), tmp_path / "run")
