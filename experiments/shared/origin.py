"""The origin of a result: command, date, commit, versions and hardware, without any path of the machine."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxseg.system.machine import cores

JSON = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

RESULTS = ROOT / "experiments" / "results"
"""The folder of kept results."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
"""Packages whose versions a result records."""

_PATH_IN_TEXT = re.compile(r"(?<![\w/.:~-])~?/[\w.+@-]+(?:/[\w.+@-]+)+/?")


def origin(kind: str, device: JSON) -> JSON:
    """Returns where, when and with what a result is measured.

    Call it before measuring: the commit may change meanwhile.

    Args:
      kind: kind of the result file, "benchmark_step" for example.
      device: "platform", "kind" and "count" of the devices, as JAX names them.
    """
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "kind": kind,
        "command": command_line(["python", "-m", module_name(), *sys.argv[1:]]),
        "date": today(),
        "commit": commit(),
        "versions": versions(PACKAGES),
        "hardware": {
            **device,
            "machine": platform.machine(),
            "cpu": _cpu_name(),
            "cores": cores(),
            "memory_gib": round(pages / 2**30),
            # Load by other programs before the measurement: timings of a busy machine are not to be trusted.
            "load_before": round(os.getloadavg()[0], 2),
        },
    }


def names_alone(value: Any) -> Any:
    """Returns a JSON value whose absolute paths are replaced by the names of their files or folders.

    Another machine has other folders, and a repository should not show those of its authors.
    """
    if isinstance(value, dict):
        return {name: names_alone(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [names_alone(part) for part in value]
    if not isinstance(value, str):
        return value
    if value.startswith(("/", "~/", "../")):
        return Path(value).name
    return _PATH_IN_TEXT.sub(lambda path: Path(path[0]).name, value)


def command_line(words: Sequence[str]) -> str:
    """Returns a command as one line, paths outside the working folder reduced to their names."""
    return shlex.join(names_alone(list(words)))


def hardware(result: JSON) -> str:
    """Returns what a result was measured on, "2 CPU cores" for example."""
    device = result["hardware"]
    if device["platform"] == "cpu":
        return f"{device['cores']} CPU core{'s' if device['cores'] > 1 else ''}"
    return f"{device['count']} x {device['kind']}"


def source(result: JSON) -> str:
    """Returns a line on a result's origin."""
    device = result["hardware"]
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{hardware(result)} ({device['cpu']}, {device['memory_gib']} GiB; load before: {device['load_before']}), "
        f"{packages}, {result['date']}, commit {result['commit']}: `{result['command']}`"
    )


def module_name() -> str:
    """Returns the dotted name of the running program, as `python -m` takes it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem


def commit() -> str:
    """Returns the checked-out commit, with "-dirty" where files other than results and README differ from it.

    So scripts that measure one after the other record the same commit, and it still exists when their results are kept.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    kept = (f":!{RESULTS.relative_to(ROOT)}", ":!README.md")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *kept)
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns Python's version and those of installed packages."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def today() -> str:
    """Returns the date, UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
