"""On what a run was trained: recorded at its first start, and again where a later session finds it otherwise.

A run that goes on with other versions, devices or source is not the one that these would have trained alone, and who
reads its numbers should know. `config.json` describes the first session, `sessions.json` the later ones that differ
from the one before; it is there for such runs alone.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.runs.workdir import CONFIG, SESSIONS
from jaxseg.system.files import read_json, write_json

FACTS = ("device", "versions", "commit")
"""What is recorded of every session, as `config.json` names it."""


def recorded(workdir: Path) -> list[Mapping[str, Any]]:
    """Returns the facts of each recorded session of a run, the first one first, from its folder.

    Raises:
      UserError: a file is damaged.
    """
    path = workdir / SESSIONS
    return [read_json(workdir / CONFIG), *(later_of(read_json(path)) if path.exists() else [])]


def add(workdir: Path, now: Mapping[str, Any], epoch: int) -> str:
    """Records a session if it differs from the one before.

    Args:
      workdir: the run's folder.
      now: the description of a run that would start now, as `config.json` holds it.
      epoch: number of finished epochs.

    Returns:
      What it has otherwise, in words; empty if nothing.

    Raises:
      UserError: a file in the folder is damaged.
    """
    first, *later = recorded(workdir)
    changed = changes([first, *later][-1], now)
    if changed:
        session = {"after_epoch": epoch, "started": now["started"], **{name: now.get(name) for name in FACTS}}
        write_json(workdir / SESSIONS, {"sessions": [*later, session]})
    return "; ".join(changed)


def later_of(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the sessions from the content of `sessions.json`."""
    return content.get("sessions", [])


def in_words(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a sentence for each session but the first, which says what it has otherwise than the one before.

    Args:
      sessions: their facts, as `recorded` returns them.
    """
    pairs = itertools.pairwise(sessions)
    return [f"after epoch {now['after_epoch']} with {'; '.join(changes(before, now))}" for before, now in pairs]


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns in words what a session has that the one before had otherwise; what was not recorded is not compared.

    Args:
      before: facts of the session before.
      now: facts of this one.
    """
    result = []
    if (old := before.get("device")) and old != (new := now["device"]):
        result.append(f"{_devices(new)}, not {_devices(old)}")
    had = before.get("versions", {})
    result += [f"{name} {new}, not {had[name]}" for name, new in now["versions"].items() if had.get(name, new) != new]
    old, new = before.get("commit"), now.get("commit")
    if old and new and old != new:
        result.append(f"commit {new}, not {old}")
    return result


def _devices(device: Mapping[str, Any]) -> str:
    return f"{device['count']} x {device['kind']}"
