"""The networks of a segmenter as JAX runs them, mapped over all local devices."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxseg.config import Config
from jaxseg.inference.runtime import JAX, LoadedModel
from jaxseg.runs.checkpoint import restore_best
from jaxseg.steps import Steps, state_target
from jaxseg.system.devices import all_devices
from jaxseg.system.heap import HeldMemory


@dataclasses.dataclass(frozen=True)
class Network:
    """One run's network, its best weights placed on the devices.

    Attributes:
      steps: the compiled steps; equal networks share them.
      variables: "params" and "batch_stats".
    """

    steps: Steps
    variables: dict


class JaxRuntime:
    """A `Runtime` of JAX.

    Attributes:
      networks: one of each member, at least one.
    """

    name = JAX
    any_size = False

    def __init__(self, networks: Sequence[Network]):
        self.networks = tuple(networks)
        self._shard = networks[0].steps.shard
        self.fewest = len(networks[0].steps.devices)
        self._memory: dict[int, HeldMemory] = collections.defaultdict(HeldMemory)  # by images per batch
        self._newest: jax.Array | None = None

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Starts a batch on the devices, which work while the host does something else."""
        placed = self._shard(images)
        maps = [network.steps.predict(network.variables, placed) for network in self.networks]
        # [devices, B / devices, S, S, 1]. The mean of one map would be two more programs to compile at every start.
        probabilities = sum(maps[1:], maps[0]) / len(maps) if len(maps) > 1 else maps[0]
        self._newest = probabilities

        def finish() -> np.ndarray:
            found = jax.device_get(probabilities).reshape(images.shape[:3])
            if jax.default_backend() == "cpu":  # whose memory this is about
                self._memory[len(images)].after_step(lambda: jax.block_until_ready(self._newest))
            return found

        return finish


def load(workdirs: Sequence[Path], configs: Sequence[Config], *, tta: bool, batch_size: int) -> LoadedModel:
    """Loads the best weights of runs onto the devices.

    Args:
      workdirs: the runs' folders.
      configs: the runs' settings.
      tta: whether each network averages over the symmetries of the square.
      batch_size: images per batch, over all devices.
    """
    devices = all_devices(batch_size)
    compiled = {config.model: Steps(config, devices, tta=tta) for config in configs}
    networks, taken = [], []
    for workdir, config in zip(workdirs, configs, strict=True):
        steps = compiled[config.model]
        variables, step = restore_best(workdir, state_target(config, steps).variables)
        networks.append(Network(steps, variables))
        taken.append(step)
    return LoadedModel(JaxRuntime(networks), tuple(taken))
