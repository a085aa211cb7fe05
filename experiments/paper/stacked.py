"""Trains several runs of one network as one program: parameters stacked, the step mapped over them by `jax.vmap`.

The runs share settings and differ in seed, images and fold. Each computes what `jaxseg.train` computes with the same
seed on the same images: the same initial weights, order and random draws, its own plateau and early stopping. All
images stay on the devices, and a batch is a list of their indices.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.paper.members import Member, parent_of
from experiments.paper.pool import Pool, load_pool
from experiments.paper.under_way import Saved, UnderWay
from experiments.shared.origin import JSON, names_alone
from jaxseg import weights
from jaxseg.config import Config
from jaxseg.data.pipeline import PADDING, train_indices
from jaxseg.models import create_model
from jaxseg.optim import create_optimizer
from jaxseg.report.page import duration as in_words
from jaxseg.runs import workdir as files
from jaxseg.runs.checkpoint import Checkpoints, restore_best
from jaxseg.runs.progress import EpochSums, Progress, add_step, after_epoch, check_finite, validation_scores
from jaxseg.steps import (
    TrainState,
    create_train_state,
    eval_step,
    predict_step,
    started_with,
    state_target,
    train_step,
)
from jaxseg.system.devices import AXIS, OnDevices, divisible, pick_devices
from jaxseg.training.hooks import started
from jaxseg.training.run import Run, epoch_steps, summarize
from jaxseg.training.writers import ConfigFile, LogLines, SummaryAndPage

Say = Callable[[str], None]


@dataclasses.dataclass
class Trained:
    """Runs after their training.

    Attributes:
      config: settings of all runs except seed and fold.
      members: the runs.
      states: states after each run's best epoch, stacked along a leading axis.
      at_best: each run's progress after its best epoch.
      progress: each run's progress at its end.
      seconds: wall time of training and validation, compilation excluded.
      compile_seconds: wall time of the first step and the first validation of each session, which compile.
      steps: training steps of all runs together.
      sessions: number of epochs done when each session began; [0] if the training was never interrupted.
      earlier_seconds: wall time of the sessions before this one, up to their last saved epochs.
    """

    config: Config
    members: Sequence[Member]
    states: TrainState
    at_best: list[Progress]
    progress: list[Progress]
    seconds: float
    compile_seconds: float
    steps: int
    sessions: list[int]
    earlier_seconds: float


def devices_of(config: Config) -> list[jax.Device]:
    """Returns the devices that runs of some settings are computed on."""
    return pick_devices(config.train.devices, config.train.batch_size, config.drawn_per_step)


class StackedSteps(OnDevices):
    """The compiled steps for several runs at once, mapped over the devices like those of `jaxseg.steps.Steps`.

    Attributes:
      train: `(states, pool arrays, indices [devices, M, B / devices], keys [M], rates [M])` -> `(states, metrics)`.
      evaluate: `(variables, pool arrays, indices [devices, M, B / devices])` -> sums, each [M].
      predict: `(variables, images [devices, B / devices, S, S, 3])` -> [devices, M, B / devices, S, S, 1].

    Args:
      config: settings of all runs.
      devices: local devices.
      tta: whether `predict` averages over the symmetries of the square.
    """

    def __init__(self, config: Config, devices: Sequence[jax.Device], *, tta: bool = False):
        super().__init__(devices)
        model = create_model(config.model, axis_name=AXIS)
        step = functools.partial(train_step, model=model, optimizer=create_optimizer(config.optim), config=config)
        check = functools.partial(eval_step, model=model, config=config)
        predict = functools.partial(predict_step, model=model, tta=tta)

        def train(states, arrays, indices, keys, rates):
            return jax.vmap(step)(states, {name: array[indices] for name, array in arrays.items()}, keys, rates)

        def evaluate(variables, arrays, indices):
            batch = {name: array[indices] for name, array in arrays.items()}
            return jax.vmap(check)(variables, {**batch, "valid": indices != PADDING})

        pmap = functools.partial(jax.pmap, axis_name=AXIS, devices=self.devices)
        self.train = pmap(train, in_axes=(None, None, 0, None, None), out_axes=None, donate_argnums=0)
        self.evaluate = pmap(evaluate, in_axes=(None, None, 0), out_axes=None)
        self.predict = pmap(jax.vmap(predict, in_axes=(0, None)), in_axes=(None, 0), out_axes=0)

    def shard(self, array: np.ndarray, axis: int = 0) -> jax.Array:
        """Splits an axis over the devices, which become the first axis.

        Args:
          array: array on the host.
          axis: axis to split.
        """
        parts = np.split(array, len(self.devices), axis=axis)
        return jax.device_put(np.stack(parts), self.sharded)


def train_together(
    config: Config, members: Sequence[Member], say: Say = print, folder: Path | None = None
) -> tuple[Trained, StackedSteps]:
    """Trains runs until the epochs are done or every run has stopped early.

    A run that has stopped is computed further and no longer looked at.

    Args:
      config: settings of all runs; seed and fold are the members'.
      members: the runs; if their numbers of training images differ, each epoch has the steps of the smallest.
      say: told a line per epoch, with the time left.
      folder: where the state is saved after every epoch; runs that are under way there go on, bit for bit. None:
        nothing is saved.

    Returns:
      The runs, and their compiled steps.

    Raises:
      RunError: a loss is not finite.
      UserError: other runs are under way in the folder.
    """
    steps = StackedSteps(config, devices_of(config))
    pool = load_pool(config, [split for m in members for split in (m.train, m.validation)], steps)
    keys = [jax.random.split(jax.random.key(m.seed)) for m in members]
    job = _Job(config, members, steps, pool, steps.replicate(jnp.stack([train_key for _, train_key in keys])))
    with Saved(folder, _about(config, members)) if folder else contextlib.nullcontext() as saved:
        row = saved.resume(_stacked_target(config, steps, len(members)), say) if saved else None
        if row:
            say(f"  goes on after epoch {row.epoch} of {config.train.epochs}")
        else:
            row = _begin(config, steps, members, [init_key for init_key, _ in keys])
        row.sessions.append(row.epoch)
        earlier = row.seconds + row.compile_seconds
        _run_epochs(job, row, say, saved)
    taken = job.epoch_steps * row.epoch * len(members)
    about = row.progress, row.seconds, row.compile_seconds, taken, row.sessions, earlier
    return Trained(config, members, row.best, row.at_best, *about), steps


def _about(config: Config, members: Sequence[Member]) -> JSON:
    """Returns what a state belongs to: settings without folders of the machine, seeds, images and parents."""
    return {"settings": names_alone(config.to_dict()), "runs": [m.about() for m in members]}


def _stacked_target(config: Config, steps: StackedSteps, count: int) -> TrainState:
    """Returns shapes, types and shardings of the states of `count` runs."""

    def stacked(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype, sharding=leaf.sharding)

    return jax.tree.map(stacked, state_target(config, steps))


def _begin(config: Config, steps: StackedSteps, members: Sequence[Member], keys: Sequence[jax.Array]) -> UnderWay:
    """Returns runs before their first epoch, from their parents or from the key of each run's initial weights."""
    if any(member.parent for member in members):
        states = [started_with(parent_of(member, config, steps).variables, config) for member in members]
    else:
        pretrained = weights.load_pretrained(config.model.pretrained, config.model.encoder)
        states = [create_train_state(key, config, pretrained) for key in keys]
    states = steps.replicate(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    progress = [Progress() for _ in keys]
    return UnderWay(states, jax.tree.map(jnp.copy, states), progress, list(progress))


def _run_epochs(job: "_Job", row: UnderWay, say: Say, saved: Saved | None) -> None:
    """Trains and validates epoch by epoch; changes `row`."""
    config, first, took = job.config, row.epoch, []
    for epoch in range(first, config.train.epochs):
        if all(p.early_stop.should_stop for p in row.progress):
            break
        began = time.perf_counter()
        row.states, sums, waited = job.train_epoch(row.states, epoch, row.progress)
        validated, waited_more = job.validate(row.states, row.progress)
        improved = np.zeros(len(job.members), bool)
        for i, before in enumerate(row.progress):
            if not before.early_stop.should_stop:
                row.progress[i] = after_epoch(dataclasses.replace(before, sums=sums[i]), validated[i], config, 0.0)
                improved[i] = row.progress[i].early_stop.best_epoch == row.progress[i].epoch
                row.at_best[i] = row.progress[i] if improved[i] else row.at_best[i]
        row.best = _where(job.steps.replicate(improved), row.states, row.best)
        compiling = waited + waited_more if epoch == first else 0.0
        row.compile_seconds += compiling
        took.append(time.perf_counter() - began - compiling)
        row.seconds += took[-1]
        if saved:
            saved.save(row)
        left = sum(took) / len(took) * (config.train.epochs - epoch - 1)
        say(f"{_line(row.progress, epoch, config.train.epochs)}; {in_words(took[-1])}, at most {in_words(left)} left")


@functools.partial(jax.jit, donate_argnums=2)
def _where(chosen: jax.Array, new: Any, old: Any) -> Any:
    """Returns the arrays of the chosen runs from `new` and those of the others from `old`."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)


@dataclasses.dataclass(frozen=True)
class _Job:
    config: Config
    members: Sequence[Member]
    steps: StackedSteps
    pool: Pool
    keys: jax.Array

    @property
    def epoch_steps(self) -> int:
        return min(epoch_steps(self.config, m.train) for m in self.members)

    def train_epoch(
        self, states: TrainState, epoch: int, progress: Sequence[Progress]
    ) -> tuple[TrainState, list[EpochSums], float]:
        """Returns the states after an epoch, each run's sums, and the seconds of the first step."""
        began = time.perf_counter()
        batch_size, first = self.config.train.batch_size, epoch * self.epoch_steps
        rates = [self.config.optim.learning_rate * p.plateau.scale for p in progress]
        rates = self.steps.replicate(np.array(rates, np.float32))
        orders = [
            (
                self.pool.indices(m.train),
                train_indices(len(m.train), batch_size, m.seed, drawn=self.config.drawn_per_step),
            )
            for m in self.members
        ]
        waiting, first_seconds = [], 0.0
        for step in range(first, first + self.epoch_steps):
            indices = np.stack([places[order[step]] for places, order in orders]).astype(np.int32)
            states, metrics = self.steps.train(
                states, self.pool.arrays, self.steps.shard(indices, axis=1), self.keys, rates
            )
            waiting.append(metrics)
            if step == first:
                jax.block_until_ready(metrics)
                first_seconds = time.perf_counter() - began
        fetched = jax.device_get(waiting)
        sums = [EpochSums()] * len(self.members)
        for step, metrics in enumerate(fetched, start=first + 1):
            for i in range(len(self.members)):
                of_run = {name: values[i] for name, values in metrics.items()}
                if not progress[i].early_stop.should_stop:  # it is computed further, and no longer looked at
                    check_finite(of_run, step, f"run {i + 1} of {len(self.members)}")
                sums[i] = add_step(sums[i], of_run)
        seconds = time.perf_counter() - began
        return states, [dataclasses.replace(s, seconds=seconds) for s in sums], first_seconds

    def validate(self, states: TrainState, progress: Sequence[Progress]) -> tuple[list[dict[str, float]], float]:
        """Returns each run's loss and scores, named as in `metrics.jsonl`, and the seconds of the first batch."""
        began = time.perf_counter()
        places = [self.pool.indices(m.validation) for m in self.members]
        most = max(len(p) for p in places)
        batch_size = divisible(min(self.config.train.batch_size, most), len(self.steps.devices))
        padded = np.full((len(places), divisible(most, batch_size)), PADDING, np.int32)
        for row, indices in zip(padded, places, strict=True):
            row[: len(indices)] = indices
        sums, first_seconds = [], 0.0
        for start in range(0, padded.shape[1], batch_size):
            batch = self.steps.shard(padded[:, start : start + batch_size], axis=1)
            sums.append(self.steps.evaluate(states.variables, self.pool.arrays, batch))
            if not start:
                jax.block_until_ready(sums)
                first_seconds = time.perf_counter() - began
        total = jax.tree.map(lambda *batches: sum(batches), *jax.device_get(sums))
        validated = []
        for i in range(len(places)):
            of_run = {name: values[i].item() for name, values in total.items()}
            if not progress[i].early_stop.should_stop:
                check_finite(of_run, 0, f"validation of run {i + 1}")
            validated.append(validation_scores(of_run))
        return validated, first_seconds


def _line(progress: Sequence[Progress], epoch: int, epochs: int) -> str:
    last = [p.history[-1] for p in progress if p.epoch == epoch + 1]
    loss, dice = (" ".join(f"{line[name]:.4f}" for line in last) for name in ("train_loss", "val_dice"))
    return f"  epoch {epoch + 1} of {epochs}: train loss {loss}; val Dice {dice}"


def predict(steps: StackedSteps, variables: Any, images: np.ndarray, batch_size: int = 16) -> np.ndarray:
    """Returns each run's probabilities of lesion.

    Args:
      steps: compiled steps of the runs.
      variables: variables of the runs, stacked along a leading axis.
      images: uint8 [N, S, S, 3].
      batch_size: images of a batch; rounded up to a multiple of the number of devices.

    Returns:
      float32 [M, N, S, S].
    """
    batch_size = divisible(batch_size, len(steps.devices))
    found = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        blank = np.zeros((batch_size - len(batch), *batch.shape[1:]), np.uint8)
        maps = steps.predict(variables, steps.shard(np.concatenate([batch, blank])))
        # [devices, M, B / devices, S, S, 1]
        found.append(np.concatenate(np.asarray(maps), axis=1)[:, : len(batch), ..., 0])
    return np.concatenate(found, axis=1)


def restore(steps: StackedSteps, config: Config, workdirs: Sequence[Path]) -> Any:
    """Returns the best variables of runs that `save_members` wrote, stacked, on the devices.

    Args:
      steps: compiled steps of the runs.
      config: settings of the runs.
      workdirs: folders of the runs.
    """
    target = state_target(config, steps).variables
    variables = [restore_best(workdir, target)[0] for workdir in workdirs]
    return steps.replicate(jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables))


def save_members(trained: Trained, folder: Path) -> None:
    """Writes each run as a workdir, `member-0` and so on, which evaluate, predict and train accept.

    The checkpoint is that of the best epoch, from which `jaxseg.train` would go on.

    Args:
      trained: the runs.
      folder: the row's folder.
    """
    devices = devices_of(trained.config)
    for i, member in enumerate(trained.members):
        workdir = folder / f"member-{member.number}"
        workdir.mkdir(parents=True, exist_ok=True)
        state = jax.tree.map(lambda leaf, i=i: leaf[i], trained.states)
        config, progress = trained.config.updated(member.settings), trained.progress[i]
        record = parent_of(member, trained.config, OnDevices(devices)).record if member.parent else None
        run = Run(config, workdir, member.train, member.validation, devices, record)
        with started([ConfigFile(), SummaryAndPage(), LogLines()], run, trained.at_best[i]) as told:
            files.write_metrics(workdir, progress.history)
            with Checkpoints(workdir) as checkpoints:
                checkpoints.save(state, trained.at_best[i])
            told.on_end(summarize(run, progress, sum(leaf.size for leaf in jax.tree.leaves(state.params))), progress)
