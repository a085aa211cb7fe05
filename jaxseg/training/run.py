"""The facts of a run that do not change while it trains, and the summary of a finished run."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxseg.config import Config
from jaxseg.data import Examples, pipeline
from jaxseg.errors import UserError
from jaxseg.runs.progress import Progress


def epoch_steps(config: Config, train_set: Examples) -> int:
    """Returns the number of steps per epoch, a pass over the training images.

    Args:
      config: all settings.
      train_set: training images.

    Raises:
      UserError: a batch takes more images than there are, or its share of drawn images is not possible.
    """
    batch_size, drawn, share = config.train.batch_size, config.drawn_per_step, config.data.synthetic_share
    asked = f"data.synthetic_share = {share:g} of train.batch_size = {batch_size}"
    if share and not drawn:
        raise UserError(f"{asked}: less than half an image per batch; use {1 / batch_size:g} or more, or 0")
    if drawn == batch_size and train_set.dataset != "synthetic":
        raise UserError(
            f"{asked}: no image of {train_set.dataset} would be trained on; use {1 - 1 / batch_size:g} or less, or "
            "--data synthetic"
        )
    return pipeline.steps_per_epoch(len(train_set), batch_size, drawn=drawn, few=train_set.few)


@dataclasses.dataclass(frozen=True)
class Run:
    """What hooks learn about a run when it starts.

    Attributes:
      config: resolved settings.
      workdir: the run's folder.
      train_set: training images.
      validation_set: validation images.
      devices: the devices of all processes.
      parent: of a run that only starts, which weights it starts with, as `runs.parent.Parent.record`; None for others.
    """

    config: Config
    workdir: Path
    train_set: Examples
    validation_set: Examples
    devices: Sequence[jax.Device]
    parent: Mapping[str, Any] | None = None

    @property
    def epoch_steps(self) -> int:
        """Number of steps per epoch."""
        return epoch_steps(self.config, self.train_set)

    @property
    def synthetic(self) -> bool:
        """Whether the images are generated, so that scores say nothing about real lesions."""
        return self.train_set.dataset == "synthetic"

    @property
    def data(self) -> dict[str, Any]:
        """Name and sizes of the data set, as JSON values."""
        return {
            "dataset": self.train_set.dataset,
            "synthetic": self.synthetic,
            "train_images": len(self.train_set),
            "validation_images": len(self.validation_set),
        }

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the training and validation images."""
        return {"train": self.train_set.fingerprint(), "validation": self.validation_set.fingerprint()}

    @property
    def device(self) -> dict[str, Any]:
        """Platform, kind and number of the devices, as JSON values."""
        first = self.devices[0]
        return {"platform": first.platform, "kind": first.device_kind, "count": len(self.devices)}


def goes_on(progress: Progress, config: Config) -> bool:
    """Returns whether epochs are left, and early stopping has not ended the run.

    Args:
      progress: how far the run is.
      config: all settings; the number of epochs is used.
    """
    return not progress.early_stop.should_stop and progress.epoch < config.train.epochs


def best_epoch(progress: Progress) -> dict[str, Any]:
    """Returns the line of `metrics.jsonl` of the epoch with the lowest validation loss."""
    return progress.history[progress.early_stop.best_epoch - 1]


def summarize(run: Run, progress: Progress, parameters: int) -> dict[str, Any]:
    """Returns the content of `summary.json`.

    Args:
      run: the run.
      progress: the progress at the end of training.
      parameters: number of trained parameters of the model.
    """
    best = best_epoch(progress)
    return {
        **run.data,
        "parameters": parameters,
        "epochs": progress.epoch,
        "planned_epochs": run.config.train.epochs,
        "stopped": "early" if progress.early_stop.should_stop else "epochs",
        "best_epoch": best["epoch"],
        "best": {name: value for name, value in best.items() if name.startswith("val_")},
        "final_learning_rate": run.config.optim.learning_rate * progress.plateau.scale,
        "seconds": progress.seconds,
        "images_per_second": float(np.median([line["images_per_second"] for line in progress.history])),
        "device": run.device,
    }
