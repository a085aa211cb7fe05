"""What a command sets in its own process before it computes; a program that imports jaxseg is left as it is."""

import contextlib
import ctypes
import hashlib
import os
import platform
import sys
from pathlib import Path

import jax

from jaxseg.system import processes

CACHE_BYTES = 2**30
"""Most that the cache of compiled programs holds; what was not used for longest goes first."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc


def tune() -> None:
    """Makes the process fast: compiled programs are kept on disk, freed memory in the process, cores are devices."""
    keep_compiled_programs()
    keep_freed_memory()
    split_cpu()


def split_cpu() -> None:
    """Makes each core of the CPU a device, unless the environment says how many devices it is, or JAX runs already.

    XLA divides a convolution among the cores, but not all that is between convolutions. Devices share the cores: fewer
    of them still use all.
    """
    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if forced or jax.config.jax_num_cpu_devices > 0 or processes.VARIABLE in os.environ:
        return
    with contextlib.suppress(RuntimeError):  # JAX runs already
        jax.config.update("jax_num_cpu_devices", cores())


def cores() -> int:
    """Returns how many cores the process may use."""
    # Elsewhere than on Linux, that is not told.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_compiled_programs() -> None:
    """Keeps compiled programs in the user's cache folder, so that the next start finds them.

    `JAX_COMPILATION_CACHE_DIR` names another folder, and `JAX_ENABLE_COMPILATION_CACHE=false` does without.
    """
    if jax.config.jax_compilation_cache_dir is None:
        try:
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # no home folder, or none to write in: JAX would warn of every program
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)


def cache_folder() -> Path:
    """Returns the folder of programs compiled for this kind of machine.

    A home folder may be shared by machines with other processors, on which a program for this one's would crash.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxseg" / f"compiled-{platform.machine()}-{_processor()}"


def _processor() -> str:
    """Returns a short hash of the processor's model and features, as far as the system tells them."""
    about = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return hashlib.sha256(about.encode()).hexdigest()[:8]


def keep_freed_memory() -> None:
    """Keeps memory that XLA frees for its next call, where the C library is glibc; elsewhere does nothing.

    On a CPU a training step takes gigabytes for its intermediate results and frees them at its end. By default glibc
    gives such blocks back to the kernel, which must hand out and clear every page anew in the next step: one seventh of
    a step's time.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_ARENA_MAX, 1)  # other arenas hold small blocks only, and would map large ones all the same
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
