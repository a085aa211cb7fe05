"""How far a run is, as pure values: sums of an epoch, history, plateau and early stopping."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxseg.config import Config
from jaxseg.errors import RunError
from jaxseg.metrics import COUNTS, SCORES, scores
from jaxseg.optim import EarlyStopState, PlateauState, early_stop_update, plateau_update

log = logging.getLogger("jaxseg.train")


@dataclasses.dataclass(frozen=True)
class EpochSums:
    """What an epoch's training steps add up to so far; a run that stops within an epoch goes on adding.

    Attributes:
      steps: number of steps.
      loss: sum over the steps.
      grad_norm: sum over the steps.
      tp: pixels, as are `fp`, `fn`, `tn`.
      fp: see `tp`.
      fn: see `tp`.
      tn: see `tp`.
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
      plateau: of the learning rate.
      early_stop: with the number of epochs done and the best one.
      history: the lines of `metrics.jsonl`, one per epoch.
      seconds: wall time of the epochs done, training and validation, over all sessions.
      sums: of the epoch under way, empty unless the run was stopped within one.
    """

    plateau: PlateauState = PlateauState()
    early_stop: EarlyStopState = EarlyStopState()
    history: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0
    sums: EpochSums = EpochSums()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.early_stop.epoch

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
        """Returns what `to_json` was made from."""
        return cls(
            PlateauState(**values["plateau"]),
            EarlyStopState(**values["early_stop"]),
            tuple(values["history"]),
            values["seconds"],
            EpochSums(**values.get("sums", {})),
        )


log = logging.getLogger("jaxseg.train")


def add_step(sums: EpochSums, metrics: Mapping[str, np.ndarray]) -> EpochSums:
    """Adds a step, in float64 and in order: the sum of a run that stopped and went on is that of one that did not."""
    added = {name: getattr(sums, name) + metrics[name].item() for name in ("loss", "grad_norm", *COUNTS)}
    return EpochSums(steps=sums.steps + 1, seconds=sums.seconds, **added)


def validation_scores(total: Mapping[str, float]) -> dict[str, float]:
    """Turns the sums of `eval_step` over all images into what `validate` returns."""
    pooled = scores({name: total[name] for name in COUNTS})
    return {
        **{name: total[name] / total["images"] for name in ("loss", *SCORES)},
        **{f"{name}_pooled": pooled[name] for name in SCORES},
    }


def after_epoch(progress: Progress, validated: Mapping[str, float], config: Config, seconds: float) -> Progress:
    """Returns the progress after an epoch that is trained and validated, with its line of `metrics.jsonl`.

    Of training, "loss" and "grad_norm" are means over the steps; "accuracy" and "dice" are pooled over the pixels of
    the augmented images.

    Args:
      progress: with the sums of all of the epoch's steps.
      validated: as of `validate`.
      config: of the run.
      seconds: that validation took.
    """
    sums, epoch = progress.sums, progress.epoch + 1
    pooled = scores({name: getattr(sums, name) for name in COUNTS})
    line = {
        "epoch": epoch,
        "step": epoch * sums.steps,
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


def check_finite(metrics: Mapping[str, Any], step: int, where: str) -> None:
    """Raises RunError if loss or gradient is NaN or infinite: what follows could only be worse."""
    for name in ("loss", "grad_norm"):
        if not np.isfinite(metrics.get(name, 0)):
            raise RunError(
                f"{name} = {metrics[name]} at step {step}, in {where}: training diverged; the checkpoints of earlier "
                "epochs are kept. Try a lower --optim.learning-rate, or --model.dtype float32, in a new --workdir"
            )
