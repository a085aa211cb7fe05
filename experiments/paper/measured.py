"""What is measured of a row's runs after their training: JSON files in the row's folder, with an entry for each run.

A run's entries outlive its weights: of runs trained on another machine, `keep --into` brings the entries alone.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.paper.rows import Row
from experiments.paper.study import ROW_FILE, Study
from experiments.shared.origin import JSON
from jaxseg.system.files import write_json


def of_runs(study: Study, row: Row, name: str, measure: Callable[[Sequence[Path]], Sequence[Any]]) -> list[Any]:
    """Returns what is measured of each run of a row; measures the runs that have no entry yet, and keeps theirs.

    Args:
      study: the study; one that only reports measures nothing.
      row: a trained row of seeds.
      name: name of the file, without its ending.
      measure: takes the workdirs of runs, and returns an entry for each; or none, if the row cannot be measured so.

    Returns:
      An entry for each run; none at all where one is not measured and cannot be.
    """
    path = study.folder(row) / f"{name}.json"
    found = json.loads(path.read_text()) if path.exists() else []
    left = study.workdirs(row)[len(found) :]
    if left and (study.report or not all(workdir.is_dir() for workdir in left)):
        return []
    if left:
        entries = measure(left)
        if len(entries) < len(left):  # the row cannot be measured so
            return []
        found += entries
        write_json(path, found)
    return found


def all_of_row(folder: Path) -> dict[str, JSON]:
    """Returns all that is measured of a row's runs, by the name of the file without its ending.

    Args:
      folder: the row's folder.
    """
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.name != ROW_FILE}
