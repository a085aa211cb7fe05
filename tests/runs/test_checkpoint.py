"""Which checkpoints are kept, and saves that fail: they are told, and cost nothing that was saved before."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import jax
import orbax.checkpoint as ocp
import pytest

from jaxseg import train
from jaxseg.config import Config
from jaxseg.errors import RunError, UserError
from jaxseg.optim import early_stop_update
from jaxseg.runs import workdir
from jaxseg.runs.checkpoint import Checkpoints
from jaxseg.runs.progress import Progress
from jaxseg.steps import Steps, create_train_state, state_target
from jaxseg.system.files import write_text
from tests.helpers.runs import flags


def save_epochs(checkpoints: Checkpoints, config: Config, losses: list[float]) -> None:
    """Saves an epoch per validation loss; three steps each."""
    state = create_train_state(jax.random.key(0), config)
    progress = Progress()
    for epoch, loss in enumerate(losses, start=1):
        line = {"epoch": epoch, "step": 3 * epoch, "val_loss": loss}
        early_stop = early_stop_update(progress.early_stop, loss, config.optim)
        progress = Progress(early_stop=early_stop, history=(*progress.history, line))
        checkpoints.save(state.replace(step=state.step + 3 * epoch), progress)


def test_the_latest_two_and_the_best_are_kept(tiny, tmp_path):
    """If broken, after a long decline the best weights are gone, or the disk fills up with every epoch's."""
    for losses, kept in (([3, 1, 2, 2, 2, 2], [6, 15, 18]), ([3, 1, 1, 2], [6, 9, 12]), ([3, 2, 1], [6, 9])):
        run = tmp_path / str(len(losses))
        with Checkpoints(run) as checkpoints:
            save_epochs(checkpoints, tiny, losses)
        assert sorted(int(path.name) for path in (run / "checkpoints").iterdir()) == kept
        with Checkpoints(run, read_only=True) as checkpoints:
            target = state_target(tiny, Steps(tiny, jax.local_devices()[:1])).variables
            # The first of equal losses is the best, as in Keras.
            assert checkpoints.restore_best(target)[1] == 3 * (1 + losses.index(min(losses)))


def test_a_save_that_fails_is_told_at_the_latest_when_closing(tiny, tmp_path, monkeypatch):
    """If broken, the error of the last save is lost, as there is no further save to raise it."""
    monkeypatch.setattr(ocp.StandardCheckpointHandler, "finalize", full)
    with pytest.raises(RunError, match="no space left"), workdir.disk_errors(tmp_path), Checkpoints(tmp_path) as saves:
        save_epochs(saves, tiny, [1])


@pytest.mark.parametrize("when", ["at once", "in the background"])
def test_a_save_that_fails_ends_the_run(tiny, tmp_path, monkeypatch, when):
    """If broken, an error of an asynchronous save is lost, and the run ends without the checkpoint it reports."""
    if when == "at once":
        monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    else:
        monkeypatch.setattr(ocp.StandardCheckpointHandler, "finalize", full)
    with pytest.raises(RunError, match="no space left on the disk; the checkpoints written before are intact"):
        train.train_and_evaluate(tiny.updated({"train.epochs": 1}), tmp_path / "run")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EFBIG, os.strerror(errno.EFBIG)),
        ValueError(f"OUT_OF_RANGE: Failed to write 9 bytes to file 6: {os.strerror(errno.EFBIG)}"),  # tensorstore's
    ],
)
def test_what_a_disk_refuses_while_it_is_written_to_is_told_in_a_line(tmp_path, error):
    """If broken, a limit of file sizes, or a disk that fails, ends a night's run in a traceback without a way on."""
    said = rf"^{tmp_path}: File too large \(.* ulimit -f\); the checkpoints written before are intact\. Mend that"
    with pytest.raises(RunError, match=said), workdir.disk_errors(tmp_path):
        raise error


def test_the_only_checkpoint_is_kept_until_its_successor_is_saved(tiny, tmp_path, monkeypatch):
    """If broken, a run that was stopped before its first validation is lost when the disk is full as it goes on."""
    with Checkpoints(tmp_path) as checkpoints:
        save_epochs(checkpoints, tiny, [3])
    with monkeypatch.context() as patch, Checkpoints(tmp_path) as checkpoints:
        patch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(OSError, match="No space"):
            save_epochs(checkpoints, tiny, [2])
    folder = tmp_path / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["3"]

    (folder / "3").rename(folder / "replaced-3")  # killed at that moment
    assert workdir.was_started(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 3
        save_epochs(checkpoints, tiny, [2, 1])
        assert checkpoints._read_progress(3).history[-1]["val_loss"] == 2
    assert sorted(path.name for path in folder.iterdir()) == ["3", "6"]


def test_weights_that_are_not_those_that_were_saved_are_told(tiny, tmp_path, heard):
    """If broken, a bit or a block that a disk has lost gives masks of half the image, with trust."""
    with Checkpoints(tmp_path) as checkpoints:
        save_epochs(checkpoints, tiny, [3, 2])
    target = state_target(tiny, Steps(tiny, jax.local_devices()[:1]))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        saved, _ = checkpoints.restore_best(target.variables)

    files = sorted((tmp_path / "checkpoints" / "6" / "variables").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = files[-1].read_bytes()
    refused = []
    # At several places: some bytes of the file, which ones is left to chance, are of no use to the reader any more.
    for tenths in range(0, 10, 2):
        damaged = bytearray(content)
        damaged[len(content) * tenths // 10] ^= 4
        files[-1].write_bytes(damaged)
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            try:
                chex.assert_trees_all_equal(checkpoints.restore_best(target.variables)[0], saved)
            except RunError as error:
                refused.append(str(error))
                assert checkpoints.restore(3, target)[1].epoch == 1
    assert refused
    for line in refused:
        assert re.search(r"checkpoints/6 cannot be read .*; put it back from a copy", line)


def test_weights_are_compared_with_what_was_saved(tiny, tmp_path):
    """If broken, a block that was written to the wrong place, and is whole in itself, is taken for weights."""
    with Checkpoints(tmp_path) as checkpoints:
        save_epochs(checkpoints, tiny, [3])
    progress = tmp_path / "checkpoints" / "3" / "progress" / "metadata"
    content = json.loads(progress.read_text())
    content["checksums"]["variables"] ^= 4
    progress.write_text(json.dumps(content))
    target = state_target(tiny, Steps(tiny, jax.local_devices()[:1]))
    with Checkpoints(tmp_path, read_only=True) as checkpoints, pytest.raises(RunError, match="not the numbers that"):
        checkpoints.restore_best(target.variables)


def test_a_newest_checkpoint_that_is_damaged_or_gone_is_told_when_weights_are_read(tiny, tmp_path, heard):
    """If broken, masks and scores are of an earlier epoch's weights, and nothing says so."""
    with Checkpoints(tmp_path) as checkpoints:
        save_epochs(checkpoints, tiny, [3, 2])
    target = state_target(tiny, Steps(tiny, jax.local_devices()[:1])).variables
    (tmp_path / "checkpoints" / "6" / "progress" / "metadata").write_bytes(b"{")
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.restore_best(target)[1] == 3
    assert "checkpoints/6 cannot be read" in heard.text
    assert "the checkpoint before it is used" in heard.text

    shutil.rmtree(tmp_path / "checkpoints" / "6")
    (tmp_path / "summary.json").write_text('{"epochs": 2}')
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.restore_best(target)[1] == 3
    assert "the newest checkpoint is of epoch 1, and summary.json tells of 2" in heard.text


def full(*_: object, **__: object) -> None:
    raise OSError(28, os.strerror(28))


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    """If broken, a full disk empties metrics.jsonl."""
    write_text(tmp_path / "file", "old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match="no space left"), workdir.disk_errors(tmp_path):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"


# Runs the command; the first folder of a checkpoint cannot be created.
WITHOUT_FOLDER = """
import errno, os, sys
create = os.mkdir

def mkdir(path, *args, **kwargs):
    if "orbax-checkpoint-tmp" in str(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return create(path, *args, **kwargs)

os.mkdir = mkdir
from jaxseg import cli, train
cli.run("train", lambda: train.main(sys.argv[1:]))
"""


def test_a_full_disk_ends_the_process_at_once(tiny, tmp_path):
    """If broken, a command whose disk is full prints its line and then waits five minutes for orbax' threads."""
    command = [sys.executable, "-c", WITHOUT_FOLDER, "--workdir", str(tmp_path / "run"), *flags(tiny)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1, done.stderr
    assert "no space left on the disk" in done.stderr


def test_a_missing_best_checkpoint_is_told_at_once(tiny, tmp_path):
    """If broken, a run trains for hours to its end, and only then cannot read its best weights."""
    with Checkpoints(tmp_path) as checkpoints:
        save_epochs(checkpoints, tiny, [3, 1, 2, 2])
    shutil.rmtree(tmp_path / "checkpoints" / "6")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(RunError, match=r"checkpoints/6: the checkpoint of the best epoch is missing, .* put it back"),
    ):
        checkpoints.resume(state_target(tiny, Steps(tiny, jax.local_devices()[:1])))


@pytest.mark.parametrize("name", ["images.json", "looks.npz"])
def test_a_users_file_of_a_runs_name_is_not_replaced(tiny, tmp_path, name):
    """If broken, annotations that the user calls images.json are lost when a run starts beside them."""
    (tmp_path / name).write_text('{"my": "annotations"}')
    with pytest.raises(UserError, match=rf"holds {name} but no config.json"):
        train.train_and_evaluate(tiny, tmp_path)
    assert (tmp_path / name).read_text() == '{"my": "annotations"}'
    (tmp_path / "images.json").write_text('{"version": 1, "columns": []}')
    workdir.check_is_free(tmp_path)  # of a start that was killed


def test_a_damaged_best_checkpoint_is_passed_over(tiny, tmp_path, heard):
    """If broken, a run whose newest checkpoint, the best, is damaged can never go on."""
    with Checkpoints(tmp_path) as checkpoints:
        save_epochs(checkpoints, tiny, [1, 2, 2, 0.5])
    shutil.rmtree(tmp_path / "checkpoints" / "12" / "variables")
    with Checkpoints(tmp_path) as checkpoints:
        _, progress = checkpoints.resume(state_target(tiny, Steps(tiny, jax.local_devices()[:1])))
    assert progress.epoch == 3
    assert "kept as damaged-12" in heard.text
    assert "the best epoch's checkpoint, 3, is gone" in heard.text
