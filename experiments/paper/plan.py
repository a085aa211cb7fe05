"""Progress of a study, and the time that its rows will take, estimated from the finished rows."""

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.paper import under_way
from experiments.paper.rows import Row
from experiments.shared.origin import JSON
from jaxseg.report.page import duration


def sentence(out: Path, planned: Sequence[Row], seeds: int, folds: int) -> str:
    """Returns how many rows are done and about how long the others take.

    Each run of a row that is not done is assumed to take the mean time of a run of the rows done with the same network,
    or of all rows done if there is none. Rows that stop early, or have other settings, make this an estimate.

    Args:
      out: the study's folder.
      planned: all rows of the study.
      seeds: runs of a row of seeds.
      folds: runs of a row of folds.
    """
    results = {row.name: _result(out, row) for row in planned}
    done = [row for row in planned if results[row.name]]
    text = f"{len(done)} of {len(planned)} rows are done"
    if not done:
        return f"{text}; the time left is known after the first"
    left = 0.0
    for row in planned:
        if not results[row.name]:
            alike = [other for other in done if _network(other) == _network(row)] or done
            by_run = [results[other.name]["seconds"] / len(results[other.name]["members"]) for other in alike]
            # What is saved of a row under way is part of its time.
            share = 1 - _share_done(out, row, [results[other.name] for other in alike])
            left += share * sum(by_run) / len(by_run) * (folds if row.folds else seeds)
    return f"{text}; about {duration(left)} left"


def _result(out: Path, row: Row) -> JSON | None:
    path = out / "rows" / row.name / "row.json"
    return json.loads(path.read_text()) if path.exists() else None


def _network(row: Row) -> tuple[str, bool]:
    """Returns what decides most of a row's time: its encoder, and whether it has few images."""
    return row.changes.get("model.encoder", ""), bool(row.train_images)


def _share_done(out: Path, row: Row, alike: Sequence[JSON]) -> float:
    """Returns the share of a row's epochs that is saved, if it has as many epochs as the rows like it."""
    epochs = max(member["epochs"] for result in alike for member in result["members"])
    return min(under_way.epochs_done(out / "rows" / row.name) / epochs, 1.0)
