"""State of an unfinished row on disk, saved after every epoch, from which the row continues.

`ROW/under-way` holds one orbax checkpoint of the stacked states after the last epoch, the states of each run's best
epoch, and the progress of the runs as JSON. It is removed when the row's result is written.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from experiments.shared.origin import JSON
from jaxseg.errors import UserError, one_line
from jaxseg.runs.progress import Progress
from jaxseg.steps import TrainState

FOLDER = "under-way"
"""Name of the folder in that of the row."""


@dataclasses.dataclass
class UnderWay:
    """Several runs after an epoch.

    Attributes:
      states: their states, stacked along a leading axis.
      best: their states after each run's best epoch, stacked.
      progress: each run's progress.
      at_best: each run's progress after its best epoch.
      seconds: wall time of training and validation so far, compilation excluded.
      compile_seconds: wall time of the first steps and validations of all sessions, which compile.
      sessions: number of epochs done when each session began.
    """

    states: TrainState
    best: TrainState
    progress: list[Progress]
    at_best: list[Progress]
    seconds: float = 0.0
    compile_seconds: float = 0.0
    sessions: list[int] = dataclasses.field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs done by the run that trained longest."""
        return max(progress.epoch for progress in self.progress)

    def to_json(self) -> JSON:
        """Returns everything except the states."""
        return {
            "progress": [progress.to_json() for progress in self.progress],
            "at_best": [progress.to_json() for progress in self.at_best],
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "sessions": self.sessions,
        }


class Saved:
    """The saved state of a row under way; a context manager, which waits for the last save.

    Saving is asynchronous: what fails is raised by the next save, or when closing.

    Args:
      folder: the row's folder.
      about: what the state belongs to: settings, seeds and fingerprints of the images.
    """

    def __init__(self, folder: Path, about: JSON):
        import orbax.checkpoint as ocp

        self._folder, self._about = folder / FOLDER, about
        self._folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self._folder.resolve(),
            item_names=("states", "best", "progress"),
            options=ocp.CheckpointManagerOptions(max_to_keep=1, create=False, cleanup_tmp_directories=True),
        )

    def __enter__(self) -> "Saved":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def save(self, row: UnderWay) -> None:
        """Copies the states to the host and writes them asynchronously; the save before is removed after that."""
        import orbax.checkpoint as ocp

        # Copied first: the next step takes over the memory of the states. All devices hold the same.
        states, best = jax.device_get((_leaves(row.states), _leaves(row.best)))
        self._manager.save(
            row.epoch,
            args=ocp.args.Composite(
                states=ocp.args.StandardSave(states),
                best=ocp.args.StandardSave(best),
                progress=ocp.args.JsonSave({"about": self._about, **row.to_json()}),
            ),
        )

    def resume(self, target: TrainState, say: Callable[[str], None]) -> UnderWay | None:
        """Reads the saved state.

        Args:
          target: `jax.ShapeDtypeStruct`s of the stacked states, with shardings.
          say: told a line if the saved state is damaged.

        Returns:
          The row under way; None if nothing is saved, or it cannot be read: the row then starts again.

        Raises:
          UserError: it was saved with other settings or images.
        """
        import orbax.checkpoint as ocp

        epoch = self._manager.latest_step()
        if epoch is None:
            return None
        try:
            kept = self._manager.restore(epoch, args=ocp.args.Composite(progress=ocp.args.JsonRestore())).progress
            about = kept["about"]
        except Exception as error:  # orbax and JSON answer damaged files with many kinds of errors
            return self._damaged(error, say)
        if about != self._about:
            raise UserError(
                f"{self._folder}: was begun with other settings or images; give another --out, or remove the folder"
            )
        try:
            item = ocp.args.StandardRestore(_leaves(target))
            read = self._manager.restore(epoch, args=ocp.args.Composite(states=item, best=item))
            return UnderWay(
                _tree(read.states, target),
                _tree(read.best, target),
                [Progress.from_json(values) for values in kept["progress"]],
                [Progress.from_json(values) for values in kept["at_best"]],
                kept["seconds"],
                kept["compile_seconds"],
                kept["sessions"],
            )
        except Exception as error:
            return self._damaged(error, say)

    def _damaged(self, error: Exception, say: Callable[[str], None]) -> None:
        say(f"  {self._folder} cannot be read ({one_line(error)}): the row starts again")
        self._manager.delete(self._manager.latest_step())


def remove(folder: Path) -> None:
    """Removes the saved state of a row whose result is written."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def epochs_done(folder: Path) -> int:
    """Returns how many epochs of a row are saved, from the names on disk; 0 if none."""
    names = [path.name for path in (folder / FOLDER).glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _leaves(tree: Any) -> dict[str, Any]:
    """Returns the arrays of a tree by their number: a file does not depend on the classes of optax and Flax."""
    return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def _tree(leaves: dict[str, Any], target: Any) -> Any:
    """Returns the tree of which `_leaves` has the arrays."""
    return jax.tree.unflatten(jax.tree.structure(target), [leaves[str(i)] for i in range(len(leaves))])
