"""Checkpoints by orbax: the latest, the one before it, and the best, each with all that an exact resume needs.

A checkpoint has three items, so that inference reads only the first: `variables` (parameters and batch statistics;
their averages if `optim.ema` is set), `optimizer` (step, moments, and with `optim.ema` the weights that are averaged),
and `progress` (JSON: epoch, plateau, early stopping, history, checksums of the others). Orbax writes under a temporary
name and renames, so a folder whose name is a number is complete.
"""

import contextlib
import logging
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import numpy as np

from jaxseg.errors import RunError, UserError, one_line
from jaxseg.pretrained import place
from jaxseg.pretrained import weights as packed
from jaxseg.runs.progress import Progress
from jaxseg.runs.workdir import CHECKPOINTS, REPLACED, SUMMARY
from jaxseg.steps import TrainState
from jaxseg.system.files import read_json
from jaxseg.system.stop import leave_if_terminated

T = TypeVar("T")

log = logging.getLogger("jaxseg.train")

_CHECKSUMS = "checksums"
"""In a checkpoint's JSON: by item, the checksum of its arrays."""

READ_ATTEMPTS = 20
"""How often a reader starts over because a run that trains removed a checkpoint. One epoch of training removes one at
most, so that a run that outpaces this many readings writes checkpoints faster than this disk can be read."""


class CheckpointStore(Protocol):
    """What the training loop needs of checkpoints; a context manager."""

    def __enter__(self) -> "CheckpointStore": ...

    def __exit__(self, *exception: Any) -> None: ...

    def save(self, state: TrainState, progress: Progress) -> None:
        """Saves asynchronously.

        Args:
          state: a state whose parameters are finite.
          progress: the progress at that state.
        """

    def wait(self) -> None:
        """Waits for the save in progress."""

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, or None."""

    def resume(self, target: TrainState) -> tuple[TrainState, Progress] | None:
        """Reads the newest checkpoint, or returns None."""

    def restore(self, step: int, target: TrainState) -> tuple[TrainState, Progress] | None:
        """Reads one checkpoint, or returns None if this process keeps none.

        Args:
          step: the step of the checkpoint.
          target: `jax.ShapeDtypeStruct`s with shardings.
        """


class _LatestTwoAndBest:
    """An orbax `PreservationPolicy`: a policy for only the best would delete the newest, and vice versa.

    Attributes:
      best_step: the step of the best checkpoint so far, or None. Orbax' own policy for the best reads an additional
        file from each checkpoint, and cannot start if one of these is damaged.
    """

    best_step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        latest = sorted(info.step for info in checkpoints)[-2:]
        return [info.step in latest or info.step == self.best_step for info in checkpoints]


class Checkpoints:
    """The checkpoints in a run's folder, a `CheckpointStore`; on closing it waits for the save in progress.

    Saves are asynchronous; an error of one is raised by the next `save`, by `wait`, or on closing.

    Args:
      workdir: the run's folder.
      read_only: whether to leave the folder unchanged; for readers of a run, which may still be training.
    """

    def __init__(self, workdir: Path, *, read_only: bool = False):
        # Imported here and below, not at the top: orbax takes a fifth of the start-up time of a command.
        import orbax.checkpoint as ocp

        self.folder = (workdir / CHECKPOINTS).resolve()
        self._read_only = read_only
        self._policy = _LatestTwoAndBest()
        if not read_only:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._bring_back_replaced()
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_names=("variables", "optimizer", "progress"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._policy,
                # By default all processes of a job write; here only the first one does.
                multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}),
                # Else orbax waits five minutes for folders that another thread failed to create on a full disk.
                async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
                create=False,
                read_only=read_only,
                cleanup_tmp_directories=not read_only,  # of a save that was killed
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # The error that ends the block came first: errors on closing, which follow from it, must not hide it.
        with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
            self._manager.close()
        if kind and not self._read_only:
            # A run that could not begin, for example without its weight file, leaves no folder; rmdir spares folders
            # with files in them.
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                self.folder.parent.rmdir()

    def save(self, state: TrainState, progress: Progress) -> None:
        """Copies the state to the host and writes it asynchronously; checkpoints that the policy drops are deleted.

        Args:
          state: a state whose parameters are finite, which is not checked here.
          progress: the progress at that state.
        """
        import orbax.checkpoint as ocp

        step = int(jax.device_get(state.step))
        self._policy.best_step = progress.best_step
        # All devices hold the same values. Orbax would copy a part of each array from each device, with a program
        # compiled for every shape, and among several processes it would wait for the parts on the others' devices.
        state = jax.device_get(state)
        arrays = {"variables": state.variables, "optimizer": _training_alone(state)}
        checksums = {name: _checksum(part) for name, part in arrays.items()}
        # A run that is stopped between an epoch's last step and its validation saves then.
        with self._replacing(step) if step in self._manager.all_steps() else contextlib.nullcontext():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    progress=ocp.args.JsonSave(progress.to_json() | {_CHECKSUMS: checksums}),
                    **{name: ocp.args.StandardSave(part) for name, part in arrays.items()},
                ),
            )

    @contextlib.contextmanager
    def _replacing(self, step: int) -> Iterator[None]:
        """Keeps a checkpoint, which may be the only one, until the block has saved that of the same step."""
        self.wait()
        aside = self.folder / f"{REPLACED}{step}"
        (self.folder / str(step)).rename(aside)
        self._manager.reload()
        try:
            yield
            self.wait()
        finally:
            self._bring_back_replaced()

    def _bring_back_replaced(self) -> None:
        """Gives a checkpoint that was to be replaced its place back if no other is there, or deletes it."""
        for aside in self.folder.glob(f"{REPLACED}*"):
            its_place = self.folder / aside.name.removeprefix(REPLACED)
            if its_place.exists():
                shutil.rmtree(aside)
            else:
                aside.rename(its_place)

    def wait(self) -> None:
        """Waits for the save in progress; raises its error, if any."""
        self._manager.wait_until_finished()

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def resume(self, target: TrainState) -> tuple[TrainState, Progress] | None:
        """Reads the newest checkpoint that can be read; reports damaged ones and renames them to `damaged-STEP`.

        Args:
          target: `jax.ShapeDtypeStruct`s with shardings, which may be of other devices than those that saved.

        Returns:
          State and progress, or None if there is no checkpoint.

        Raises:
          RunError: there are checkpoints, but none can be read, or that of the best epoch so far is missing.
        """
        restored, failures = self._newest(lambda step: self.restore(step, target))
        best = restored[1].best_step if restored else None
        is_lost = best is not None and best not in self._manager.all_steps()
        if is_lost and not failures:
            raise RunError(
                f"{self.folder / str(best)}: the checkpoint of the best epoch is missing, which the run ends with "
                "unless a later epoch is better; put it back from a copy of the folder, or start in a new --workdir"
            )
        # Renamed only here: if no checkpoint can be read, the fault may lie elsewhere.
        for damaged, why in failures.items():
            aside = self.folder / f"damaged-{damaged}"
            shutil.rmtree(aside, ignore_errors=True)
            (self.folder / str(damaged)).rename(aside)
            log.warning("%s; kept as %s; the checkpoint before it is used", why, aside.name)
        if is_lost:  # a damaged one was better, which will come again
            log.warning("the best epoch's checkpoint, %d, is gone: the run needs a better epoch to come", best)
        if failures:
            self._manager.reload()
        return restored

    def restore(self, step: int, target: TrainState) -> tuple[TrainState, Progress]:
        """Reads a checkpoint.

        Args:
          step: the step of the checkpoint.
          target: `jax.ShapeDtypeStruct`s with shardings, which may be of other devices than those that saved.

        Returns:
          State and progress.

        Raises:
          RunError: the checkpoint cannot be read.
        """
        with self._damage_explained(step):
            restored = self._read(step, variables=target.variables, optimizer=_training_alone(target))
            if target.averaged is None:
                state = TrainState(**restored.optimizer, **restored.variables)
            else:
                state = TrainState(**restored.optimizer, averaged=restored.variables)
            return state, Progress.from_json(restored.progress)

    def restore_best(self, target: Any) -> tuple[Any, int]:
        """Reads the variables of the epoch with the lowest validation loss.

        Args:
          target: `jax.ShapeDtypeStruct`s of "params" and "batch_stats", with shardings.

        Returns:
          The variables, and the step at which they were saved.

        Raises:
          UserError: no epoch is done yet.
          RunError: the checkpoint cannot be read.
        """
        progress, failures = self._newest(self._read_progress)
        for damaged, why in failures.items():
            if (self.folder / str(damaged)).exists():  # else the run, which goes on, has removed it meanwhile
                log.warning("%s; the checkpoint before it is used", why)
        best = progress.best_step if progress else None
        self._tell_of_missing(progress)
        if best is None:
            raise UserError(f"{self.folder}: holds no checkpoint yet; let python -m jaxseg.train finish an epoch")
        with self._damage_explained(best, "; put it back from a copy of the run"):
            return self._read(best, variables=target).variables, best

    def _tell_of_missing(self, progress: Progress | None) -> None:
        """Warns if the newest checkpoint is of an earlier epoch than the run's summary, as in a copy that lacks it."""
        try:
            epochs = int(read_json(self.folder.parent / SUMMARY)["epochs"])
        except (UserError, LookupError, TypeError, ValueError):  # of a run that has not ended, or damaged
            return
        if progress and progress.epoch < epochs:
            log.warning(
                "%s: the newest checkpoint is of epoch %d, and %s tells of %d; the best of those there is taken",
                self.folder,
                progress.epoch,
                SUMMARY,
                epochs,
            )

    def _read_progress(self, step: int) -> Progress:
        with self._damage_explained(step):
            return Progress.from_json(self._read(step).progress)

    def _read(self, step: int, **items: Any) -> Any:
        """Reads the progress of a checkpoint, and items of arrays, which are compared with their checksums.

        Args:
          step: the step of the checkpoint.
          **items: by name of the item, the target of its arrays.

        Raises:
          ValueError: the arrays are not those that were saved: orbax' format has no checksums of its own.
        """
        import orbax.checkpoint as ocp

        args = {name: ocp.args.StandardRestore(target) for name, target in items.items()}
        restored = self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore(), **args))
        checksums = restored.progress.get(_CHECKSUMS, {})  # runs of the first releases have none
        for name in items.keys() & checksums.keys():
            if _checksum(restored[name]) != checksums[name]:
                raise ValueError(f"{name}: not the numbers that were saved")
        return restored

    def _newest(self, read: Callable[[int], T]) -> tuple[T | None, dict[int, str]]:
        """Returns the content of the newest readable checkpoint, and by step the errors of newer ones."""
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
    def _damage_explained(self, step: int, cure: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as error:  # orbax, tensorstore and JSON raise many kinds of errors on damaged files
            leave_if_terminated()
            raise RunError(f"checkpoint {self.folder / str(step)} cannot be read ({one_line(error)}){cure}") from error


def _checksum(tree: Any) -> int:
    """Returns the CRC-32 of the bytes of all arrays of a tree, in its order."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8), total)
    return total


def _training_alone(state: TrainState) -> dict[str, Any]:
    """Returns the parts of the state that training needs besides `state.variables`."""
    item = {"step": state.step, "opt_state": state.opt_state}
    return item if state.averaged is None else item | state.raw


class NoCheckpoints(CheckpointStore):
    """A `CheckpointStore` of a process that is not the first of its job: nothing is saved and nothing found."""

    def __enter__(self) -> "NoCheckpoints":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def save(self, state: TrainState, progress: Progress) -> None:
        """Does nothing."""

    def wait(self) -> None:
        """Returns at once."""

    def latest(self) -> None:
        """Returns None."""

    def resume(self, target: TrainState) -> None:
        """Returns None."""

    def restore(self, step: int, target: TrainState) -> None:
        """Returns None."""


def restore_best(workdir: Path, target: Any) -> tuple[Any, int]:
    """Reads the best variables of a run, which may still be training, or those of a packed model.

    Args:
      workdir: its folder.
      target: `jax.ShapeDtypeStruct`s of "params" and "batch_stats", with shardings.

    Returns:
      The variables, and the step at which they were saved.

    Raises:
      UserError: the run has no checkpoint yet.
      RunError: the checkpoint cannot be read, or checkpoints are removed faster than they can be read.
    """
    if place.is_packed(workdir):
        return packed.read(workdir, target)
    folder = workdir / CHECKPOINTS
    if not folder.is_dir():
        raise UserError(f"{workdir}: no {CHECKPOINTS}/ in it; train first: python -m jaxseg.train --workdir {workdir}")
    for _ in range(READ_ATTEMPTS):
        before = sorted(folder.iterdir())
        try:
            with Checkpoints(workdir, read_only=True) as checkpoints:
                return checkpoints.restore_best(target)
        except (RunError, FileNotFoundError):
            # A run that is still training removes older checkpoints, perhaps the one that was being read.
            if sorted(folder.iterdir()) == before:
                raise
    raise RunError(
        f"{folder}: changed during each of {READ_ATTEMPTS} attempts to read it: the run that trains there removes "
        "checkpoints faster than they can be read; try again when it has ended"
    )
