"""What is measured of a row's runs after their training: JSON files in the row's folder, with an entry for each run.

A run's entries outlive its weights: of runs trained on another machine, `keep --into` brings the entries alone. A run
that was not measured there is null in the file.
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
    """Returns what is measured of a row's runs; measures those that have no entry yet and are here, and keeps theirs.

    Args:
      study: the study; one that only reports measures nothing.
      row: a trained row of seeds.
      name: name of the file, without its ending.
      measure: takes the workdirs of runs, and returns an entry for each; or none, if the row cannot be measured so.

    Returns:
      An entry for each measured run, in their order: fewer than the row has where some are not measured and cannot be,
      which tables have to say (`rows.partly`).
    """
    path, workdirs = study.folder(row) / f"{name}.json", study.workdirs(row)
    kept = json.loads(path.read_text()) if path.exists() else []
    found = kept + [None] * (len(workdirs) - len(kept))
    left = [place for place, entry in enumerate(found) if entry is None and workdirs[place].is_dir()]
    if left and not study.report:
        entries = measure([workdirs[place] for place in left])
        if len(entries) == len(left):  # else the row cannot be measured so
            for place, entry in zip(left, entries, strict=True):
                found[place] = entry
            write_json(path, found)
    return [entry for entry in found if entry is not None]


def all_of_row(folder: Path) -> dict[str, JSON]:
    """Returns all that is measured of a row's runs, by the name of the file without its ending.

    Args:
      folder: the row's folder.
    """
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.name != ROW_FILE}
