"""Progress of a study, and the time that its rows will take, estimated from the finished rows."""

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.paper import under_way
from experiments.paper.rows import Row
from experiments.shared.origin import JSON
from jaxseg.report.page import duration
from jaxseg.runs.workdir import HISTORY


def sentence(out: Path, planned: Sequence[tuple[Row, int]]) -> str:
    """Returns how many rows are done and about how long the others take.

    Each run of a row that is not done is assumed to take the mean time of a run of the rows done with the same network,
    or of all rows done if there is none. Rows that stop early, or have other settings, make this an estimate.

    Args:
      out: the study's folder.
      planned: all rows of the study, each with its number of runs.
    """
    results = {row.name: _result(out, row) for row, _ in planned}
    known = [row for row, _ in planned if results[row.name]]
    done = [row.name for row, runs in planned if results[row.name] and len(results[row.name]["members"]) >= runs]
    text = f"{len(done)} of {len(planned)} rows are done"
    if not known:
        return f"{text}; the time left is known after the first"
    left = 0.0
    for row, runs in planned:
        if row.name not in done:
            alike = [other for other in known if _network(other) == _network(row)] or known
            by_run = [results[other.name]["seconds"] / len(results[other.name]["members"]) for other in alike]
            # What is saved of a row under way is part of its time.
            share = 1 - _share_done(out / "rows" / row.name, runs, [results[other.name] for other in alike])
            left += share * sum(by_run) / len(by_run) * runs
    return f"{text}; about {duration(left)} left"


def _result(out: Path, row: Row) -> JSON | None:
    path = out / "rows" / row.name / "row.json"
    return json.loads(path.read_text()) if path.exists() else None


def _network(row: Row) -> tuple[str, bool]:
    """Returns what decides most of a row's time: its encoder, and whether it has few images."""
    return row.changes.get("model.encoder", ""), bool(row.train_images)


def _share_done(folder: Path, runs: int, alike: Sequence[JSON]) -> float:
    """Returns the share of a row's epochs that is saved, if its runs have as many epochs as those of rows like it."""
    epochs = max(member["epochs"] for result in alike for member in result["members"])
    in_turn = sum(len(path.read_text().splitlines()) for path in folder.glob(f"member-*/{HISTORY}"))
    return min(max(under_way.epochs_done(folder) / epochs, in_turn / epochs / runs), 1.0)
