"""Signals: a run is asked to stop, and any other command leaves in order, whatever a library makes of it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxseg.errors import RunError
from jaxseg.runs.checkpoint import Checkpoints
from jaxseg.system import stop


@pytest.fixture(autouse=True)
def as_in_a_new_process():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def swallow() -> None:
    """Does what JAX and orbax do where they catch whatever comes."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        raise ValueError("a slice is not concrete") from None


@pytest.mark.parametrize("work", [lambda: os.kill(os.getpid(), signal.SIGTERM), swallow])
def test_sigterm_leaves_the_block_as_itself(work):
    """If broken, a job that its scheduler ends reports a damaged file, or a bug with its traceback."""
    cleared = []

    def with_clearing() -> None:
        try:
            work()
        finally:
            cleared.append(True)

    with pytest.raises(stop.Terminated), stop.ended_in_order():
        with_clearing()
    assert cleared
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    stop.leave_if_terminated()  # that block is left


@pytest.mark.parametrize(("name", "raised"), [("SIGTERM", "stop.Terminated"), ("SIGINT", "KeyboardInterrupt")])
def test_a_signal_while_garbage_is_collected_is_not_lost(name, raised):
    """If broken, a command that is ended at a bad moment, as in JAX's callback of the collector, simply goes on."""
    program = f"""
import gc, os, signal, time
from jaxseg.system import stop

def callback(phase, _):
    if phase == "start":
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), signal.{name})
        time.sleep(0)

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background shells have it ignored
gc.callbacks.append(callback)
try:
    with stop.ended_in_order():
        gc.collect()
        print("went on", flush=True)
        time.sleep(60)
        print("lost")
except {raised}:
    print("left")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("went on\nleft\n", "", 0)


def test_an_error_that_python_cannot_raise_is_shown_as_ever():
    """If broken, errors of destructors vanish while a command runs."""

    class Fails:
        def __del__(self):
            raise ValueError("mine")

    heard = []
    before, sys.unraisablehook = sys.unraisablehook, heard.append
    try:
        with stop.ended_in_order():
            Fails()
        assert sys.unraisablehook == heard.append
    finally:
        sys.unraisablehook = before
    assert [lost.exc_type for lost in heard] == [ValueError]


def test_other_errors_stay_as_they_are():
    """If broken, every failure is reported as a signal."""
    with pytest.raises(ValueError, match="mine"), stop.ended_in_order():
        raise ValueError("mine")


def test_the_checkpoint_that_was_being_read_is_not_called_damaged(tiny_run, monkeypatch):
    """If broken, SIGTERM while a run resumes sets its newest checkpoint aside, and an older one is trained from."""
    with Checkpoints(tiny_run, read_only=True) as checkpoints:
        step = checkpoints.latest()
        monkeypatch.setattr(checkpoints, "_read", lambda *_, **__: swallow())
        with pytest.raises(stop.Terminated), stop.ended_in_order():
            checkpoints._read_progress(step)
        monkeypatch.setattr(checkpoints, "_read", lambda *_, **__: Path("/nowhere").read_bytes())
        with pytest.raises(RunError, match="cannot be read"):
            checkpoints._read_progress(step)


def test_commands_say_so():
    """If broken, a command that was ended has another exit code than the shell's 143."""
    program = (
        "import os, signal; from jaxseg import cli; cli.run('compare', lambda: os.kill(os.getpid(), signal.SIGTERM))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "python -m jaxseg.compare: ended by SIGTERM\n")


def test_a_second_ctrl_c_aborts():
    """If broken, a run whose step hangs can no longer be stopped from the keyboard."""
    before = signal.getsignal(signal.SIGINT)
    with stop.StopRequest() as request:
        assert not request.requested()
        os.kill(os.getpid(), signal.SIGINT)
        assert request.requested()
        assert (request.reason, request.exit_code) == ("SIGINT", 130)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_signals_are_left_alone_outside_the_main_thread():
    """If broken, training from a notebook's or a server's thread fails, as only the main thread may handle signals."""
    before, during = signal.getsignal(signal.SIGTERM), []

    def job():
        with stop.StopRequest():
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert during == [before]
