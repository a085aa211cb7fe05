"""Which weights a run has, told from the bytes of their files: without JAX and orbax, which take seconds to import.

This is a short cut for what is kept of weights that were read before. Where a file is not as expected, nothing is told,
and whoever asked reads the weights as `checkpoint.restore_best` does, which explains what is wrong.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from jaxseg.errors import UserError
from jaxseg.pretrained import place
from jaxseg.runs.workdir import CHECKPOINTS
from jaxseg.system.files import read_json


class Fingerprint(NamedTuple):
    """The best weights of a run.

    Attributes:
      step: training step at which they were saved.
      sha256: hash of the files that hold them.
    """

    step: int
    sha256: str


def fingerprint_of(workdir: Path) -> Fingerprint | None:
    """Returns the fingerprint of the weights that `checkpoint.restore_best` reads; None where it cannot be told.

    Args:
      workdir: folder of a run or of a packed model.
    """
    try:
        return _of_packed(workdir) if place.is_packed(workdir) else _of_checkpoints(workdir / CHECKPOINTS)
    except (OSError, UserError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _of_packed(folder: Path) -> Fingerprint | None:
    card = read_json(folder / place.CARD)
    digest = hashlib.sha256((folder / place.WEIGHTS).read_bytes()).hexdigest()
    return Fingerprint(int(card["step"]), digest) if digest == card["weights"]["sha256"] else None


def _of_checkpoints(folder: Path) -> Fingerprint:
    """Reads the best step off the newest checkpoint's progress, JSON as `Progress.to_json` makes it."""
    newest = max(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    progress = json.loads((folder / str(newest) / "progress" / "metadata").read_text(encoding="utf-8"))
    step = int(progress["history"][progress["early_stop"]["best_epoch"] - 1]["step"])
    weights = folder / str(step) / "variables"
    files = sorted(path for path in weights.rglob("*") if path.is_file())
    if not files:
        raise FileNotFoundError(weights)
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(f"{path.relative_to(weights).as_posix()}\0".encode())
            total.update(hashlib.file_digest(file, "sha256").digest())
    return Fingerprint(step, total.hexdigest())
