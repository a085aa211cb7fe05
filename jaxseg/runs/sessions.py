"""On what a run was trained: recorded at its first start, and again where a later session finds it otherwise.

A run that goes on with other versions, devices or source is not the one that these would have trained alone, and who
reads its numbers should know. `config.json` describes the first session; its list `sessions` the later ones that differ
from the one before.
"""

import itertools
from collections.abc import Mapping
from typing import Any

SESSIONS = "sessions"
"""Key of the list in `config.json`: of each such session "after_epoch", "started", and `FACTS`."""

FACTS = ("device", "versions", "commit")
"""What is recorded of every session, as `config.json` names it."""


def gone_on(described: Mapping[str, Any], now: Mapping[str, Any], epoch: int) -> dict[str, Any] | None:
    """Returns the content of `config.json` with a session added, or None where it finds what the last one found.

    Args:
      described: the content that it has.
      now: the description of a run that would start now, with the same keys.
      epoch: number of finished epochs.
    """
    if not changes(last_of(described), now):
        return None
    session = {"after_epoch": epoch, "started": now["started"], **{name: now.get(name) for name in FACTS}}
    return {**described, SESSIONS: [*described.get(SESSIONS, []), session]}


def last_of(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what is recorded of the last session, from the content of `config.json`."""
    return [described, *described.get(SESSIONS, [])][-1]


def in_words(described: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each recorded session but the first, from the content of `config.json`."""
    pairs = itertools.pairwise([described, *described.get(SESSIONS, [])])
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
