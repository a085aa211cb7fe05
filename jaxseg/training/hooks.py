"""Hooks: what the training loop calls while it runs.

Everything that a run tells (terminal, `metrics.jsonl`, TensorBoard, curves, page) is a hook, see `writers`; callers of
`jaxseg.train.train_and_evaluate` may add their own.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import jax

from jaxseg.runs.progress import Progress
from jaxseg.system.heap import HeldMemory
from jaxseg.training.run import Run

PHASES = ("steps", "input", "validation", "checkpoint")
"""Names of the phases: an epoch's training steps, a wait for a batch (within "steps"), validation, and a wait for a
checkpoint to be saved or read."""


class Hook:
    """Called by the training loop at fixed moments; a subclass overrides the methods that it needs.

    Methods run on the host between training steps. What they take in time, the run takes longer.
    """

    def on_start(self, run: Run, progress: Progress) -> None:
        """Called before the first step of this session.

        Args:
          run: the facts of the run.
          progress: the progress so far; not empty when the run resumes.
        """

    def on_phase_start(self, phase: str) -> None:
        """Called when a phase, one of `PHASES`, begins."""

    def on_phase_end(self, phase: str) -> None:
        """Called when a phase ends, also when it ends with an error."""

    def on_step(self, metrics: Mapping[str, jax.Array]) -> None:
        """Called after each training step is dispatched; reading the metrics blocks until the device has done it."""

    def on_validation_batch(self, sums: Mapping[str, jax.Array]) -> None:
        """Called after each batch of validation is dispatched; reading its sums blocks until the device has done it."""

    def on_fetch(self, steps: int) -> None:
        """Called after the losses of this many further training steps have been fetched from the device."""

    def on_epoch(self, progress: Progress) -> None:
        """Called after an epoch is trained and validated, and its checkpoint is handed over for saving."""

    def on_end(self, summary: Mapping[str, Any], progress: Progress) -> None:
        """Called when training is finished, but not when the run is stopped before its end.

        Args:
          summary: the content of `summary.json`.
          progress: the progress at the end.
        """

    def on_close(self) -> None:
        """Called last, however the run ends, if `on_start` returned."""


class Hooks(Hook):
    """Several hooks as one; each call reaches all of them in order.

    Args:
      hooks: the hooks.
    """

    def __init__(self, hooks: Sequence[Hook]):
        self._hooks = tuple(hooks)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Announces the start and the end of a phase around a block."""
        self.on_phase_start(name)
        try:
            yield
        finally:
            self.on_phase_end(name)

    def on_phase_start(self, phase: str) -> None:
        """Calls all hooks."""
        self._call("on_phase_start", phase)

    def on_phase_end(self, phase: str) -> None:
        """Calls all hooks."""
        self._call("on_phase_end", phase)

    def on_step(self, metrics: Mapping[str, jax.Array]) -> None:
        """Calls all hooks."""
        self._call("on_step", metrics)

    def on_validation_batch(self, sums: Mapping[str, jax.Array]) -> None:
        """Calls all hooks."""
        self._call("on_validation_batch", sums)

    def on_fetch(self, steps: int) -> None:
        """Calls all hooks."""
        self._call("on_fetch", steps)

    def on_epoch(self, progress: Progress) -> None:
        """Calls all hooks."""
        self._call("on_epoch", progress)

    def on_end(self, summary: Mapping[str, Any], progress: Progress) -> None:
        """Calls all hooks."""
        self._call("on_end", summary, progress)

    def _call(self, name: str, *args: Any) -> None:
        # The loop forbids itself transfers that nobody sees in the code; what hooks do is their business.
        with jax.transfer_guard("allow"):
            for hook in self._hooks:
                getattr(hook, name)(*args)


class Tidying(Hook):
    """Gives memory back that the process holds in vain.

    On a CPU, whose memory this is about, no more than two steps, or batches of validation, are under way at a time: one
    runs, one waits.
    """

    def __init__(self):
        self._memory = HeldMemory()
        self._before: Mapping[str, jax.Array] = {}

    def on_start(self, run: Run, progress: Progress) -> None:
        """Gives back what the start took: reading weights, and compiled programs."""
        self._memory.between_epochs()

    def on_step(self, metrics: Mapping[str, jax.Array]) -> None:
        """Gives back what the steps so far hold beyond their need."""
        self._wait_for_one_before(metrics)
        self._memory.after_step(lambda: jax.block_until_ready(metrics))

    def on_validation_batch(self, sums: Mapping[str, jax.Array]) -> None:
        """Gives back what many batches hold beyond the need of a step, which takes more than one of them."""
        self._wait_for_one_before(sums)
        self._memory.after_validation_batch(lambda: jax.block_until_ready(sums))

    def _wait_for_one_before(self, results: Mapping[str, jax.Array]) -> None:
        if jax.default_backend() == "cpu":
            jax.block_until_ready(self._before)
            self._before = results

    def on_epoch(self, progress: Progress) -> None:
        """Gives back what validation and checkpoint took."""
        self._memory.between_epochs()


@contextlib.contextmanager
def started(hooks: Sequence[Hook], run: Run, progress: Progress) -> Iterator[Hooks]:
    """Starts hooks, gives them as one, and closes them in reverse order when the block ends.

    Args:
      hooks: the hooks.
      run: the facts of the run.
      progress: the progress so far.
    """
    with contextlib.ExitStack() as opened:
        for hook in hooks:
            hook.on_start(run, progress)
            opened.push(functools.partial(_close, hook))
        yield Hooks(hooks)


def _close(
    hook: Hook, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> None:
    """Closes a hook. On a full disk closing fails as well, which must not hide the first error."""
    with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
        hook.on_close()
