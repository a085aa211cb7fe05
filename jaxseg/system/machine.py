"""The machine as the process sees it: cores that it may use, and the folder for what was made for this processor.

Nothing here imports JAX: commands that do without it start quickly.
"""

import hashlib
import os
import platform
from pathlib import Path

from jaxseg.errors import is_address


def cores() -> int:
    """Returns the number of cores that the process may use."""
    # Only Linux tells; elsewhere all cores are assumed.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """Returns the folder of programs compiled for this kind of processor.

    Machines with different processors may share a home folder; a program compiled for one can crash on another.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxseg" / f"compiled-{platform.machine()}-{processor()}"


def processor() -> str:
    """Returns a short hash of the processor's model and features, where the system reports them."""
    about = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return hashlib.sha256(about.encode()).hexdigest()[:8]


def programs_folder() -> Path | None:
    """Returns the folder in which JAX keeps compiled programs, by its environment variables; None for no such folder.

    `JAX_COMPILATION_CACHE_DIR` selects a folder, `JAX_ENABLE_COMPILATION_CACHE=false` none. One on another machine, as
    `gs://bucket`, counts as none.
    """
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    if os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "").lower() in ("0", "false", "no", "off", "n", "f"):
        return None
    if is_address(chosen):
        return None
    try:
        return Path(chosen) if chosen else cache_folder()
    except RuntimeError:  # no home folder
        return None
