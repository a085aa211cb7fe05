"""Runs `jaxseg.train` in this process and tells where its time went; the worker's side of `benchmark_job.py`.

The trainer has no timers in it: its functions are wrapped from outside, and JAX tells itself when it compiles.
"""

import contextlib
import functools
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import jax

from experiments.benchmarks.measuring import PARTS, peak_memory, timed_rounds
from experiments.shared.origin import JSON
from experiments.shared.tables import spread
from jaxseg.training.loop import train_epoch, validate


class Timeline:
    """Spans of time by name; they may overlap and nest."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, float, float]] = []

    def add(self, name: str, began: float, ended: float) -> None:
        """Adds a span; times as of `time.time`."""
        self._spans.append((name, began, ended))

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Adds the time within."""
        began = time.time()
        try:
            yield
        finally:
            self.add(name, began, time.time())

    def wrapped(self, name: str, function: Callable) -> Callable:
        """Returns the function with its calls added."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.span(name):
                return function(*args, **kwargs)

        return call

    def iterated(self, name: str, items: Iterable) -> Iterator:
        """Yields the items, with the waits for them added."""
        iterator = iter(items)
        while True:
            with self.span(name):
                item = next(iterator, self)
            if item is self:
                return
            yield item

    def split(self, began: float, ended: float) -> dict[str, float]:
        """Returns the seconds from `began` to `ended` by part; they add up to the whole."""
        moments = sorted((at, step, name) for name, a, b in self._spans for at, step in ((a, 1), (b, -1)))
        result, active, now = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0), began
        for at, step, name in [*moments, (ended, 0, "other")]:
            at = min(max(at, began), ended)
            result[next((part for part in PARTS if active[part]), "other")] += at - now
            active[name] += step
            now = at
        return result


class Watch:
    """Looks at a run of `jaxseg.train` from outside.

    Attributes:
      timeline: its parts.
      first_step: seconds from the process's start until the first step was done.
      resident: bytes in memory after each epoch's steps.

    Args:
      spawned: when this process was started, as of `time.time`.
      only_first_step: whether to stop the run, as SIGTERM does, once the first step is done.
    """

    def __init__(self, spawned: float, only_first_step: bool):
        self.timeline = Timeline()
        self.first_step: float | None = None
        self.resident: list[int | None] = []
        self._spawned, self._only_first_step = spawned, only_first_step

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Wraps the trainer's functions within."""
        from jaxseg import train
        from jaxseg.runs.checkpoint import Checkpoints

        wrap = self.timeline.wrapped
        batches = train.pipeline.train_batches
        wrappers = [
            (train, "Steps", functools.partial(self._steps, train.Steps)),
            (train, "train_epoch", functools.partial(self._epoch, train_epoch)),
            (train, "validate", wrap("validation", validate)),
            (train.pipeline, "train_batches", lambda *a, **k: self.timeline.iterated("input wait", batches(*a, **k))),
            *(
                (Checkpoints, name, wrap("checkpoint", getattr(Checkpoints, name)))
                for name in ("save", "wait", "restore")
            ),
        ]
        with contextlib.ExitStack() as stack:
            for owner, name, new in wrappers:
                stack.enter_context(mock.patch.object(owner, name, new))
            jax.monitoring.register_event_duration_secs_listener(self._compiled)
            yield

    def _compiled(self, event: str, seconds: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile"):  # in any thread: the step compiles beside the initialisation
            self.timeline.add("compile", time.time() - seconds, time.time())

    def _steps(self, create: Callable, *args: Any) -> Any:
        steps = create(*args)
        plain = steps.train

        def first_step(*args: Any) -> Any:
            result = jax.block_until_ready(plain(*args))
            self.first_step = time.time() - self._spawned
            steps.train = plain
            if self._only_first_step:
                os.kill(os.getpid(), signal.SIGTERM)
            return result

        first_step.lower = plain.lower
        steps.train = first_step
        return steps

    def _epoch(self, train_epoch: Callable, *args: Any) -> Any:
        if not self.resident:
            self.timeline.add("start-up", self._spawned, time.time())
        with self.timeline.span("step"):
            result = train_epoch(*args)
        self.resident.append(resident_memory())
        return result


def run_job(settings: Mapping[str, str], workdir: str, spawned: float, only_first_step: bool = False) -> JSON:
    """Trains by the command's own `main`.

    Args:
      settings: values by the flags' names.
      workdir: the run's folder.
      spawned: as for `Watch`.
      only_first_step: as for `Watch`.

    Returns:
      "seconds" by part and "total"; "first_step", seconds from the process's start until it was done; "epochs", the
      rate and memory of each; the process's peak memory.
    """
    from jaxseg import train

    watch = Watch(spawned, only_first_step)
    flags = [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    with watch.installed():
        code = train.main(["--workdir", workdir, *flags])
        ended = time.time()
    if code not in (0, 143):
        raise RuntimeError(f"the run ended with exit code {code}")
    lines = Path(workdir, "metrics.jsonl").read_text().splitlines() if code == 0 else []
    rates = [json.loads(line)["images_per_second"] for line in lines]
    return {
        "seconds": watch.timeline.split(spawned, ended),
        "total": ended - spawned,
        "first_step": watch.first_step,
        "epochs": [
            {"images_per_second": rate, "resident_bytes": memory}
            for rate, memory in zip(rates, watch.resident, strict=False)
        ],
        "peak_process_bytes": peak_memory(),
    }


def bare_step(changes: Mapping[str, Any], rounds: int, steps: int) -> JSON:
    """Returns the spread of the bare step's seconds; to be asked of the process that ran the job."""
    from experiments.benchmarks.workers import bare_step as bare

    network = bare.Bare(changes)
    return spread(timed_rounds(lambda count: network.run("train", count), rounds, steps))


def resident_memory() -> int | None:
    """Returns the memory that this process has now, bytes; None where the system does not tell."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None
