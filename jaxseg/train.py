"""Trains a segmenter: `python -m jaxseg.train --workdir runs/full`.

Run again on the same folder, it resumes; finished, it says so. SIGTERM and Ctrl-C make it save within the epoch and
leave with exit code 143 or 130; a second Ctrl-C aborts. Everything but `main` can be called from a test or a notebook:
`train_and_evaluate(config, workdir)` is the whole job.
"""

import argparse

from jaxseg import cli


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "train",
        "Trains a segmenter, keeps its latest and best checkpoints, and resumes when run again on the same folder. "
        "SIGTERM and Ctrl-C save and leave, with exit code 143 or 130; a second Ctrl-C aborts.",
        "--workdir W [--config NAME] [--data D] [--any.setting VALUE]",
    )
    result.add_argument("--workdir", required=True, metavar="W", help="folder of the run; made if it is not there")
    cli.add_settings(result)
    return result


if __name__ == "__main__":
    _parser().parse_args()

import contextlib
import dataclasses
import logging
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from jaxseg import data, lock, processes, startup, weights
from jaxseg import workdir as files
from jaxseg.checkpoint import Checkpoints, EpochSums, NoCheckpoints, Progress
from jaxseg.config import Config
from jaxseg.data import pipeline
from jaxseg.errors import RunError, UserError
from jaxseg.metrics import COUNTS, SCORES, scores
from jaxseg.optim import early_stop_update, plateau_update
from jaxseg.runlog import RunLog, SilentRunLog
from jaxseg.steps import Steps, TrainState, create_train_state, divisible, pick_devices, state_target
from jaxseg.stop import Stopped, StopRequest

log = logging.getLogger("jaxseg.train")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit code."""
    args = _parser().parse_args(argv)
    cli.start_logging()
    startup.tune()
    for library in ("absl", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # a save that fails is told by our error, in one line
    processes.join()
    workdir = Path(args.workdir)
    config = cli.config_from(args)
    if (workdir / files.CONFIG).exists() and not hasattr(args, "config"):
        # The same folder without settings means the same run: it resumes with what it was started with.
        config = files.read_config(workdir).updated(cli.changes_from(args))
    with StopRequest() if jax.process_count() == 1 else processes.SharedStop() as stop:
        try:
            train_and_evaluate(config, workdir, stop)
        except Stopped as stopped:
            command = shlex.join(["python", "-m", "jaxseg.train", *(sys.argv[1:] if argv is None else argv)])
            log.info("%s; go on with: %s", stopped, command)
            return stopped.exit_code
    return 0


@dataclasses.dataclass(frozen=True)
class Job:
    """What stays the same from epoch to epoch.

    Attributes:
      config: resolved settings.
      steps: the compiled steps.
      train: training images at the network's size.
      validation: validation images at the network's size.
      key: the key that training steps are folded into, on the devices.
      stop: tells when the run shall save and leave.
    """

    config: Config
    steps: Steps
    train: pipeline.ResizedExamples
    validation: pipeline.ResizedExamples
    key: jax.Array
    stop: StopRequest

    @property
    def epoch_steps(self) -> int:
        """Steps per epoch."""
        return pipeline.steps_per_epoch(len(self.train), self.config.train.batch_size)


def train_and_evaluate(
    config: Config, workdir: Path | str, stop: StopRequest | None = None
) -> tuple[TrainState, dict[str, Any]]:
    """Trains until the epochs are done or early stopping says so; resumes what the folder holds.

    Args:
      config: all settings.
      workdir: the run's folder, made if it is not there.
      stop: looked at after every step; once it is asked for, the run saves and raises `Stopped`.

    Returns:
      The state with the best weights restored (lowest validation loss), and the content of `summary.json`.

    Raises:
      UserError: a setting, data set or weight file that cannot be used, or a folder that holds another run or is in use
        by another process.
      RunError: the loss is not finite, the disk is full, or no checkpoint can be read.
      Stopped: it was asked to stop; called again, it goes on.
    """
    workdir = Path(workdir)
    with files.disk_errors(workdir), lock.held(workdir) if processes.is_first() else contextlib.nullcontext():
        return train_alone(config, workdir, stop)


def train_alone(config: Config, workdir: Path, stop: StopRequest | None) -> tuple[TrainState, dict[str, Any]]:
    """Does `train_and_evaluate`'s work, in a folder that no other run uses."""
    first = processes.is_first()
    config = Config.from_dict(processes.json_from_first(resolve(config, workdir).to_dict() if first else None))
    train_set, validation_set = data.training_splits(config.data)
    processes.check_same("data set", [train_set.fingerprint(), validation_set.fingerprint()])
    pipeline.steps_per_epoch(len(train_set), config.train.batch_size)  # fails here, before anything slow, or never
    devices = pick_devices(config.train.devices, config.train.batch_size)
    steps = Steps(config, devices)
    init_key, train_key = jax.random.split(jax.random.key(config.train.seed))
    if jax.process_count() > 1:
        train_key = jax.random.key_data(train_key)  # pmap would copy a typed key by way of the host in every step
    job = Job(
        config,
        steps,
        pipeline.ResizedExamples(train_set, config.data),
        pipeline.ResizedExamples(validation_set, config.data),
        steps.replicate(train_key),
        StopRequest() if stop is None else stop,
    )
    with Checkpoints(workdir) if first else NoCheckpoints() as checkpoints:
        state, progress = start_or_resume(job, checkpoints, init_key)
        if first and progress.history:
            files.write_metrics(workdir, progress.history)  # a line may be missing, or be ahead of its checkpoint
        kind = RunLog if first else SilentRunLog
        everywhere = jax.devices() if jax.process_count() > 1 else devices
        with kind(config, workdir, train_set, validation_set, everywhere, progress) as runlog:
            runlog.announce()
            with jax.transfer_guard("disallow"):
                progress = run_epochs(state, progress, job, checkpoints, runlog)
            checkpoints.wait()
            state, _ = checkpoints.restore(progress.best_step, state_target(config, steps)) or (None, None)
            state = share(state, job)
            summary = runlog.finish(progress, sum(leaf.size for leaf in jax.tree.leaves(state.params)))
    return state, summary


def resolve(config: Config, workdir: Path) -> Config:
    """Settles what `auto` and the plain U-Net leave open, and checks that the folder holds no other run.

    Raises:
      UserError: the folder holds another run or files of no run, or the plain U-Net is to treat an encoder it has not.
    """
    saved = files.read_config(workdir) if (workdir / files.CONFIG).exists() else files.check_is_free(workdir)
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
        if config.optim.encoder_rate != 1:
            raise UserError(
                f"optim.encoder_rate = {config.optim.encoder_rate:g}: the plain U-Net (model.encoder none) has no "
                "encoder; use --optim.encoder-rate 1"
            )
        changes["model.pretrained"] = "none"
    config = config.updated(changes)
    if saved:
        files.check_same_run(saved, config, workdir)
    return config


def start_or_resume(job: Job, checkpoints: Checkpoints, key: jax.Array) -> tuple[TrainState, Progress]:
    """Returns where to go on from, or the beginning: the state on the devices, and the progress.

    Args:
      job: the run.
      checkpoints: its own.
      key: a `jax.random` key for the initial weights.
    """
    # Order of initialisation: 1. this run's own latest checkpoint, 2. else given encoder weights, 3. else random.
    target = state_target(job.config, job.steps)
    state, progress = checkpoints.resume(target) or (None, None)
    if values := processes.json_from_first(progress and progress.to_json()):
        return share(state, job), Progress.from_json(values)
    encoder_weights = weights.load_pretrained(job.config.model.pretrained, job.config.model.encoder)
    with ThreadPoolExecutor(1) as aside:
        # Initialisation leaves cores idle. Among several processes pmap compiles for arrays alone, not for shapes.
        alone = jax.process_count() == 1
        compiling = aside.submit(job.steps.compile_train, target, job.config, job.key) if alone else None
        state = job.steps.replicate(create_train_state(key, job.config, encoder_weights))
        if compiling:
            compiling.result()
    return state, Progress()


def share(state: TrainState | None, job: Job) -> TrainState:
    """Returns the first process's state on the devices of every process; the others give None."""
    if jax.process_count() == 1:
        return state
    if state is None:
        state = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), state_target(job.config, job.steps))
    return job.steps.replicate(processes.from_first(jax.device_get(state)))


def run_epochs(state: TrainState, progress: Progress, job: Job, checkpoints: Checkpoints, runlog: RunLog) -> Progress:
    """Trains, validates and saves epoch by epoch until the end.

    Raises:
      Stopped: the run was asked to stop, and has saved.
      RunError: a loss was not finite; nothing was saved since.
    """
    config = job.config
    batches = pipeline.train_batches(
        job.train,
        config.data,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        first_step=progress.epoch * job.epoch_steps + progress.sums.steps,
        last_step=config.train.epochs * job.epoch_steps,
        shard=processes.shard(),
    )
    while not progress.early_stop.should_stop and progress.epoch < config.train.epochs:
        state, progress = train_epoch(state, progress, batches, job, runlog)
        began = time.perf_counter()
        validated = validate(state, progress, job)
        if validated is None:
            leave(state, progress, job, checkpoints)
        progress = after_epoch(progress, validated, config, time.perf_counter() - began)
        with jax.transfer_guard("allow"):  # orbax copies the state to the host
            checkpoints.save(state, progress)
        runlog.epoch(progress)
    return progress


def leave(state: TrainState, progress: Progress, job: Job, checkpoints: Checkpoints) -> NoReturn:
    """Saves what there is of an epoch, and raises Stopped."""
    done = progress.sums.steps
    with jax.transfer_guard("allow"):
        if done and checkpoints.latest() != state.step:  # it may have been asked twice, without a step in between
            checkpoints.save(state, progress)
        checkpoints.wait()
    where = f"in epoch {progress.epoch + 1}, after {done} of {job.epoch_steps} steps, which are saved"
    raise Stopped(
        f"stopped by {job.stop.reason} {where if done else f'after epoch {progress.epoch}'}", job.stop.exit_code
    )


def train_epoch(
    state: TrainState, progress: Progress, batches: Iterator[Mapping[str, np.ndarray]], job: Job, runlog: RunLog
) -> tuple[TrainState, Progress]:
    """Takes the steps that are left of an epoch, or fewer if asked to stop.

    Returns:
      The new state, and progress with the epoch's sums.

    Raises:
      RunError: a loss or gradient was not finite.
    """
    began = time.perf_counter()
    learning_rate = job.steps.replicate(np.float32(job.config.optim.learning_rate * progress.plateau.scale))
    every, sums = job.config.train.log_every_steps, progress.sums
    while sums.steps < job.epoch_steps and not job.stop.asked:
        waiting: list[dict[str, jax.Array]] = []
        for _ in range(sums.steps, min((sums.steps // every + 1) * every, job.epoch_steps)):
            state, metrics = job.steps.train(state, job.steps.shard(next(batches)), job.key, learning_rate)
            waiting.append(metrics)
            if job.stop.asked:
                break
        # The only wait for the device: in between, the host runs ahead and keeps it fed.
        for fetched in jax.device_get(waiting):
            sums = add_step(sums, fetched)
            check_finite(fetched, progress.epoch * job.epoch_steps + sums.steps, f"epoch {progress.epoch + 1}")
        runlog.steps(len(waiting))
    sums = dataclasses.replace(sums, seconds=sums.seconds + time.perf_counter() - began)
    return state, dataclasses.replace(progress, sums=sums)


def add_step(sums: EpochSums, metrics: Mapping[str, np.ndarray]) -> EpochSums:
    """Adds a step, in float64 and in order: the sum of a run that stopped and went on is that of one that did not."""
    added = {name: getattr(sums, name) + metrics[name].item() for name in ("loss", "grad_norm", *COUNTS)}
    return EpochSums(steps=sums.steps + 1, seconds=sums.seconds, **added)


def validate(state: TrainState, progress: Progress, job: Job) -> dict[str, float] | None:
    """Scores every validation image once, at the network's resolution.

    Returns:
      "loss" and the five scores as means over images, and the five as "dice_pooled", ..., over all pixels; None if the
      run is asked to stop before all of that is known.

    Raises:
      RunError: the loss is not finite.
    """
    devices, images = len(job.steps.devices) * jax.process_count(), len(job.validation)
    batch_size = divisible(min(job.config.train.batch_size, images), devices)
    batches = pipeline.eval_batches(job.validation, job.config.data, batch_size=batch_size, shard=processes.shard())
    sums = []
    for batch in batches:
        if job.stop.asked:
            return None
        sums.append(job.steps.evaluate(state.variables, job.steps.shard(batch)))
    fetched = jax.device_get(sums)
    total = {name: sum(batch[name].item() for batch in fetched) for name in fetched[0]}
    check_finite(total, int(jax.device_get(state.step)), f"validation after epoch {progress.epoch + 1}")
    return validation_scores(total)


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


if __name__ == "__main__":
    cli.run("train", main)
