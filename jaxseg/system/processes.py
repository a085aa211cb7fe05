"""Several processes that train as one, on one machine or many: how they join, and what they share.

Each process feeds its own devices with its own share of every batch; the mapped steps average over all of them. Only
the first process reads and writes the run's folder, so the others need no access to its disk.

Start the same command once per machine, or once per GPU, with `JAXSEG_PROCESSES` set. `--train.batch-size` stays the
size over all processes. SIGTERM to any process saves and ends all. A run may continue on another number of devices or
processes. Tested with two processes on the CPU of one machine; not yet run on a TPU pod, under SLURM or on two GPU
hosts.

    # TPU pod slice: auto finds the other hosts
    gcloud compute tpus tpu-vm ssh NAME --worker=all \
      --command='JAXSEG_PROCESSES=auto python -m jaxseg.train --workdir runs/full --train.batch-size 64'

    # SLURM, in the script of `sbatch --nodes=2 --ntasks-per-node=1 --gpus-per-node=4`
    JAXSEG_PROCESSES=auto srun python -m jaxseg.train --workdir runs/full

    # Two GPU hosts by hand: address of the first process, number of this process, number of processes
    JAXSEG_PROCESSES=10.0.0.1:1234,0,2 python -m jaxseg.train --workdir runs/full  # on 10.0.0.1
    JAXSEG_PROCESSES=10.0.0.1:1234,1,2 python -m jaxseg.train --workdir runs/full  # on the other host

What differs between a process that works alone and one of several is in `Peers`, with one implementation for each;
`peers` chooses between them.
"""

import json
import os
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxseg.errors import UserError
from jaxseg.system.stop import Stop, StopRequest

VARIABLE = "JAXSEG_PROCESSES"
"""Environment variable that makes a command join others: "auto", or "HOST:PORT,NUMBER,COUNT"."""


def join() -> None:
    """Joins the processes that `JAXSEG_PROCESSES` names, if it is set; must be called before JAX starts.

    With "auto" JAX finds the other processes itself, on TPU pods, under SLURM and Open MPI, and on Kubernetes.
    "HOST:PORT,NUMBER,COUNT" gives the address of the first process, the number of this process (from 0), and the
    number of processes.

    Raises:
      UserError: the variable has neither form, or the other processes cannot be reached.
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
            "or HOST:PORT,NUMBER,COUNT, as in 10.0.0.1:1234,0,2"
        ) from error


class Peers(Protocol):
    """The processes of a job, as one of them sees them.

    Attributes:
      number: the number of this process, from 0. The process with number 0 is the first one.
      count: the number of processes.
      compiles_ahead: whether `pmap` compiles for shapes, before there are arrays.
    """

    number: int
    count: int
    compiles_ahead: bool

    def json_from_first(self, values: Any) -> Any:
        """Returns the JSON values that the first process passes; the values of the others are ignored."""

    def tree_from_first(self, tree: Any, target: Any) -> Any:
        """Returns the tree of arrays that the first process passes.

        Args:
          tree: arrays; None in the other processes.
          target: the shapes and types of the arrays, as `jax.ShapeDtypeStruct`s.
        """

    def devices(self, local: Sequence[jax.Device]) -> Sequence[jax.Device]:
        """Returns the devices of all processes, of which `local` are those that this process uses."""

    def stop_request(self) -> Stop:
        """Returns what tells all processes at the same step that the run shall stop."""


class Alone(Peers):
    """A process without peers: nothing is copied or waited for."""

    number, count, compiles_ahead = 0, 1, True

    def json_from_first(self, values: Any) -> Any:
        """Returns the values."""
        return values

    def tree_from_first(self, tree: Any, target: Any) -> Any:
        """Returns the tree."""
        del target
        return tree

    def devices(self, local: Sequence[jax.Device]) -> Sequence[jax.Device]:
        """Returns the local devices."""
        return local

    def stop_request(self) -> Stop:
        """Returns a request that this process's own signals make."""
        return StopRequest()


class Joined(Peers):
    """One of several processes. All of them must call each method equally often and in the same order."""

    compiles_ahead = False  # among several processes pmap takes arrays only

    def __init__(self) -> None:
        self.number, self.count = jax.process_index(), jax.process_count()

    def json_from_first(self, values: Any) -> Any:
        """Returns the first process's values, sent as text."""
        text = np.frombuffer(json.dumps(values).encode(), np.uint8) if self.number == 0 else np.zeros(0, np.uint8)
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
        # The broadcast is a sum over devices: it would promote bytes, but keeps 32-bit integers.
        padded = np.zeros(length, np.int32)
        padded[: len(text)] = text
        return json.loads(multihost_utils.broadcast_one_to_all(padded).astype(np.uint8).tobytes())

    def tree_from_first(self, tree: Any, target: Any) -> Any:
        """Returns the first process's tree, as host arrays."""
        if tree is None:
            tree = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), target)
        return multihost_utils.broadcast_one_to_all(jax.device_get(tree))

    def devices(self, local: Sequence[jax.Device]) -> Sequence[jax.Device]:
        """Returns the devices of all processes."""
        del local
        return jax.devices()

    def stop_request(self) -> Stop:
        """Returns a request that a SIGTERM to any process makes."""
        return SharedStop()


def peers() -> Peers:
    """Returns this process's view of its job; the only place that chooses between one process and several."""
    return Joined() if jax.process_count() > 1 else Alone()


def check_same(what: str, values: Any, among: Peers) -> None:
    """Checks that all processes have the same values.

    Args:
      what: what the values are, for the message.
      values: JSON values.
      among: the processes.

    Raises:
      UserError: this process has other values than the first.
    """
    if values != among.json_from_first(values):
        raise UserError(f"process {among.number} has another {what} than the first process: {values}")


class SharedStop:
    """Stops all processes at the same step after any one received SIGTERM.

    JAX itself receives the signal. All processes ask equally often, so the count of questions is a step number on which
    they can agree.

    Attributes:
      reason: the name of the signal.
      exit_code: the exit code of a command that was stopped.
    """

    reason, exit_code = "SIGTERM", 143

    def __init__(self) -> None:
        self._questions = 0
        self._requested = False

    def __enter__(self) -> "SharedStop":
        return self  # JAX has its own handler of SIGTERM; Ctrl-C ends this process, and with it all others

    def __exit__(self, *_: object) -> None:
        pass

    def requested(self) -> bool:
        """Returns whether any process received the signal; synchronises all processes."""
        self._questions += 1
        self._requested = self._requested or multihost_utils.reached_preemption_sync_point(self._questions)
        return self._requested
