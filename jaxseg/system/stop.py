"""Leaving early and in good order: a signal asks the run to save and leave, where it would otherwise just end."""

import os
import signal
import threading
from types import FrameType
from typing import Any


class Stopped(Exception):
    """A run that was asked to stop has saved what it did and ended before its last epoch.

    Attributes:
      exit_code: of the command, by the shell's convention 128 and the signal's number: 143 for SIGTERM, 130 for Ctrl-C.
    """

    def __init__(self, message: str, exit_code: int = 0):
        super().__init__(message)
        self.exit_code = exit_code


class StopRequest:
    """Whether the run shall save and leave; as a context manager, it takes SIGTERM and Ctrl-C for that.

    A second Ctrl-C raises KeyboardInterrupt, for those who will not wait for the step under way. Outside the main
    thread, which alone may handle signals, and within jobs that set `signum` themselves, nothing is installed.

    Attributes:
      signum: number of the first signal, 0 for none yet.
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

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self.signum != 0

    @property
    def reason(self) -> str:
        """The signal's name, as "SIGTERM"."""
        return signal.Signals(self.signum).name if self.signum else "request"

    @property
    def exit_code(self) -> int:
        """What the command returns when it has left."""
        return 128 + self.signum if self.signum else 0

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self.asked and signum == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked:
            self.signum = signum
            # Not by the log: the signal may have come while the log was being written.
            os.write(2, f"\n{self.reason}: saving after this step, then leaving; Ctrl-C aborts at once\n".encode())
