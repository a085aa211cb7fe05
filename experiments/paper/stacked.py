"""Trains several runs of one network as one program: parameters stacked, the step mapped over them by `jax.vmap`.

The runs share settings and differ in seed, images and fold. Each computes what `jaxseg.train` computes with the same
seed on the same images: same weights at the start, same order, same draws, its own plateau and early stopping. All
images lie on the devices, and a batch is a list of their numbers.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg import weights
from jaxseg.config import Config
from jaxseg.data import Examples
from jaxseg.data.pipeline import PADDING, ResizedExamples, steps_per_epoch, train_indices
from jaxseg.models import create_model
from jaxseg.optim import create_optimizer
from jaxseg.runs import workdir as files
from jaxseg.runs.checkpoint import Checkpoints, restore_best
from jaxseg.runs.progress import EpochSums, Progress, add_step, after_epoch, check_finite, validation_scores
from jaxseg.steps import TrainState, create_train_state, eval_step, predict_step, state_target, train_step
from jaxseg.system.devices import AXIS, OnDevices, divisible, pick_devices
from jaxseg.training.hooks import started
from jaxseg.training.run import Run, summarize
from jaxseg.training.writers import ConfigFile, LogLines, SummaryAndPage

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of several.

    Attributes:
      seed: of weights, order, augmentation and dropout.
      train: what it is trained on.
      validation: what chooses its best epoch.
      fold: which fold validates, or None.
    """

    seed: int
    train: Examples
    validation: Examples
    fold: int | None = None


@dataclasses.dataclass(frozen=True)
class Pool:
    """Images at the network's size, on the devices.

    Attributes:
      arrays: "image" uint8 [N, S, S, 3] and "mask" uint8 {0, 1} [N, S, S, 1].
      place: where an image lies, by data set and name.
    """

    arrays: Mapping[str, jax.Array]
    place: Mapping[tuple[str, str], int]

    def indices(self, examples: Examples) -> np.ndarray:
        """Returns where a split's images lie, int64 [n]."""
        return np.array([self.place[examples.dataset, name] for name in examples.names])


@dataclasses.dataclass
class Trained:
    """Runs after their training.

    Attributes:
      config: settings of all, but for seed and fold.
      members: the runs.
      states: the state after each run's best epoch, stacked.
      at_best: each run's progress then.
      progress: each run's progress at its end.
      seconds: wall time of training and validation, compilation apart.
      compile_seconds: of the first step and the first validation, which compile.
      steps: taken by all runs together; divided by the number of runs, by each.
    """

    config: Config
    members: Sequence[Member]
    states: TrainState
    at_best: list[Progress]
    progress: list[Progress]
    seconds: float
    compile_seconds: float
    steps: int


class StackedSteps(OnDevices):
    """The three steps for several runs at once, mapped over devices as those of `jaxseg.steps.Steps`.

    Attributes:
      train: `(states, pool arrays, indices [devices, M, B / devices], keys [M], rates [M])` -> `(states, metrics)`.
      evaluate: `(variables, pool arrays, indices [devices, M, B / devices])` -> sums, each [M].
      predict: `(variables, images [devices, B / devices, S, S, 3])` -> [devices, M, B / devices, S, S, 1].

    Args:
      config: of all runs.
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
        """Splits an axis over the devices, which become the first."""
        parts = np.split(array, len(self.devices), axis=axis)
        return jax.device_put(np.stack(parts), self.sharded)


_RESIZED: dict[tuple[str, str, str, int], tuple[np.ndarray, np.ndarray]] = {}
"""What was decoded before, by data set, its version, image and size: rows and folds share images."""


def resized(examples: Examples, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Returns a split's images uint8 [N, S, S, 3] and masks uint8 {0, 1} [N, S, S, 1], decoded once in a process."""
    source = ResizedExamples(examples, dataclasses.replace(config.data, cache_mib=0))
    keys = [(examples.dataset, examples.version, name, config.data.image_size) for name in examples.names]
    for i, key in enumerate(keys):
        if key not in _RESIZED:
            _RESIZED[key] = source.load(i)
    images, masks = zip(*(_RESIZED[key] for key in keys), strict=True)
    return np.stack(images), np.stack(masks)


POOL_MULTIPLE = 256
"""Pools hold a multiple of so many images."""


def load_pool(config: Config, splits: Sequence[Examples], steps: StackedSteps) -> Pool:
    """Places all images of some splits on the devices, each once."""
    place: dict[tuple[str, str], int] = {}
    images, masks = [], []
    for split in splits:
        every = zip(split.names, *resized(split, config), strict=True)
        for name, image, mask in every:
            if (split.dataset, name) not in place:
                place[split.dataset, name] = len(images)
                images.append(image)
                masks.append(mask)
    # Blanks that no index points to: rows whose numbers of images are near one another have one compiled program.
    blanks = divisible(len(images), POOL_MULTIPLE) - len(images)
    arrays = {
        name: np.concatenate([np.stack(parts), np.zeros((blanks, *parts[0].shape), np.uint8)])
        for name, parts in (("image", images), ("mask", masks))
    }
    return Pool(steps.replicate(arrays), place)


def train_together(config: Config, members: Sequence[Member], say: Say = print) -> tuple[Trained, StackedSteps]:
    """Trains runs until the epochs are done or every one has stopped early.

    A run that has stopped is taken along and no longer looked at.

    Args:
      config: of all runs; seed and fold are the members'.
      members: the runs; where numbers of training images differ, each epoch has the steps of the smallest.
      say: told a line per epoch.

    Returns:
      The runs, and their compiled steps.

    Raises:
      RunError: a loss is not finite.
    """
    steps = StackedSteps(config, pick_devices(config.train.devices, config.train.batch_size))
    pool = load_pool(config, [split for m in members for split in (m.train, m.validation)], steps)
    pretrained = weights.load_pretrained(config.model.pretrained, config.model.encoder)
    keys = [jax.random.split(jax.random.key(m.seed)) for m in members]
    states = [create_train_state(init_key, config, pretrained) for init_key, _ in keys]
    states = steps.replicate(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    best = jax.tree.map(jnp.copy, states)
    job = _Job(config, members, steps, pool, steps.replicate(jnp.stack([train_key for _, train_key in keys])))
    progress = [Progress() for _ in members]
    at_best = list(progress)
    compile_seconds, began = 0.0, time.perf_counter()
    for epoch in range(config.train.epochs):
        if all(p.early_stop.should_stop for p in progress):
            break
        states, sums, waited = job.train_epoch(states, epoch, progress)
        validated, waited_more = job.validate(states)
        compile_seconds += waited + waited_more if epoch == 0 else 0.0
        improved = np.zeros(len(members), bool)
        for i, before in enumerate(progress):
            if not before.early_stop.should_stop:
                progress[i] = after_epoch(dataclasses.replace(before, sums=sums[i]), validated[i], config, 0.0)
                improved[i] = progress[i].early_stop.best_epoch == progress[i].epoch
                at_best[i] = progress[i] if improved[i] else at_best[i]
        best = _where(steps.replicate(improved), states, best)
        say(_line(progress, epoch))
    seconds = time.perf_counter() - began - compile_seconds
    taken = job.epoch_steps * max(p.epoch for p in progress) * len(members)
    return Trained(config, members, best, at_best, progress, seconds, compile_seconds, taken), steps


@functools.partial(jax.jit, donate_argnums=2)
def _where(chosen: jax.Array, new: Any, old: Any) -> Any:
    """Takes the chosen runs' arrays from `new` and the others' from `old`."""

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
        return min(steps_per_epoch(len(m.train), self.config.train.batch_size) for m in self.members)

    def train_epoch(
        self, states: TrainState, epoch: int, progress: Sequence[Progress]
    ) -> tuple[TrainState, list[EpochSums], float]:
        """Returns the states, each run's sums, and the seconds of the first step."""
        began = time.perf_counter()
        batch_size, first = self.config.train.batch_size, epoch * self.epoch_steps
        rates = [self.config.optim.learning_rate * p.plateau.scale for p in progress]
        rates = self.steps.replicate(np.array(rates, np.float32))
        orders = [(self.pool.indices(m.train), train_indices(len(m.train), batch_size, m.seed)) for m in self.members]
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
                mine = {name: values[i] for name, values in metrics.items()}
                check_finite(mine, step, f"run {i + 1} of {len(self.members)}")
                sums[i] = add_step(sums[i], mine)
        seconds = time.perf_counter() - began
        return states, [dataclasses.replace(s, seconds=seconds) for s in sums], first_seconds

    def validate(self, states: TrainState) -> tuple[list[dict[str, float]], float]:
        """Returns each run's loss and scores, as `jaxseg.train.validate` names them, and the first batch's seconds."""
        began = time.perf_counter()
        places = [self.pool.indices(m.validation) for m in self.members]
        most = max(len(p) for p in places)
        batch_size = divisible(min(self.config.train.batch_size, most), len(self.steps.devices))
        padded = np.full((len(places), divisible(most, batch_size)), PADDING, np.int32)
        for row, mine in zip(padded, places, strict=True):
            row[: len(mine)] = mine
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
            mine = {name: values[i].item() for name, values in total.items()}
            check_finite(mine, 0, f"validation of run {i + 1}")
            validated.append(validation_scores(mine))
        return validated, first_seconds


def _line(progress: Sequence[Progress], epoch: int) -> str:
    last = [p.history[-1] for p in progress if p.epoch == epoch + 1]
    loss, dice = (" ".join(f"{line[name]:.4f}" for line in last) for name in ("train_loss", "val_dice"))
    return f"  epoch {epoch + 1}: train loss {loss}; val Dice {dice}"


def predict(steps: StackedSteps, variables: Any, images: np.ndarray, batch_size: int = 16) -> np.ndarray:
    """Returns the probabilities of lesion by each run.

    Args:
      steps: of the runs.
      variables: theirs, stacked, as of `Trained.states.variables` or `restore`.
      images: uint8 [N, S, S, 3].
      batch_size: images at once, or a few more so that they divide by the devices.

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
    """Returns the best variables of runs that `save_members` wrote, stacked, on the devices."""
    target = state_target(config, steps).variables
    every = [restore_best(workdir, target)[0] for workdir in workdirs]
    return steps.replicate(jax.tree.map(lambda *leaves: jnp.stack(leaves), *every))


def save_members(trained: Trained, folder: Path) -> None:
    """Writes each run as a workdir, `member-0` and so on, that evaluate, predict and train take.

    Its checkpoint is that of the best epoch, from where `jaxseg.train` would go on.
    """
    devices = pick_devices(trained.config.train.devices, trained.config.train.batch_size)
    for i, member in enumerate(trained.members):
        workdir = folder / f"member-{i}"
        workdir.mkdir(parents=True, exist_ok=True)
        changes = {"train.seed": member.seed}
        if member.fold is not None:
            changes["data.fold"] = member.fold
        state = jax.tree.map(lambda leaf, i=i: leaf[i], trained.states)
        config, progress = trained.config.updated(changes), trained.progress[i]
        run = Run(config, workdir, member.train, member.validation, devices)
        with started([ConfigFile(), SummaryAndPage(), LogLines()], run, trained.at_best[i]) as told:
            files.write_metrics(workdir, progress.history)
            with Checkpoints(workdir) as checkpoints:
                checkpoints.save(state, trained.at_best[i])
            told.on_end(summarize(run, progress, sum(leaf.size for leaf in jax.tree.leaves(state.params))), progress)
