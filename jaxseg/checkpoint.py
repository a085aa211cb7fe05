"""Checkpoints by orbax: the latest, the one before it, and the best, each with all that an exact resume needs.

A checkpoint has three items, so that inference reads the first alone: `variables` (parameters and batch statistics),
`optimizer` (step and moments), and `progress` (JSON: epoch, plateau, early stopping, history).
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxseg.errors import UserError
from jaxseg.optim import EarlyStopState, PlateauState
from jaxseg.steps import TrainState

FOLDER = "checkpoints"
"""Name of the folder of checkpoints in a workdir."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """The host's part of a run's state, after a whole number of epochs.

    Attributes:
      plateau: of the learning rate.
      early_stop: with the number of epochs done and the best one.
      history: the lines of `metrics.jsonl`, one per epoch.
      seconds: wall time spent in training and validation so far, over all sessions.
    """

    plateau: PlateauState = PlateauState()
    early_stop: EarlyStopState = EarlyStopState()
    history: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.early_stop.epoch

    def to_json(self) -> dict[str, Any]:
        """Returns nested dicts and lists; `from_json` is its inverse."""
        return {
            "plateau": self.plateau._asdict(),
            "early_stop": self.early_stop._asdict(),
            "history": list(self.history),
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Progress":
        """Returns what `to_json` was made from."""
        return cls(
            PlateauState(**values["plateau"]),
            EarlyStopState(**values["early_stop"]),
            tuple(values["history"]),
            values["seconds"],
        )


class Checkpoints:
    """The checkpoints of a run; a context manager, which waits for saves under way when it closes.

    Args:
      workdir: the run's folder.
    """

    def __init__(self, workdir: Path):
        def rank(metrics: dict[str, int]) -> int:
            return metrics["improved_at"]

        # A policy of the best alone would delete the newest, and one of the newest alone the best.
        policy = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(n=2), checkpoint_managers.BestN(get_metric_fn=rank, n=1)]
        )
        self._manager = ocp.CheckpointManager(
            (workdir / FOLDER).resolve(),
            item_names=("variables", "optimizer", "progress"),
            # Without `best_fn` orbax would not write the metrics that the policy reads.
            options=ocp.CheckpointManagerOptions(preservation_policy=policy, best_fn=rank, best_mode="max"),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, state: TrainState, progress: Progress) -> None:
        """Copies the state to the host and writes it behind the training's back; older checkpoints go by the policy."""
        improved = progress.early_stop.best_epoch == progress.epoch
        self._manager.save(
            int(jax.device_get(state.step)),
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(state.variables),
                optimizer=ocp.args.StandardSave({"step": state.step, "opt_state": state.opt_state}),
                progress=ocp.args.JsonSave(progress.to_json()),
            ),
            # Ranks by when the best was reached, so that of equal losses the first stays the best, as in Keras.
            metrics={"improved_at": progress.epoch if improved else 0},
        )

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Returns the step of the checkpoint with the lowest validation loss, or None."""
        self._manager.wait_until_finished()
        return self._manager.best_step()

    def restore(self, step: int, target: TrainState) -> tuple[TrainState, Progress]:
        """Reads a checkpoint.

        Args:
          step: which.
          target: `jax.ShapeDtypeStruct`s with shardings: the devices to restore to may differ from those saved from.

        Returns:
          State and progress.
        """
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.StandardRestore(target.variables),
                optimizer=ocp.args.StandardRestore({"step": target.step, "opt_state": target.opt_state}),
                progress=ocp.args.JsonRestore(),
            ),
        )
        state = TrainState(
            step=restored.optimizer["step"],
            params=restored.variables["params"],
            batch_stats=restored.variables["batch_stats"],
            opt_state=restored.optimizer["opt_state"],
        )
        return state, Progress.from_json(restored.progress)

    def restore_variables(self, step: int, target: Any) -> Any:
        """Reads "params" and "batch_stats" alone; `target` as for `restore`."""
        args = ocp.args.Composite(variables=ocp.args.StandardRestore(target))
        return self._manager.restore(step, args=args).variables


def restore_best(workdir: Path, target: Any) -> tuple[Any, int]:
    """Reads the best variables of a run.

    Args:
      workdir: the run's folder.
      target: `jax.ShapeDtypeStruct`s of "params" and "batch_stats", with shardings.

    Returns:
      The variables and the step they were saved at.

    Raises:
      UserError: the run has no checkpoint yet.
    """
    if not (workdir / FOLDER).is_dir():
        raise UserError(f"{workdir}: no {FOLDER}/ in it; train first: python -m jaxseg.train --workdir {workdir}")
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.best()
        if step is None:
            raise UserError(f"{workdir / FOLDER}: holds no checkpoint yet; let python -m jaxseg.train finish an epoch")
        return checkpoints.restore_variables(step, target), step
