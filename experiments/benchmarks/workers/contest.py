"""What the workers of `benchmarks.peer` share: each prepares one network and takes steps when asked.

It imports nothing beyond the standard library: processes without JAX use it, too.
"""

import sys
from collections.abc import Callable
from typing import Any, Protocol

from experiments.benchmarks.measuring import peak_memory, seconds_of
from experiments.benchmarks.worker import serve
from experiments.shared.origin import JSON
from jaxseg.system.heap import resident_bytes


class Contestant(Protocol):
    """A network, ready to take steps."""

    def run(self, count: int) -> None:
        """Takes steps and waits for the last.

        Args:
          count: number of steps.
        """

    def facts(self) -> JSON:
        """Returns what is known of the network after its first step.

        "parameters", trained ones; "versions" by package; "how" it runs, in words; "flops" of a forward pass over the
        batch, where the library counts them; "peak_device_bytes" on an accelerator.
        """


def answering(create: Callable[..., Contestant], **others: Callable[..., JSON]) -> Callable[..., JSON]:
    """Returns the function that answers the questions of `benchmarks.peer`.

    "prepare" creates the contestant, takes two steps, and returns "first_step_seconds", from the call of `create` until
    the first step is done, compilation included. "run" takes `count` steps and returns "seconds" of one. "memory"
    returns the memory of the process now and at its peak, bytes. "facts" returns the contestant's; counting FLOPs takes
    memory, so this question comes last.

    Args:
      create: makes the contestant from the arguments of "prepare".
      others: functions that answer further questions, by question.
    """
    ready: list[Contestant] = []

    def first_step(arguments: JSON) -> None:
        ready[:] = [create(**arguments)]
        ready[0].run(1)

    def answer(what: str, **arguments: Any) -> JSON:
        if what == "prepare":
            seconds = seconds_of(first_step, arguments)
            ready[0].run(1)
            return {"first_step_seconds": seconds}
        if what == "facts":
            return ready[0].facts()
        if what == "run":
            return {"seconds": seconds_of(ready[0].run, arguments["count"]) / arguments["count"]}
        if what == "memory":
            return {"peak_process_bytes": peak_memory(), "resident_bytes": resident_bytes()}
        return others[what](**arguments)

    return answer


def take_part(doc: str, answer: Callable[..., JSON]) -> None:
    """Serves as a worker; a process that was started otherwise ends with the module's docstring.

    Args:
      doc: the module's docstring.
      answer: function from `answering`.
    """
    if sys.argv[1:] != ["--worker"]:
        sys.exit(f"{doc}\nIt is started by experiments.benchmarks.peer.")
    serve(answer)
