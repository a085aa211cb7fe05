"""Local devices of a process: which to use, and how arrays are laid out on them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxseg.errors import UserError

AXIS = "batch"
"""Name of the mapped axis; every collective here and in the models is over it."""


class OnDevices:
    """Where arrays of a mapped step lie.

    Attributes:
      devices: the local devices used.
      replicated: the place of arrays that every device has.
      sharded: that of arrays whose first axis is the devices.
    """

    def __init__(self, devices: Sequence[jax.Device]):
        self.devices = list(devices)
        mesh = jax.sharding.Mesh(np.array(self.devices), (AXIS,))
        self.replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        self.sharded = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))

    def replicate(self, tree: Any) -> Any:
        """Copies arrays to every device, unstacked."""
        return jax.device_put(tree, self.replicated)

    def shape_of(self, tree: Any) -> Any:
        """Returns shapes, types and placement of what `replicate` makes of a tree of arrays, or of their shapes."""
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=self.replicated), tree)


CORE_BATCH = 4
"""Least images of a batch for each core that is a device: with fewer, what devices tell each other costs too much."""


def all_devices(batch_size: int) -> list[jax.Device]:
    """Returns the local devices; of a CPU that is split into cores, as many as divide a batch into shares worth it.

    Cores that are not a device of their own work for the others, so that none is idle; and a CPU is one machine to its
    user, who need not choose a batch for it.
    """
    devices = jax.local_devices()
    if devices[0].platform != "cpu" or jax.config.jax_num_cpu_devices < 1:
        return devices
    most = min(len(devices), max(batch_size // CORE_BATCH, 1))
    return devices[: next(count for count in range(most, 0, -1) if batch_size % count == 0)]


def pick_devices(count: int, batch_size: int) -> list[jax.Device]:
    """Returns the first `count` local devices (0: all) and checks that a batch divides by the number in all processes.

    Raises:
      UserError: there are fewer devices, or the batch does not divide; names the nearest sizes that do.
    """
    if count and jax.process_count() > 1:
        raise UserError(f"train.devices = {count}: with several processes each uses all of its devices; use 0")
    if count > jax.local_device_count():
        raise UserError(f"train.devices = {count}: this machine has {jax.local_device_count()}")
    devices = jax.local_devices()[:count] if count else all_devices(batch_size)
    check_batch_size(batch_size, len(devices) * jax.process_count())
    return devices


def divisible(batch_size: int, devices: int) -> int:
    """Returns the least number of images, at least `batch_size`, that divides by the number of devices."""
    return -(-batch_size // devices) * devices


def check_batch_size(batch_size: int, devices: int) -> None:
    """Raises UserError if a batch does not divide by the number of devices; names the nearest sizes that do."""
    if batch_size % devices:
        low, high = batch_size // devices * devices, divisible(batch_size, devices)
        sizes = f"{low} or {high}" if low else str(high)
        raise UserError(f"train.batch_size = {batch_size}: does not divide by {devices} devices; use {sizes}")
