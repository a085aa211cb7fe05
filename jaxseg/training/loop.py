"""The training loop: start or resume, train, validate, save, until the epochs are done."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from jaxseg import weights
from jaxseg.config import Config
from jaxseg.data import pipeline
from jaxseg.data.plausibility import check_masks
from jaxseg.errors import UserError, refuse_address
from jaxseg.pretrained.place import NAME
from jaxseg.runs import workdir as files
from jaxseg.runs.checkpoint import CheckpointStore
from jaxseg.runs.parent import Parent
from jaxseg.runs.progress import Progress, add_step, after_epoch, check_finite, resumed, validation_scores
from jaxseg.steps import Steps, TrainState, create_train_state, started_with, state_target
from jaxseg.system import processes
from jaxseg.system.devices import divisible, pick_devices
from jaxseg.system.heap import available_bytes
from jaxseg.system.processes import Peers
from jaxseg.system.stop import Stop, Stopped, StopRequest
from jaxseg.training import apart
from jaxseg.training.folder import run_folder
from jaxseg.training.hooks import Hook, Hooks, Tidying, started
from jaxseg.training.run import Run, epoch_steps, goes_on, summarize
from jaxseg.training.writers import ImageListWriter

log = logging.getLogger("jaxseg.train")


@dataclasses.dataclass(frozen=True)
class Job:
    """What stays the same from epoch to epoch.

    Attributes:
      config: resolved settings.
      peers: the processes that train as one.
      steps: the compiled steps.
      train: training images at the network's size.
      validation: validation images at the network's size.
      key: uint32 key data, on the devices, that each training step folds its number into.
      stop: tells when the run shall save and leave.
      checkpoints: the run's checkpoints.
    """

    config: Config
    peers: Peers
    steps: Steps
    train: pipeline.ResizedExamples
    validation: pipeline.ResizedExamples
    key: jax.Array
    stop: Stop
    checkpoints: CheckpointStore

    @property
    def epoch_steps(self) -> int:
        """Number of steps per epoch."""
        return epoch_steps(self.config, self.train.examples)

    @property
    def shard(self) -> tuple[int, int]:
        """Number of this process and count of processes, which share every batch."""
        return self.peers.number, self.peers.count


def train_and_evaluate(
    config: Config,
    workdir: Path | str,
    stop: Stop | None = None,
    hooks: Sequence[Hook] = (),
    chosen: Collection[str] = (),
) -> tuple[TrainState, dict[str, Any]]:
    """Trains until the epochs are done or early stopping ends the run; resumes the run that the folder holds.

    Args:
      config: all settings.
      workdir: the run's folder, created if it does not exist.
      stop: asked after every step; when it says so, the run saves and raises `Stopped`.
      hooks: called at fixed moments of the training, in every process, after the run's own writers.
      chosen: names of settings, as "data.image_size", that `model.init_from` shall not change although they have their
        default.

    Returns:
      The state with the best weights (lowest validation loss), and the content of `summary.json`.

    Raises:
      UserError: a setting, data set or weight file cannot be used, or the folder holds another run or is in use by
        another process.
      RunError: the loss is not finite, the disk is full, or no checkpoint can be read.
      Stopped: the run was asked to stop; the same call resumes it.
    """
    if str(workdir) == NAME:
        raise UserError(f"--workdir {NAME}: is the name of the model inside the package; give another, or ./{NAME}")
    refuse_address(workdir, "--workdir")
    workdir, peers = Path(workdir).expanduser(), processes.peers()
    folder = run_folder(workdir, peers)
    with files.disk_errors(workdir), folder.held():
        config = Config.from_dict(peers.json_from_first(folder.resolve(config, chosen)))
        images = folder.open_splits(config).agreed(peers)
        train_set, validation_set = images.train, images.validation
        processes.check_same("data set", [train_set.fingerprint(), validation_set.fingerprint()], peers)
        # Bad input is refused here, before any slow work.
        epoch_steps(config, train_set)
        check_masks([train_set, validation_set], for_training=True, decided=config.data.decides_masks)
        steps = Steps(config, pick_devices(config.train.devices, config.train.batch_size, config.drawn_per_step))
        init_key, train_key = jax.random.split(jax.random.key(config.train.seed))
        with folder.checkpoints() as checkpoints:
            job = Job(
                config,
                peers,
                steps,
                pipeline.ResizedExamples(train_set, config.data),
                pipeline.ResizedExamples(validation_set, config.data),
                # Key data, not a typed key: among several processes pmap copies typed keys via the host in every step.
                steps.replicate(jax.random.key_data(train_key)),
                StopRequest() if stop is None else stop,
                checkpoints,
            )
            is_new = checkpoints.latest() is None
            parent = folder.parent(config, state_target(config, steps).variables) if is_new else None
            record, seen = (parent.record, parent.seen) if parent else (None, None)
            run = Run(config, workdir, train_set, validation_set, peers.devices(steps.devices), record)
            listed = ImageListWriter(images, job.train, job.validation, job.stop if peers.count == 1 else None, seen)
            return train_job(job, run, init_key, [*folder.writers(listed), Tidying(), *hooks], parent)


def train_job(
    job: Job, run: Run, key: jax.Array, hooks: Sequence[Hook], parent: Parent | None = None
) -> tuple[TrainState, dict[str, Any]]:
    """Trains to the end, and reads the best weights.

    Args:
      job: what to train.
      run: the facts of the run, for the hooks.
      key: a `jax.random` key for the initial weights.
      hooks: called while it trains.
      parent: the run whose weights this one starts with; None where there is none, and in all but the first process.

    Returns:
      The state with the best weights, and the content of `summary.json`.

    Raises:
      UserError: more epochs are asked for after early stopping, which allows none.
      Stopped: the run was asked to stop.
      RunError: a loss was not finite, or no checkpoint can be read.
    """
    state, progress = start_or_resume(job, key, parent)
    progress = resumed(progress, job.config, files.planned_epochs(run.workdir))
    with started(hooks, run, progress) as told:
        with jax.transfer_guard("disallow"):
            progress = run_epochs(state, progress, job, told)
        with told.phase("checkpoint"):
            job.checkpoints.wait()
            target = state_target(job.config, job.steps)
            state, _ = job.checkpoints.restore(progress.best_step, target) or (None, None)
        state = share(state, job)
        summary = summarize(run, progress, sum(leaf.size for leaf in jax.tree.leaves(state.params)))
        told.on_end(summary, progress)
    return state, summary


def start_or_resume(job: Job, key: jax.Array, parent: Parent | None = None) -> tuple[TrainState, Progress]:
    """Reads the newest checkpoint, or initialises the weights where there is none.

    Args:
      job: what to train.
      key: a `jax.random` key for the initial weights.
      parent: the run whose weights this one starts with; None where there is none, and in all but the first process.

    Returns:
      The state, on the devices, and the progress.
    """
    # Order of initialisation: 1. this run's own latest checkpoint, 2. all weights of another run, 3. given encoder
    # weights, 4. random weights.
    state, progress = job.checkpoints.resume(state_target(job.config, job.steps)) or (None, None)
    values = job.peers.json_from_first(progress.to_json() if progress else None)
    progress = Progress.from_json(values) if values else Progress()
    model, encoder_weights = job.config.model, None
    if not values and not model.init_from:
        encoder_weights = weights.load_pretrained(model.pretrained, model.encoder)
    with compiled_aside(job, progress):
        if values:
            state = share(state, job)
        elif model.init_from:
            state = share(started_with(parent.variables, job.config) if parent else None, job)
        else:
            state = job.steps.replicate(create_train_state(key, job.config, encoder_weights))
    warn_if_memory_is_short(job)
    return state, progress


def warn_if_memory_is_short(job: Job) -> None:
    """Warns where the training step will take more memory than is left: a CPU's system ends such a process in silence.

    Args:
      job: what to train, its training step compiled.
    """
    needed, left = job.steps.train_bytes(), available_bytes()
    if needed is not None and left is not None and needed > left:
        log.warning(
            "a training step takes %.1f GiB of memory, and %.1f are left: the system may end this training without a "
            "word; end other programs, or try a lower --train.batch-size or --data.image-size",
            needed / 2**30,
            left / 2**30,
        )


@contextlib.contextmanager
def compiled_aside(job: Job, progress: Progress) -> Iterator[None]:
    """Compiles the training step, if one is to come, while the block, which leaves cores idle, makes the state.

    Args:
      job: what to train.
      progress: how far the run is.
    """
    with ThreadPoolExecutor(1) as aside:
        compiling = None
        if job.peers.compiles_ahead and goes_on(progress, job.config):
            elsewhere = apart.compiler("train", job.config, job.steps, job.config.train.batch_size)
            compiling = aside.submit(job.steps.compile_train, job.config, elsewhere)
        yield
        if compiling:
            compiling.result()


def share(state: TrainState | None, job: Job) -> TrainState:
    """Returns the first process's state, on the devices of every process.

    Args:
      state: the state; None in the other processes.
      job: what is trained.
    """
    return job.steps.replicate(job.peers.tree_from_first(state, state_target(job.config, job.steps)))


def run_epochs(state: TrainState, progress: Progress, job: Job, hooks: Hooks) -> Progress:
    """Trains, validates and saves epoch by epoch until the end.

    Args:
      state: the state to begin with; it is donated.
      progress: the progress at that state.
      job: what to train.
      hooks: called while it trains.

    Returns:
      The progress at the end.

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
        # Within the epochs of this session. One that was stopped within an epoch of more images has done its share.
        first_step=progress.epoch * job.epoch_steps + min(progress.sums.steps, job.epoch_steps),
        last_step=config.train.epochs * job.epoch_steps,
        drawn=config.drawn_per_step,
        shard=job.shard,
    )
    while goes_on(progress, config):
        with hooks.phase("steps"):
            state, progress = train_epoch(state, progress, batches, job, hooks)
        began = time.perf_counter()
        with hooks.phase("validation"):
            validated = validate(state, progress, job, hooks)
        if validated is None:
            leave(state, progress, job, hooks)
        progress = after_epoch(progress, validated, config, time.perf_counter() - began)
        with hooks.phase("checkpoint"), jax.transfer_guard("allow"):  # the state is copied to the host
            job.checkpoints.save(state, progress)
        hooks.on_epoch(progress)
    return progress


def leave(state: TrainState, progress: Progress, job: Job, hooks: Hooks) -> NoReturn:
    """Saves the part of an epoch that is done, and raises Stopped.

    Args:
      state: the state after the last step.
      progress: the progress at that state.
      job: what is trained.
      hooks: called around the save.

    Raises:
      Stopped: always.
    """
    done, checkpoints = progress.sums.steps, job.checkpoints
    with hooks.phase("checkpoint"), jax.transfer_guard("allow"):
        if done and checkpoints.latest() != state.step:  # it may be stopped twice without a step in between
            checkpoints.save(state, progress)
        checkpoints.wait()
    where = f"in epoch {progress.epoch + 1}, after {done} of {job.epoch_steps} steps, which are saved"
    raise Stopped(
        f"stopped by {job.stop.reason} {where if done else f'after epoch {progress.epoch}'}", job.stop.exit_code
    )


def train_epoch(
    state: TrainState, progress: Progress, batches: Iterator[Mapping[str, np.ndarray]], job: Job, hooks: Hooks
) -> tuple[TrainState, Progress]:
    """Takes the remaining steps of an epoch, or fewer if the run is asked to stop.

    Args:
      state: the state to begin with; it is donated.
      progress: the progress at that state.
      batches: this process's share of the batches to come.
      job: what to train.
      hooks: called after each step.

    Returns:
      The new state, and the progress with the epoch's sums.

    Raises:
      RunError: a loss or gradient was not finite.
    """
    began = time.perf_counter()
    learning_rate = job.steps.replicate(np.float32(job.config.optim.learning_rate * progress.plateau.scale))
    every_steps, sums = job.config.train.log_every_steps, progress.sums
    while sums.steps < job.epoch_steps and not job.stop.requested():
        waiting: list[dict[str, jax.Array]] = []
        for _ in range(sums.steps, min((sums.steps // every_steps + 1) * every_steps, job.epoch_steps)):
            with hooks.phase("input"):
                batch = next(batches)
            state, metrics = job.steps.train(state, job.steps.shard(batch), job.key, learning_rate)
            waiting.append(metrics)
            hooks.on_step(metrics)
            if job.stop.requested():
                break
        # The only wait for the device: until here the host prepares batches ahead, so that the device is never idle.
        for fetched in jax.device_get(waiting):
            sums = add_step(sums, fetched)
            check_finite(fetched, progress.steps + sums.steps, f"epoch {progress.epoch + 1}")
        hooks.on_fetch(len(waiting))
    sums = dataclasses.replace(sums, seconds=sums.seconds + time.perf_counter() - began)
    return state, dataclasses.replace(progress, sums=sums)


def validate(state: TrainState, progress: Progress, job: Job, hooks: Hooks) -> dict[str, float] | None:
    """Scores every validation image once, at the network's resolution.

    Args:
      state: the state whose variables are scored.
      progress: the progress at that state.
      job: what is trained.
      hooks: called after each batch.

    Returns:
      "loss" and the five scores as means over images, and the five as "dice_pooled", ..., over all pixels; None if the
      run is asked to stop before all images are scored.

    Raises:
      RunError: the loss is not finite.
    """
    devices, images = len(job.steps.devices) * job.peers.count, len(job.validation)
    batch_size = divisible(min(job.config.train.batch_size, images), devices)
    batches = pipeline.eval_batches(job.validation, job.config.data, batch_size=batch_size, shard=job.shard)
    sums = []
    for batch in batches:
        if job.stop.requested():
            return None
        if job.peers.compiles_ahead and not sums:  # not before it is known that the run goes on
            compile_apart = apart.compiler("evaluate", job.config, job.steps, batch_size)
            job.steps.compile_evaluate(job.config, batch_size, compile_apart)
        sums.append(job.steps.evaluate(state.variables, job.steps.shard(batch)))
        hooks.on_validation_batch(sums[-1])
    fetched = jax.device_get(sums)
    total = {name: sum(batch[name].item() for batch in fetched) for name in fetched[0]}
    check_finite(total, int(jax.device_get(state.step)), f"validation after epoch {progress.epoch + 1}")
    return validation_scores(total)
