"""The memory that the C library holds for this process; on a CPU the memory of XLA's programs, too."""

import ctypes
import os
import platform
import sys
from pathlib import Path

GROWTH = 1.25
"""Factor by which a process may grow before memory is given back."""

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


class HeldMemory:
    """Gives memory back that is held in vain.

    A training step takes its memory in one block per device, of a gigabyte for the paper's network. Small pieces that
    settle in a freed block make it too short for the next step, which then takes a new one. Such remainders pile up.
    """

    def __init__(self) -> None:
        self._limit: float | None = 0.0  # None: set by the next call

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


def _is_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
