"""Trains a segmenter: `python -m jaxseg.train --workdir runs/full`.

Run again on the same folder, it resumes; finished, it says so. Everything but `main` can be called from a test or a
notebook: `train_and_evaluate(config, workdir)` is the whole job.
"""

import argparse

from jaxseg import cli


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "train",
        "Trains a segmenter, keeps its latest and best checkpoints, and resumes when run again on the same folder.",
        "--workdir W [--config NAME] [--data D] [--any.setting VALUE]",
    )
    result.add_argument("--workdir", required=True, metavar="W", help="folder of the run; made if it is not there")
    cli.add_settings(result)
    return result


if __name__ == "__main__":
    _parser().parse_args()

import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxseg import data, weights
from jaxseg import workdir as files
from jaxseg.checkpoint import Checkpoints, Progress
from jaxseg.config import Config
from jaxseg.data import pipeline
from jaxseg.errors import RunError, UserError
from jaxseg.metrics import COUNTS, SCORES, scores
from jaxseg.optim import early_stop_update, plateau_update
from jaxseg.runlog import RunLog
from jaxseg.steps import Steps, TrainState, create_train_state, pick_devices

log = logging.getLogger("jaxseg.train")


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and trains."""
    args = _parser().parse_args(argv)
    cli.start_logging()
    workdir = Path(args.workdir)
    config = cli.config_from(args)
    if (workdir / files.CONFIG).exists() and not hasattr(args, "config"):
        # The same folder without settings means the same run: it resumes with what it was started with.
        config = files.read_config(workdir).updated(cli.changes_from(args))
    train_and_evaluate(config, workdir)


@dataclasses.dataclass(frozen=True)
class Job:
    """What stays the same from epoch to epoch.

    Attributes:
      config: resolved settings.
      steps: the compiled steps.
      train: training images at the network's size.
      validation: validation images at the network's size.
      key: the key that training steps are folded into, on the devices.
    """

    config: Config
    steps: Steps
    train: pipeline.ResizedExamples
    validation: pipeline.ResizedExamples
    key: jax.Array

    @property
    def epoch_steps(self) -> int:
        """Steps per epoch."""
        return pipeline.steps_per_epoch(len(self.train), self.config.train.batch_size)


def train_and_evaluate(config: Config, workdir: Path | str) -> tuple[TrainState, dict[str, Any]]:
    """Trains until the epochs are done or early stopping says so; resumes what the folder holds.

    Args:
      config: all settings.
      workdir: the run's folder, made if it is not there.

    Returns:
      The state with the best weights restored (lowest validation loss), and the content of `summary.json`.

    Raises:
      UserError: a setting, data set or weight file that cannot be used, or a folder that holds another run.
      RunError: the loss is not finite.
    """
    workdir = Path(workdir)
    config = resolve(config, workdir)
    train_set, validation_set = data.training_splits(config.data)
    pipeline.steps_per_epoch(len(train_set), config.train.batch_size)  # fails here, before anything slow, or never
    devices = pick_devices(config.train.devices, config.train.batch_size)
    steps = Steps(config, devices)
    init_key, train_key = jax.random.split(jax.random.key(config.train.seed))
    job = Job(
        config,
        steps,
        pipeline.ResizedExamples(train_set, config.data),
        pipeline.ResizedExamples(validation_set, config.data),
        steps.replicate(train_key),
    )
    with Checkpoints(workdir) as checkpoints:
        # Order of initialisation: 1. this run's own latest checkpoint, 2. else given encoder weights, 3. else random.
        if (newest := checkpoints.latest()) is not None:
            state, progress = checkpoints.restore(newest, state_target(job))
            files.write_metrics(workdir, progress.history)  # a line may be missing, or be ahead of its checkpoint
        else:
            encoder_weights = weights.load_pretrained(config.model.pretrained, config.model.encoder)
            state = steps.replicate(create_train_state(init_key, config, encoder_weights))
            progress = Progress()
        with RunLog(config, workdir, train_set, validation_set, devices, progress) as runlog:
            runlog.announce()
            with jax.transfer_guard("disallow"):
                progress = run_epochs(state, progress, job, checkpoints, runlog)
            state, _ = checkpoints.restore(checkpoints.best(), state_target(job))
            summary = runlog.finish(progress, sum(leaf.size for leaf in jax.tree.leaves(state.params)))
    return state, summary


def resolve(config: Config, workdir: Path) -> Config:
    """Settles what `auto` and the plain U-Net leave open, and checks that the folder holds no other run.

    Raises:
      UserError: the folder holds another run, or the plain U-Net is to take encoder weights from a file.
    """
    saved = files.read_config(workdir) if (workdir / files.CONFIG).exists() else None
    changes: dict[str, Any] = {}
    if config.data.name == "auto":
        changes["data.name"] = name = saved.data.name if saved else data.resolve_name(config.data)
        if name == "synthetic":
            changes["model.pretrained"] = "none"
            log.warning(
                "SYNTHETIC DATA: no PH2 is prepared here, so --data auto trains on generated images, from random "
                "weights; its scores say nothing about real lesions. "
                "For real data: python -m jaxseg.prepare ph2 --source PH2Dataset"
            )
    elif Path(config.data.name).is_dir():
        changes["data.name"] = str(Path(config.data.name).resolve())  # so that the run resumes from any folder
    if config.model.encoder == "none":
        if config.model.pretrained not in ("imagenet", "none"):
            raise UserError(
                f"model.pretrained = {config.model.pretrained!r}: the plain U-Net (model.encoder none) has no encoder "
                "that takes weights; use --model.pretrained none"
            )
        changes["model.pretrained"] = "none"
    config = config.updated(changes)
    if saved:
        files.check_same_run(saved, config, workdir)
    return config


def state_target(job: Job) -> TrainState:
    """Returns shapes, types and placement of the state, for restoring."""
    shapes = jax.eval_shape(lambda: create_train_state(jax.random.key(0), job.config))
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=job.steps.replicated), shapes)


def run_epochs(state: TrainState, progress: Progress, job: Job, checkpoints: Checkpoints, runlog: RunLog) -> Progress:
    """Trains, validates and saves epoch by epoch until the end."""
    config = job.config
    batches = pipeline.train_batches(
        job.train,
        config.data,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        first_step=progress.epoch * job.epoch_steps,
        last_step=config.train.epochs * job.epoch_steps,
    )
    while not progress.early_stop.should_stop and progress.epoch < config.train.epochs:
        began = time.perf_counter()
        learning_rate = config.optim.learning_rate * progress.plateau.scale
        state, trained = train_epoch(state, batches, learning_rate, job, runlog)
        train_seconds = time.perf_counter() - began
        validated = validate(state, job)
        line = {
            "epoch": progress.epoch + 1,
            "step": (progress.epoch + 1) * job.epoch_steps,
            **{f"train_{name}": value for name, value in trained.items()},
            **{f"val_{name}": value for name, value in validated.items()},
            "learning_rate": learning_rate,
            "images_per_second": job.epoch_steps * config.train.batch_size / train_seconds,
        }
        progress = Progress(
            plateau=plateau_update(progress.plateau, line["val_loss"], config.optim),
            early_stop=early_stop_update(progress.early_stop, line["val_loss"], config.optim),
            history=(*progress.history, line),
            seconds=progress.seconds + time.perf_counter() - began,
        )
        with jax.transfer_guard("allow"):  # orbax copies the state to the host
            checkpoints.save(state, progress)
        runlog.epoch(progress)
    return progress


def train_epoch(
    state: TrainState, batches: Iterator[Mapping[str, np.ndarray]], learning_rate: float, job: Job, runlog: RunLog
) -> tuple[TrainState, dict[str, float]]:
    """Takes one epoch's steps.

    Returns:
      The new state, and of the epoch: "loss" and "grad_norm", means over the steps; "accuracy" and "dice", pooled over
      the pixels of the augmented images.

    Raises:
      RunError: a loss was not finite.
    """
    rate = job.steps.replicate(np.float32(learning_rate))
    fetched: list[dict[str, np.ndarray]] = []
    waiting: list[dict[str, jax.Array]] = []
    for step in range(1, job.epoch_steps + 1):
        state, metrics = job.steps.train(state, job.steps.shard(next(batches)), job.key, rate)
        waiting.append(metrics)
        if step % job.config.train.log_every_steps == 0 or step == job.epoch_steps:
            # The only wait for the device: in between, the host runs ahead and keeps it fed.
            fetched += jax.device_get(waiting)
            runlog.steps(len(waiting))
            waiting = []
            check_finite([m["loss"] for m in fetched], f"in steps 1 to {step} of an epoch of {job.epoch_steps}")
    pooled = scores({name: sum(int(m[name]) for m in fetched) for name in COUNTS})
    means = {name: float(np.mean([m[name] for m in fetched])) for name in ("loss", "grad_norm")}
    return state, {**means, "accuracy": pooled["accuracy"], "dice": pooled["dice"]}


def validate(state: TrainState, job: Job) -> dict[str, float]:
    """Scores every validation image once, at the network's resolution.

    Returns:
      "loss" and the five scores as means over images, and the five as "dice_pooled", ..., over all pixels.

    Raises:
      RunError: the loss is not finite.
    """
    devices, images = len(job.steps.devices), len(job.validation)
    batch_size = -(-min(job.config.train.batch_size, images) // devices) * devices
    batches = pipeline.eval_batches(job.validation, job.config.data, batch_size=batch_size)
    sums = jax.device_get([job.steps.evaluate(state.variables, job.steps.shard(batch)) for batch in batches])
    total = {name: sum(float(batch[name]) for batch in sums) for name in sums[0]}
    check_finite([total["loss"]], "in validation")
    pooled = scores({name: total[name] for name in COUNTS})
    return {
        **{name: total[name] / total["images"] for name in ("loss", *SCORES)},
        **{f"{name}_pooled": pooled[name] for name in SCORES},
    }


def check_finite(losses: Sequence[float], where: str) -> None:
    """Raises RunError if a loss is NaN or infinite: what follows could only be worse."""
    if not np.isfinite(losses).all():
        raise RunError(
            f"the loss is not finite {where}: training diverged; the checkpoints of earlier epochs are kept. "
            "Try a lower --optim.learning-rate in a new --workdir"
        )


if __name__ == "__main__":
    cli.run("train", main)
