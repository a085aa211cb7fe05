"""Runs `jaxseg.train` in this process and reports where its time went; the worker of `experiments.benchmarks.job`.

The trainer has no timers: a hook records when each phase begins and ends, and JAX reports compilations.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks.measuring import PARTS, peak_memory, timed_rounds
from experiments.shared.origin import JSON
from experiments.shared.tables import spread
from jaxseg.system.heap import resident_bytes
from jaxseg.training import apart
from jaxseg.training.hooks import Hook


class Timeline:
    """Spans of time by name; they may overlap and nest."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, float, float]] = []

    def add(self, name: str, began: float, ended: float) -> None:
        """Adds a span.

        Args:
          name: name of the span.
          began: start of the span, seconds as from `time.time`.
          ended: end of the span, seconds as from `time.time`.
        """
        self._spans.append((name, began, ended))

    def split(self, began: float, ended: float) -> dict[str, float]:
        """Splits a stretch of time into parts that add up to the whole.

        Args:
          began: start of the stretch, seconds as from `time.time`.
          ended: end of the stretch, seconds as from `time.time`.

        Returns:
          Seconds by part.
        """
        moments = sorted((at, step, name) for name, a, b in self._spans for at, step in ((a, 1), (b, -1)))
        result, active, now = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0), began
        for at, step, name in [*moments, (ended, 0, "other")]:
            at = min(max(at, began), ended)
            result[next((part for part in PARTS if active[part]), "other")] += at - now
            active[name] += step
            now = at
        return result


PART_OF = {"steps": "step", "input": "input wait", "validation": "validation", "checkpoint": "checkpoint"}
"""The part of `PARTS` that each phase of the training loop counts for."""


class Watch(Hook):
    """Records when the phases of a run begin and end.

    Attributes:
      timeline: the spans of the phases and of compilation.
      first_step: seconds from the process's start until the first step was done.
      resident_bytes: memory of the process after each epoch's steps.

    Args:
      spawned: when this process was started, as `time.time` tells it.
      only_first_step: whether to stop the run, as SIGTERM does, once the first step is done.
    """

    def __init__(self, spawned: float, only_first_step: bool):
        self.timeline = Timeline()
        self.first_step: float | None = None
        self.resident_bytes: list[int] = []
        self._spawned, self._only_first_step = spawned, only_first_step
        self._began: dict[str, float] = {}
        jax.monitoring.register_event_duration_secs_listener(self._compiled)

    def on_phase_start(self, phase: str) -> None:
        """Notes the time."""
        if phase == "steps" and not self.resident_bytes:
            self.timeline.add("start-up", self._spawned, time.time())
        self._began[phase] = time.time()

    def on_phase_end(self, phase: str) -> None:
        """Adds the phase's span, and after an epoch's steps the memory in use."""
        self.timeline.add(PART_OF[phase], self._began[phase], time.time())
        if phase == "steps":
            self.resident_bytes.append(resident_bytes())

    def on_step(self, metrics: Mapping[str, jax.Array]) -> None:
        """Waits for the first step, and stops the run there if asked to."""
        if self.first_step is None:
            jax.block_until_ready(metrics)
            self.first_step = time.time() - self._spawned
            if self._only_first_step:
                os.kill(os.getpid(), signal.SIGTERM)

    def _compiled(self, event: str, seconds: float, **_: Any) -> None:
        # In any thread: the step compiles beside the initialisation.
        if event.startswith("/jax/core/compile") or event == apart.EVENT:
            self.timeline.add("compile", time.time() - seconds, time.time())


def run_job(settings: Mapping[str, str], workdir: str, spawned: float, only_first_step: bool = False) -> JSON:
    """Trains by the command's own `main`.

    Args:
      settings: values by the flags' names.
      workdir: the run's folder.
      spawned: when this process was started, seconds as from `time.time`.
      only_first_step: whether to stop the run, as SIGTERM does, once the first step is done.

    Returns:
      "seconds" by part and "total"; "first_step", seconds from the process's start until it was done; "epochs", the
      rate and memory of each; the process's peak memory.

    Raises:
      RuntimeError: the run failed.
    """
    from jaxseg import train

    watch = Watch(spawned, only_first_step)
    flags = [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    code = train.main(["--workdir", workdir, *flags], hooks=[watch])
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
            for rate, memory in zip(rates, watch.resident_bytes, strict=False)
        ],
        "peak_process_bytes": peak_memory(),
    }


def bare_step(changes: Mapping[str, Any], rounds: int, steps: int) -> JSON:
    """Returns the spread of the bare step's seconds; to be asked of the process that ran the job.

    Args:
      changes: settings that differ from the default, by name.
      rounds: number of rounds.
      steps: steps of each round.
    """
    from experiments.benchmarks.workers import bare_step as bare

    network = bare.Bare(changes)
    return spread(timed_rounds(lambda count: network.run("train", count), rounds, steps))
