"""How far a run is, as pure values: sums of an epoch, history, plateau and early stopping."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxseg.config import Config
from jaxseg.errors import RunError, UserError
from jaxseg.metrics import COUNTS, SCORES, scores
from jaxseg.optim import EarlyStopState, PlateauState, early_stop_update, plateau_update

_log = logging.getLogger("jaxseg.train")


@dataclasses.dataclass(frozen=True)
class EpochSums:
    """Sums over the training steps of the current epoch; a run that is stopped within an epoch continues them.

    Attributes:
      steps: number of steps.
      loss: sum of the loss over the steps.
      grad_norm: sum of the gradient's norm over the steps.
      tp: number of true positive pixels.
      fp: number of false positive pixels.
      fn: number of false negative pixels.
      tn: number of true negative pixels.
      seconds: wall time of the steps.
    """

    steps: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """The host's part of a run's state.

    Attributes:
      plateau: the state of reduce-on-plateau.
      early_stop: the state of early stopping, with the numbers of epochs done and of the best one.
      history: the lines of `metrics.jsonl`, one per epoch.
      seconds: wall time of the epochs done, training and validation, over all sessions.
      sums: the sums of the current epoch; all 0 unless the run was stopped within an epoch.
    """

    plateau: PlateauState = PlateauState()
    early_stop: EarlyStopState = EarlyStopState()
    history: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0
    sums: EpochSums = EpochSums()

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return self.early_stop.epoch

    @property
    def steps(self) -> int:
        """Number of steps of the epochs done, which differ in length where a run went on with fewer images."""
        return self.history[-1]["step"] if self.history else 0

    @property
    def best_step(self) -> int | None:
        """The step after the epoch with the lowest validation loss; None before the end of the first epoch."""
        best = self.early_stop.best_epoch
        return self.history[best - 1]["step"] if best else None

    def to_json(self) -> dict[str, Any]:
        """Returns nested dicts and lists; `from_json` is its inverse."""
        return {
            "plateau": self.plateau._asdict(),
            "early_stop": self.early_stop._asdict(),
            "history": list(self.history),
            "seconds": self.seconds,
            "sums": dataclasses.asdict(self.sums),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Progress":
        """Returns the progress whose `to_json` gave these values."""
        return cls(
            PlateauState(**values["plateau"]),
            EarlyStopState(**values["early_stop"]),
            tuple(values["history"]),
            values["seconds"],
            EpochSums(**values.get("sums", {})),
        )


def add_step(sums: EpochSums, metrics: Mapping[str, np.ndarray]) -> EpochSums:
    """Adds a step, in float64 and in order, so that a resumed run has the same sums as one that was never stopped.

    Args:
      sums: the sums so far.
      metrics: "loss", "grad_norm" and pixel counts of the step, as scalars.

    Returns:
      The new sums.
    """
    added = {name: getattr(sums, name) + metrics[name].item() for name in ("loss", "grad_norm", *COUNTS)}
    return EpochSums(steps=sums.steps + 1, seconds=sums.seconds, **added)


def validation_scores(total: Mapping[str, float]) -> dict[str, float]:
    """Returns "loss" and the five scores as means over images, and the five as "dice_pooled", ..., over all pixels.

    Args:
      total: sums over all images: "images", "loss", the five scores, and pixel counts "tp", "fp", "fn", "tn".
    """
    pooled = scores({name: total[name] for name in COUNTS})
    return {
        **{name: total[name] / total["images"] for name in ("loss", *SCORES)},
        **{f"{name}_pooled": pooled[name] for name in SCORES},
    }


def after_epoch(progress: Progress, validated: Mapping[str, float], config: Config, seconds: float) -> Progress:
    """Returns the progress after an epoch is trained and validated, with its line of `metrics.jsonl`.

    "train_loss" and "train_grad_norm" are means over the steps; "train_accuracy" and "train_dice" are pooled over the
    pixels of the augmented images.

    Args:
      progress: the progress with the sums of all steps of the epoch.
      validated: "loss" and scores of the validation images.
      config: the run's settings.
      seconds: wall time of the validation.
    """
    sums, epoch = progress.sums, progress.epoch + 1
    pooled = scores({name: getattr(sums, name) for name in COUNTS})
    line = {
        "epoch": epoch,
        "step": progress.steps + sums.steps,
        "train_loss": sums.loss / sums.steps,
        "train_grad_norm": sums.grad_norm / sums.steps,
        "train_accuracy": pooled["accuracy"],
        "train_dice": pooled["dice"],
        **{f"val_{name}": value for name, value in validated.items()},
        "learning_rate": config.optim.learning_rate * progress.plateau.scale,
        "images_per_second": sums.steps * config.train.batch_size / sums.seconds,
    }
    return Progress(
        plateau=plateau_update(progress.plateau, line["val_loss"], config.optim),
        early_stop=early_stop_update(progress.early_stop, line["val_loss"], config.optim),
        history=(*progress.history, line),
        seconds=progress.seconds + sums.seconds + seconds,
    )


def resumed(progress: Progress, config: Config, planned_epochs: int | None) -> Progress:
    """Returns the progress of a run that is resumed, judged by the patience that it is resumed with.

    Args:
      progress: what the latest checkpoint holds.
      config: settings to go on with.
      planned_epochs: the most epochs that the run was asked for before; None for a run that only starts.

    Returns:
      The progress, with `early_stop.should_stop` by `early_stop_patience` of these settings.

    Raises:
      UserError: more epochs are asked for than were planned, but early stopping allows none.
    """
    stop, patience = progress.early_stop, config.optim.early_stop_patience
    stop = stop._replace(should_stop=stop.wait >= patience)
    epochs = config.train.epochs
    if planned_epochs and stop.should_stop and progress.epoch <= planned_epochs < epochs:
        raise UserError(
            f"train.epochs = {epochs}: the run stopped early after epoch {progress.epoch}, {stop.wait} epochs after "
            f"its best, so more epochs alone train nothing; to train on, add --optim.early-stop-patience "
            f"{stop.wait + max(patience, 10)}"
        )
    if planned_epochs and progress.epoch > epochs:
        _log.warning(
            "the run is at epoch %d, beyond train.epochs = %d; a higher --train.epochs trains on",
            progress.epoch,
            epochs,
        )
    return dataclasses.replace(progress, early_stop=stop)


def check_finite(metrics: Mapping[str, Any], step: int, where: str) -> None:
    """Checks that loss and gradient are finite.

    Args:
      metrics: "loss" and, for a training step, "grad_norm".
      step: number of training steps taken, for the message.
      where: the part of the run, for the message.

    Raises:
      RunError: the loss or the gradient's norm is NaN or infinite.
    """
    for name in ("loss", "grad_norm"):
        if not np.isfinite(metrics.get(name, 0)):
            raise RunError(
                f"{name} = {metrics[name]} at step {step}, in {where}: training diverged; the checkpoints of earlier "
                "epochs are kept. Try a lower --optim.learning-rate, or --model.dtype float32, in a new --workdir"
            )
