"""Where a result comes from: commit, versions, hardware, date, command."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


JSON = dict[str, Any]


def origin(kind: str, device: JSON) -> JSON:
    """Returns where, when and with what it is measured; to be called before, as the commit may move on meanwhile.

    Args:
      kind: of the result file.
      device: "platform", "kind" and "count", as of JAX.
    """
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "kind": kind,
        "command": shlex.join(["python", "-m", module_name(), *sys.argv[1:]]),
        "date": today(),
        "commit": commit(),
        "versions": versions(PACKAGES),
        "hardware": {
            **device,
            "machine": platform.machine(),
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gib": round(pages / 2**30),
            # Of others, before it began: numbers of a machine that is in use are not to be trusted.
            "load_before": round(os.getloadavg()[0], 2),
        },
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def hardware(result: JSON) -> str:
    """Returns what a result was measured on, as a table says it."""
    of = result["hardware"]
    return (
        f"{of['cores']} CPU core{'s' * (of['cores'] > 1)}"
        if of["platform"] == "cpu"
        else f"{of['count']} x {of['kind']}"
    )


def source(result: JSON) -> str:
    """Returns a line on a result's origin."""
    of = result["hardware"]
    names = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{hardware(result)} ({of['cpu']}, {of['memory_gib']} GiB; load before: {of['load_before']}), {names}, "
        f"{result['date']}, commit {result['commit']}: `{result['command']}`"
    )


def module_name() -> str:
    """Returns the dotted name of the program that runs, as `python -m` takes it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem


ROOT = Path(__file__).resolve().parents[2]


RESULTS = ROOT / "experiments" / "results"


def commit() -> str:
    """Returns the commit that is checked out, with "-dirty" where files differ from it, but for results and README.

    So scripts that measure one after the other tell the same commit, which is still there when their results are kept.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    kept = (f":!{RESULTS.relative_to(ROOT)}", ":!README.md")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *kept)
    return git("rev-parse", "--short=12", "HEAD") + "-dirty" * bool(changed)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns Python's version and those of installed packages."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def today() -> str:
    """Returns the date, UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
