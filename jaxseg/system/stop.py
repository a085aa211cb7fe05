"""Stopping early and in good order: a signal makes a run save and leave, and any other command clear away first."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn, Protocol


class Stopped(Exception):
    """The run was asked to stop; it has saved its state and ended before its last epoch.

    Attributes:
      exit_code: the command's exit code, by the shell's convention 128 plus the number of the signal: 143 for SIGTERM,
        130 for Ctrl-C.
    """

    def __init__(self, message: str, exit_code: int = 0):
        super().__init__(message)
        self.exit_code = exit_code


class Stop(Protocol):
    """Tells whether a run shall save and leave.

    Attributes:
      reason: what stopped the run, as "SIGTERM".
      exit_code: the exit code of a command that was stopped.
    """

    @property
    def reason(self) -> str:
        """What stopped the run."""

    @property
    def exit_code(self) -> int:
        """The exit code of a command that was stopped."""

    def __enter__(self) -> "Stop": ...

    def __exit__(self, *exception: object) -> None: ...

    def requested(self) -> bool:
        """Returns whether the run shall stop; among several processes the call synchronises all of them."""


class StopRequest:
    """A `Stop` for one process. As a context manager it handles SIGTERM and Ctrl-C.

    A second Ctrl-C raises KeyboardInterrupt, for users who do not want to wait for the current step. Only the main
    thread may handle signals: in other threads no handler is installed.

    Attributes:
      signum: number of the first signal received; 0 if none was. Callers may set it themselves.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def requested(self) -> bool:
        """Returns whether a signal was received."""
        return self.signum != 0

    @property
    def reason(self) -> str:
        """The name of the signal, as "SIGTERM"."""
        return signal.Signals(self.signum).name if self.signum else "request"

    @property
    def exit_code(self) -> int:
        """The exit code of a command that was stopped."""
        return 128 + self.signum if self.signum else 0

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self.signum and signum == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.signum:
            self.signum = signum
            # Not through the log: the signal may have arrived while a log line was being written.
            os.write(2, f"\n{self.reason}: saving after this step, then leaving; Ctrl-C aborts at once\n".encode())


class Terminated(BaseException):
    """SIGTERM was received."""


_terminated = threading.Event()
# Long enough that Python is out of what swallowed the exception, short enough that nobody waits.
_RAISE_AGAIN_SECONDS = 0.05


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """Has SIGTERM leave the block as an error does, so that what is half done is cleared away; a second one kills.

    By default the process is gone at once, and temporary folders stay. Nothing is done where the caller has decided
    otherwise, or outside of the main thread, which alone may handle signals. A `StopRequest` within the block decides
    otherwise for as long as it is entered.

    SIGTERM or Ctrl-C may arrive while Python collects garbage, which JAX has a callback for: from there no exception
    leaves, Python hands it to `sys.unraisablehook` and goes on. So it is raised again a moment later.

    Raises:
      Terminated: SIGTERM was received.
    """
    unraisable = sys.unraisablehook

    def leave(number: int, _: object) -> NoReturn:
        _terminated.set()
        signal.signal(number, signal.SIG_DFL)
        raise Terminated

    def raise_again(lost: Any) -> None:
        number = {Terminated: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}.get(lost.exc_type)
        if number is None:
            unraisable(lost)
            return
        if number == signal.SIGTERM:
            signal.signal(number, leave)
        again = threading.Timer(_RAISE_AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, leave)
        sys.unraisablehook = raise_again
    try:
        yield
    except Exception:
        leave_if_terminated()
        raise
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            sys.unraisablehook = unraisable
            _terminated.clear()


def leave_if_terminated() -> None:
    """Leaves again if SIGTERM was received within `ended_in_order`.

    For handlers of any error: libraries that catch whatever comes, as JAX and orbax do, make an error of their own of
    the signal, which then reads as a damaged file.

    Raises:
      Terminated: SIGTERM was received.
    """
    if _terminated.is_set():
        raise Terminated
