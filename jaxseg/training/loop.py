"""The training loop: start or resume, train, validate, save, until the epochs are done."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from jaxseg import data, weights
from jaxseg.config import Config
from jaxseg.data import pipeline
from jaxseg.data.plausibility import check_masks
from jaxseg.errors import UserError
from jaxseg.runs import workdir as files
from jaxseg.runs.checkpoint import Checkpoints, NoCheckpoints
from jaxseg.runs.progress import Progress, add_step, after_epoch, check_finite, validation_scores
from jaxseg.steps import Steps, TrainState, create_train_state, state_target
from jaxseg.system import lock, processes
from jaxseg.system.devices import divisible, pick_devices
from jaxseg.system.stop import Stopped, StopRequest
from jaxseg.training.runlog import RunLog, SilentRunLog

log = logging.getLogger("jaxseg.train")


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
        few = self.train.examples.few
        return pipeline.steps_per_epoch(len(self.train), self.config.train.batch_size, few=few)


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
    # What can be refused is refused here, before anything slow.
    pipeline.steps_per_epoch(len(train_set), config.train.batch_size, few=train_set.few)
    check_masks([train_set, validation_set], for_training=True)
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
    config = dataclasses.replace(config, data=data.absolute(config.data))  # so that the run resumes from any folder
    if config.data.name == "auto":
        changes["data.name"] = name = saved.data.name if saved else data.resolve_name(config.data)
        if name == "synthetic":
            changes["model.pretrained"] = "none"
            log.warning(
                "SYNTHETIC DATA: no PH2 is prepared here, so --data auto trains on generated images, from random "
                "weights; its scores say nothing about real lesions. "
                "For real data: python -m jaxseg.prepare ph2 --source PH2Dataset"
            )
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
