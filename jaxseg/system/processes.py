"""Several processes that train as one, on one machine or many: how they join, and what the first tells the others.

Each process feeds its own devices with its own share of every batch; the mapped steps average over all of them. The
first process alone reads and writes the run's folder, so the others need not see its disk.
"""

import json
import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxseg.errors import UserError
from jaxseg.system.stop import StopRequest

VARIABLE = "JAXSEG_PROCESSES"
"""Environment variable that makes a command join others: "auto", or "HOST:PORT,NUMBER,COUNT"."""


def join() -> None:
    """Joins the processes that `JAXSEG_PROCESSES` names, if it is set; to be called before JAX is used.

    "auto" leaves it to JAX, which finds the others on TPU pods, under SLURM, Open MPI and on Kubernetes.
    "HOST:PORT,NUMBER,COUNT" is the address of the first process, this one's number from 0, and how many there are.

    Raises:
      UserError: it is neither, or the others cannot be found.
    """
    value = os.environ.get(VARIABLE, "")
    if not value:
        return
    try:
        if value == "auto":
            jax.distributed.initialize()
        else:
            address, number, count = value.split(",")
            jax.distributed.initialize(address, int(count), int(number), cluster_detection_method="deactivate")
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{VARIABLE} = {value!r}: {error}; give auto (TPU pods, SLURM, Open MPI, Kubernetes) "
            "or HOST:PORT,NUMBER,COUNT, as 10.0.0.1:1234,0,2"
        ) from error


def is_first() -> bool:
    """Tells whether this process is the one that reads, writes and reports."""
    return jax.process_index() == 0


def shard() -> tuple[int, int]:
    """Returns this process's number and the number of processes."""
    return jax.process_index(), jax.process_count()


def from_first(tree: Any) -> Any:
    """Returns what the first process gives, as host arrays; shapes and types must be the same in all."""
    return multihost_utils.broadcast_one_to_all(tree) if jax.process_count() > 1 else tree


def json_from_first(values: Any) -> Any:
    """Returns the JSON values that the first process gives; what the others give is ignored."""
    if jax.process_count() == 1:
        return values
    text = np.frombuffer(json.dumps(values).encode(), np.uint8) if is_first() else np.zeros(0, np.uint8)
    length = int(from_first(np.int32(len(text))))
    # Summed over devices on the way: bytes would be promoted, numbers of 32 bits are not.
    padded = np.zeros(length, np.int32)
    padded[: len(text)] = text
    return json.loads(from_first(padded).astype(np.uint8).tobytes())


def check_same(what: str, values: Any) -> None:
    """Raises UserError in a process whose JSON values are not the first's."""
    if values != json_from_first(values):
        raise UserError(f"process {jax.process_index()} has another {what} than the first: {values}")


class SharedStop(StopRequest):
    """A SIGTERM to any process, which all of them answer at the same question.

    JAX itself hears the signal; the processes ask equally often, so the number of the question is the step to agree on.
    """

    def __init__(self) -> None:
        super().__init__()
        self._questions = 0
        self._asked = False

    def __enter__(self) -> "SharedStop":
        return self  # JAX has its own handler of SIGTERM; Ctrl-C ends the process, and with it all others

    @property
    def asked(self) -> bool:
        """Whether any process has got the signal."""
        self._questions += 1
        self._asked = self._asked or multihost_utils.reached_preemption_sync_point(self._questions)
        return self._asked

    @property
    def reason(self) -> str:
        """What stopped the run."""
        return "SIGTERM"

    @property
    def exit_code(self) -> int:
        """What the command returns when it has left."""
        return 143
