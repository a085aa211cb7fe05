"""Checkpoints by orbax: the latest, the one before it, and the best, each with all that an exact resume needs.

A checkpoint has three items, so that inference reads the first alone: `variables` (parameters and batch statistics, the
averages where `optim.ema` asks for them), `optimizer` (step, moments, and what was averaged), and `progress` (JSON:
epoch, plateau, early stopping, history). Orbax writes under a temporary name and renames, so what has a number for a
name was written in whole.
"""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax

from jaxseg.errors import RunError, UserError, one_line
from jaxseg.runs.progress import Progress
from jaxseg.steps import TrainState

log = logging.getLogger("jaxseg.train")


T = TypeVar("T")


FOLDER = "checkpoints"
"""Name of the folder of checkpoints in a workdir."""


class _LatestTwoAndBest:
    """What to keep, an orbax `PreservationPolicy`: one of the best alone would delete the newest, and vice versa.

    Attributes:
      best_step: the best so far, or None. Orbax' own policy of the best would read a file of its own from each
        checkpoint, and could not start if one of those were damaged.
    """

    best_step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        latest = sorted(info.step for info in checkpoints)[-2:]
        return [info.step in latest or info.step == self.best_step for info in checkpoints]


class Checkpoints:
    """The checkpoints of a run; a context manager, which waits for saves under way when it closes.

    Saving goes on behind the training's back; what fails there is raised by the next `save`, or when closing.

    Args:
      workdir: the run's folder.
      read_only: leave the folder as it is; for those who only look at a run, which may be under way.
    """

    def __init__(self, workdir: Path, *, read_only: bool = False):
        # Here and below, not at the top: orbax takes a fifth of the time in which a command that needs it later starts.
        import orbax.checkpoint as ocp

        self.folder = (workdir / FOLDER).resolve()
        self._read_only = read_only
        self._policy = _LatestTwoAndBest()
        if not read_only:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_names=("variables", "optimizer", "progress"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._policy,
                # Orbax would have all processes of a job write; here the first alone does.
                multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}),
                create=False,
                read_only=read_only,
                cleanup_tmp_directories=not read_only,  # what a killed save left
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # An error on its way is the first to have happened: it must not be hidden by those that follow from it.
        with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
            self._manager.close()
        if kind and not self._read_only:
            # A run that could not begin, for want of weights say, leaves no folder; rmdir takes none with files in it.
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                self.folder.parent.rmdir()

    def save(self, state: TrainState, progress: Progress) -> None:
        """Copies the state to the host and writes it behind the training's back; older checkpoints go by the policy.

        Args:
          state: with finite parameters; it is not looked at.
          progress: that belongs to it.
        """
        import orbax.checkpoint as ocp

        step = int(jax.device_get(state.step))
        self._policy.best_step = progress.best_step
        # All devices hold the same. Orbax would copy a part of each array from each device, by a program compiled for
        # every shape; and of several processes it would wait for the parts on the others' devices.
        state = jax.device_get(state)
        if step in self._manager.all_steps():
            # Saved when the run was stopped between the epoch's last step and its validation.
            self._manager.delete(step)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(state.variables),
                optimizer=ocp.args.StandardSave(_training_alone(state)),
                progress=ocp.args.JsonSave(progress.to_json()),
            ),
        )

    def wait(self) -> None:
        """Waits for the save under way; raises what it failed of."""
        self._manager.wait_until_finished()

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def resume(self, target: TrainState) -> tuple[TrainState, Progress] | None:
        """Reads the newest checkpoint that can be read; damaged ones are reported, and renamed to `damaged-STEP`.

        Args:
          target: as for `restore`.

        Returns:
          State and progress, or None if there is no checkpoint.

        Raises:
          RunError: there are checkpoints, and none can be read.
        """
        restored, failures = self._newest(lambda step: self.restore(step, target))
        # Renamed only now: if none can be read, the fault may lie elsewhere.
        for damaged, why in failures.items():
            aside = self.folder / f"damaged-{damaged}"
            shutil.rmtree(aside, ignore_errors=True)
            (self.folder / str(damaged)).rename(aside)
            log.warning("%s; kept as %s; the checkpoint before it is used", why, aside.name)
        if failures:
            self._manager.reload()
        return restored

    def restore(self, step: int, target: TrainState) -> tuple[TrainState, Progress]:
        """Reads a checkpoint.

        Args:
          step: which.
          target: `jax.ShapeDtypeStruct`s with shardings: the devices to restore to may differ from those saved from.

        Returns:
          State and progress.

        Raises:
          RunError: it cannot be read.
        """
        with self._damage_explained(step):
            restored = self._read(step, variables=target.variables, optimizer=_training_alone(target), progress=None)
            if target.averaged is None:
                state = TrainState(**restored.optimizer, **restored.variables)
            else:
                state = TrainState(**restored.optimizer, averaged=restored.variables)
            return state, Progress.from_json(restored.progress)

    def restore_best(self, target: Any) -> tuple[Any, int]:
        """Reads the variables of the epoch with the lowest validation loss.

        Args:
          target: of "params" and "batch_stats", as for `restore`.

        Returns:
          The variables and the step they were saved at.

        Raises:
          UserError: no epoch is done yet.
          RunError: it cannot be read.
        """
        progress, _ = self._newest(self._read_progress)
        best = progress and progress.best_step
        if best is None:
            raise UserError(f"{self.folder}: holds no checkpoint yet; let python -m jaxseg.train finish an epoch")
        with self._damage_explained(best):
            return self._read(best, variables=target).variables, best

    def _read_progress(self, step: int) -> Progress:
        with self._damage_explained(step):
            return Progress.from_json(self._read(step, progress=None).progress)

    def _read(self, step: int, **items: Any) -> Any:
        """Returns items of a checkpoint by name, arrays as their targets say; a target of None: the item is JSON."""
        import orbax.checkpoint as ocp

        args = {
            name: ocp.args.JsonRestore() if target is None else ocp.args.StandardRestore(target)
            for name, target in items.items()
        }
        return self._manager.restore(step, args=ocp.args.Composite(**args))

    def _newest(self, read: Callable[[int], T]) -> tuple[T | None, dict[int, str]]:
        """Returns what is read from the newest checkpoint that can be, and by step why newer ones cannot."""
        failures: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return read(step), failures
            except RunError as error:
                failures[step] = str(error)
        if failures:
            raise RunError(
                f"{self.folder}: none of the checkpoints ({', '.join(map(str, failures))}) can be read: "
                f"{next(iter(failures.values()))}; restore the folder from a copy, or start in a new --workdir"
            )
        return None, {}

    @contextlib.contextmanager
    def _damage_explained(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # orbax, tensorstore and JSON answer damaged files with many kinds of errors
            raise RunError(f"checkpoint {self.folder / str(step)} cannot be read ({one_line(error)})") from error


def _training_alone(state: TrainState) -> dict[str, Any]:
    """Returns what training needs besides `state.variables`."""
    item = {"step": state.step, "opt_state": state.opt_state}
    return item if state.averaged is None else item | state.raw


class NoCheckpoints(Checkpoints):
    """What a process has that is not the first of its job: it saves and finds nothing."""

    def __init__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def save(self, state: TrainState, progress: Progress) -> None:
        """Saves nothing."""

    def wait(self) -> None:
        """Has nothing to wait for."""

    def latest(self) -> None:
        """Finds nothing."""

    def resume(self, target: TrainState) -> None:
        """Finds nothing."""

    def restore(self, step: int, target: TrainState) -> None:
        """Reads nothing."""


def restore_best(workdir: Path, target: Any) -> tuple[Any, int]:
    """Reads the best variables of a run.

    Args:
      workdir: the run's folder.
      target: `jax.ShapeDtypeStruct`s of "params" and "batch_stats", with shardings.

    Returns:
      The variables and the step they were saved at.

    Raises:
      UserError: the run has no checkpoint yet.
      RunError: it cannot be read.
    """
    folder = workdir / FOLDER
    if not folder.is_dir():
        raise UserError(f"{workdir}: no {FOLDER}/ in it; train first: python -m jaxseg.train --workdir {workdir}")
    while True:
        before = sorted(folder.iterdir())
        try:
            with Checkpoints(workdir, read_only=True) as checkpoints:
                return checkpoints.restore_best(target)
        except (RunError, FileNotFoundError):
            # A run that trains on meanwhile removes older checkpoints, perhaps the one that was being read.
            if sorted(folder.iterdir()) == before:
                raise
