"""The memory that the C library holds for this process; on a CPU the memory of XLA's programs, too."""

import ctypes
import functools
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

GROWTH = 1.1
"""Factor by which a process may hold more than a step needs."""

IN_TURN = 1.5
"""That factor in glibc's heap, while enough memory is left: two devices take three blocks there, in turn."""

FIRST_STEPS = 5
"""Steps of a session after each of which memory is given back."""

PATIENCE = 5
"""Steps between two times that memory is given back, if enough is left."""

_UNTIL_FREED = 0.02
"""Seconds after a step's results are there until all devices have freed their blocks, which XLA does a little later."""

_GROUPS = Path("/sys/fs/cgroup")

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc

_ALL_ARENAS = 4096
"""jemalloc's number for all arenas."""


def keep_freed_memory() -> None:
    """Keeps memory that XLA frees for its next call. Does nothing where memory comes from neither glibc nor jemalloc.

    On a CPU a training step allocates gigabytes for its intermediate results and frees them at its end. By default
    large blocks go back to the kernel, which must allocate and clear every page again in the next step: one seventh of
    a step's time.
    """
    match _allocator():
        case "jemalloc":
            _keep_for_ever()
        case "glibc":
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_ARENA_MAX, 1)  # other arenas would still map large blocks
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never


def _keep_for_ever() -> None:
    """Has jemalloc keep freed memory until it is told otherwise; told a time, it gives large blocks back at once."""
    control = ctypes.CDLL(None).mallctl
    arenas, size = ctypes.c_uint(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_uint))
    control(b"arenas.narenas", ctypes.byref(arenas), ctypes.byref(size), None, ctypes.c_size_t(0))
    never = ctypes.c_ssize_t(-1)
    for place in ("arenas", *(f"arena.{number}" for number in range(arenas.value))):
        name = f"{place}.dirty_decay_ms".encode()  # refused by arenas that are not in use yet, which take the first
        control(name, None, None, ctypes.byref(never), ctypes.c_size_t(ctypes.sizeof(never)))


def _trim() -> None:
    """Gives the kernel all memory that is free."""
    if _allocator() == "jemalloc":
        name = f"arena.{_ALL_ARENAS}.purge".encode()
        ctypes.CDLL(None).mallctl(name, None, None, None, ctypes.c_size_t(0))
    else:
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Returns the memory that this process has now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def available_bytes() -> int | None:
    """Returns the memory that the process could still take; None where the system does not tell.

    This is the minimum over the machine and all control groups (a container, or a service) that the process is in.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        left = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        groups = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    except OSError:
        return None
    for group in groups:
        place = _GROUPS / group.lstrip("/")
        left += [_left_of_group(folder) for folder in (place, *place.parents) if folder.is_relative_to(_GROUPS)]
    return min((value for value in left if value is not None), default=None)


def _left_of_group(folder: Path) -> int | None:
    """Returns what a control group of version 2 has left of its memory; None for one without limit."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cached = int(counts["inactive_file"])  # of files, which the kernel drops before it refuses memory
    except (OSError, ValueError, KeyError):  # not there, or "max"
        return None
    return max(limit - used + cached, 0)


class HeldMemory:
    """Gives memory back that is held in vain.

    A training step, or a batch of a prediction, takes its memory in one block per device, of a gigabyte for a step of
    the paper's network. Small pieces that settle in a freed block make it too short for the next step, which then takes
    a new one. Such remainders pile up, to twice what a step needs and more; not with jemalloc, loaded by `LD_PRELOAD`,
    which has small pieces elsewhere.

    Nothing is done where memory comes from neither glibc nor jemalloc.
    """

    def __init__(self) -> None:
        self._steps, self._given_back = 0, 0  # steps so far, and those when memory was last given back
        self._freed = self._need = 0  # by a step when it ends, and in all, bytes

    def after_step(self, ended: Callable[[], object]) -> bool:
        """Gives free memory back if the process holds more than a step needs; returns whether it did.

        This is learnt from the first steps, after each of which memory is given back. The step that follows takes new
        pages, and a tenth to a quarter longer. So later this is done every `PATIENCE` steps at most, unless less memory
        is left than the process has.

        Args:
          ended: waits until the step has ended, and its blocks are free.
        """
        if _allocator() is None:
            return False
        self._steps += 1
        if self._steps <= FIRST_STEPS:
            ended()
            time.sleep(_UNTIL_FREED)
            self._give_back(learn=True)
            return True
        if not self._is_too_much() or (self._steps - self._given_back < PATIENCE and not _is_short()):
            return False
        ended()
        self._give_back()
        return True

    def between_epochs(self) -> bool:
        """Gives free memory back if the process holds more than a step needs; returns whether it did.

        While that is being learnt, always: what validation has freed would count as the next step's.
        """
        if self._steps >= FIRST_STEPS or _allocator() is None:
            return self.after_validation_batch(lambda: None)
        self._give_back()
        return True

    def after_validation_batch(self, ended: Callable[[], object]) -> bool:
        """Gives free memory back if the process holds more than a training step needs; returns whether it did.

        Args:
          ended: waits until the batch has ended, and its blocks are free.
        """
        if _allocator() is None or not self._is_too_much():
            return False
        ended()
        self._give_back()
        return True

    def _give_back(self, *, learn: bool = False) -> None:
        before, at_the_start = resident_bytes(), self._need - self._freed
        _trim()
        now = resident_bytes()
        if learn:  # what a checkpoint held when the step began, and has freed since, is no need of a step
            self._freed = max(self._freed, before - max(now, at_the_start))
        self._given_back = self._steps
        self._need = now + self._freed

    def _is_too_much(self) -> bool:
        held = resident_bytes()
        if held <= GROWTH * self._need:
            return False
        return held > IN_TURN * self._need or _allocator() == "jemalloc" or _is_short()


def _is_short() -> bool:
    """Returns whether less memory is left than the process has."""
    available = available_bytes()
    return available is not None and available < resident_bytes()


@functools.cache
def _allocator() -> str | None:
    """Returns where memory comes from, "glibc" or "jemalloc"; None for others, which are left alone."""
    if sys.platform != "linux":
        return None
    if hasattr(ctypes.CDLL(None), "mallctl"):  # loaded before the C library
        return "jemalloc"
    return "glibc" if platform.libc_ver()[0] == "glibc" else None
