"""Two at once: a folder in which a run trains takes no second one, and a lock does not outlive its owner."""

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jaxseg import evaluate, train
from jaxseg.errors import UserError
from jaxseg.inference.segmenter import Segmenter
from jaxseg.system import lock, processes
from jaxseg.system.stop import Stopped

HOLD = """
import sys
from pathlib import Path
from jaxseg.system import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, tiny_run):
    """Yields a run's folder and a process that holds its lock."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield run, process
        process.kill()


def test_a_second_train_is_refused_with_the_owners_number(holder, tiny):
    """If broken, two runs write into one folder and ruin each other's checkpoints, or nobody says who is in the way."""
    run, process = holder
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    owner = rf"run is in use: process {process.pid} on {socket.gethostname()} since 20\S+ works in it; .*--workdir"
    with pytest.raises(UserError, match=owner) as error:
        train.train_and_evaluate(tiny.updated({"train.epochs": 3}), run)
    assert "\n" not in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_in_use_can_be_read(holder, tiny_run, tmp_path):
    """If broken, nobody can look at a run's scores or use its weights before it has ended."""
    run, process = holder
    assert Segmenter.load(run).step == Segmenter.load(tiny_run).step
    evaluate.main(["--workdir", str(run), "--split", "validation", "--out", str(tmp_path / "out")])
    assert process.poll() is None


def test_the_lock_dies_with_its_owner(holder, tiny, capfd):
    """If broken, a killed run can be resumed only after removing a file by hand; or it resumes in silence."""
    run, process = holder
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (run / lock.NAME).exists()
    flags = ["--workdir", str(run)]
    assert train.main(flags) == 0
    said = capfd.readouterr().err
    assert f"process {process.pid} on {socket.gethostname()} since" in said
    assert "left its lock behind, so it was killed\n" in said
    assert not (run / lock.NAME).exists()
    train.main(flags)
    assert "its lock" not in capfd.readouterr().err


def test_what_another_machine_left_is_said(tmp_path, caplog):
    """If broken, a folder moved from a machine that died cannot be used, or a live owner there is not mentioned."""
    (tmp_path / lock.NAME).write_text(json.dumps({"pid": 7, "host": "elsewhere", "since": "2026-01-01"}))
    with lock.held(tmp_path):
        assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()
    assert "process 7 on elsewhere since 2026-01-01 left its lock behind" in caplog.text
    assert "or it still runs" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\0" * 2000])
def test_a_damaged_lock_file_is_no_obstacle(content, tmp_path):
    """If broken, a lock file that a full disk left empty ends every later run."""
    (tmp_path / lock.NAME).write_text(content)
    with lock.held(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()} on"), lock.held(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_vanishes_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """If broken, two processes hold the lock: one the file that the other has just removed."""
    flock, removed = fcntl.flock, []

    def slow(file, operation):
        if not removed:
            removed.append(True)
            (tmp_path / lock.NAME).unlink()  # its owner ended between our opening and locking
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    with lock.held(tmp_path), pytest.raises(UserError, match="in use"), lock.held(tmp_path):
        pass


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    """If broken, nothing can be trained on a file system that has no locks."""

    def refuse(*_: object):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock.held(tmp_path / "run"):
        assert "has no locks (No locks available); see to it" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_process_of_a_job_locks(tmp_path, tiny, monkeypatch):
    """If broken, the second process of a job is refused its own run, or makes a folder on its machine."""

    class Second(processes.Alone):
        number = 1

        def json_from_first(self, values):
            assert values is None  # it cannot know the settings: the folder is the first one's
            raise Stopped(f"with the folder there: {(tmp_path / 'run').exists()}")

    monkeypatch.setattr(processes, "peers", Second)
    with pytest.raises(Stopped, match="with the folder there: False"):
        train.train_and_evaluate(tiny, tmp_path / "run")


@pytest.mark.parametrize("place", ["file", "file/run", "/proc/run"])
def test_a_folder_that_cannot_be_made_is_told(place, tmp_path, tiny):
    """If broken, a workdir in an impossible place ends in a traceback, or after minutes."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"cannot be written to \(.*\); make it writable, or give another --workdir"):
        train.train_and_evaluate(tiny, Path(tmp_path / place))
    assert (tmp_path / "file").read_text() == "mine"
