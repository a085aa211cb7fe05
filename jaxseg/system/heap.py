"""The memory that the C library holds for this process; on a CPU the memory of XLA's programs, too."""

import ctypes
import os
import platform
import sys
from pathlib import Path

GROWTH = 1.25
"""Factor by which a process may grow before memory is given back."""

_GROUPS = Path("/sys/fs/cgroup")

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc


def keep_freed_memory() -> None:
    """Keeps memory that XLA frees for its next call. Does nothing where the C library is not glibc.

    On a CPU a training step allocates gigabytes for its intermediate results and frees them at its end. By default
    glibc returns large blocks to the kernel, which must allocate and clear every page again in the next step: one
    seventh of a step's time.
    """
    if _is_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)  # other arenas would still map large blocks
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never


def resident_bytes() -> int | None:
    """Returns the memory that this process has now; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


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

    A training step takes its memory in one block per device, of a gigabyte for the paper's network. Small pieces that
    settle in a freed block make it too short for the next step, which then takes a new one. Such remainders pile up.
    """

    def __init__(self) -> None:
        self._limit: float | None = 0.0  # of `tidy`; None: set by the next call
        self._relieved = 0.0  # of `relieve`

    def tidy(self) -> bool:
        """Gives free memory back if the process has grown; to be called between epochs. Returns whether it did.

        The first call always does: much of what the start took is needed no more. Later ones compare with the epoch
        after memory was last given back, in whose first step the process takes new pages, a second per two gigabytes.
        Nothing is done where the C library is not glibc.
        """
        now = resident_bytes() if _is_glibc() else None
        if now is None:
            return False
        if self._limit is None:
            self._limit = GROWTH * now
            return False
        if now <= self._limit:
            return False
        ctypes.CDLL(None).malloc_trim(0)
        self._limit = None
        return True

    def relieve(self) -> bool:
        """Gives free memory back if less is left than the process has; to be called while a step runs.

        The step's own blocks are in use then and stay. What goes are blocks of earlier steps, up to twice as much,
        which some later step would use again: it then takes new pages, and a tenth to a quarter longer. So this is done
        only where memory is short, and the process has grown since. Returns whether it was done.
        """
        now = resident_bytes() if _is_glibc() else None
        if now is None or now <= self._relieved:
            return False
        available = available_bytes()
        if available is None or available >= now:
            return False
        ctypes.CDLL(None).malloc_trim(0)
        self._relieved = GROWTH * (resident_bytes() or now)
        return True


def _is_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
