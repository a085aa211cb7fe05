"""Trains the runs of a row one after the other, in the memory of one: for large images on small machines.

Each run is a workdir of `jaxseg.train`, saved after every epoch and continued bit for bit.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.paper.stacked import Member, Say, StackedSteps, Trained, devices_of
from jaxseg.config import Config
from jaxseg.report.page import duration
from jaxseg.runs.progress import Progress
from jaxseg.train import train_and_evaluate
from jaxseg.training.hooks import Hook
from jaxseg.training.run import Run


def train_in_turn(config: Config, members: Sequence[Member], say: Say, folder: Path) -> tuple[Trained, StackedSteps]:
    """Trains runs until each has done its epochs or stopped early; what is done in the folder is not done again.

    Args:
      config: settings of all runs; seed and fold are the members'.
      members: the runs, which train on all images of their splits.
      say: told a line per epoch, with the time left of that run.
      folder: the row's folder, which gets a workdir for each run: `member-0` is that of seed, or fold, 0.

    Returns:
      The runs, and compiled steps that predict with all of them.

    Raises:
      UserError: a workdir there holds another run.
      RunError: a loss is not finite.
    """
    began, ends, states = time.perf_counter(), [], []
    for i, member in enumerate(members):
        told = _Epochs(f"run {i + 1} of {len(members)}", say)
        state, _ = train_and_evaluate(config.updated(member.settings), folder / f"member-{member.number}", hooks=[told])
        states.append(jax.device_get(state))
        ends.append(told.progress)
    spent = sum(progress.seconds for progress in ends)
    steps = StackedSteps(config, devices_of(config))
    trained = Trained(
        config,
        members,
        states=steps.replicate(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)),
        at_best=[_at_best(progress) for progress in ends],
        progress=ends,
        seconds=spent,
        compile_seconds=0.0,  # within the first epochs, as a run's own summary counts it
        steps=sum(progress.history[-1]["step"] for progress in ends),
        sessions=[0],
        earlier_seconds=max(spent - (time.perf_counter() - began), 0.0),
    )
    return trained, steps


def _at_best(progress: Progress) -> Progress:
    """Returns a run's history and early stopping as they were after the epoch with the lowest validation loss."""
    best = progress.early_stop.best_epoch
    then = progress.early_stop._replace(epoch=best, wait=0, should_stop=False)
    return dataclasses.replace(progress, early_stop=then, history=progress.history[:best])


class _Epochs(Hook):
    """Tells every epoch in a line, and keeps the progress at the end.

    Args:
      title: what the run is called.
      say: told the lines.
    """

    def __init__(self, title: str, say: Say):
        self.progress = Progress()
        self._title, self._say = title, say
        self._epochs, self._first, self._began = 0, 0, 0.0

    def on_start(self, run: Run, progress: Progress) -> None:
        """Notes where this session begins."""
        self._epochs, self._first, self._began = run.config.train.epochs, progress.epoch, time.perf_counter()
        if progress.epoch:
            self._say(f"  {self._title} goes on after epoch {progress.epoch} of {self._epochs}")

    def on_epoch(self, progress: Progress) -> None:
        """Tells an epoch's losses and the time left at most."""
        line = progress.history[-1]
        each = (time.perf_counter() - self._began) / (progress.epoch - self._first)
        self._say(
            f"  {self._title}, epoch {progress.epoch} of {self._epochs}: train loss {line['train_loss']:.4f}; val Dice "
            f"{line['val_dice']:.4f}; {duration(each)}, at most {duration(each * (self._epochs - progress.epoch))} left"
        )

    def on_end(self, summary: Mapping[str, Any], progress: Progress) -> None:
        """Keeps the progress."""
        self.progress = progress
