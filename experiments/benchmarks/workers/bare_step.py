"""The bare steps on one batch that stays on the device, and the limits of the device.

For the benchmarks' workers: importing this module starts JAX.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.measuring import peak_memory, program_memory, seconds_of, timed_rounds
from experiments.shared.origin import JSON
from experiments.shared.tables import spread
from jaxseg.config import Config
from jaxseg.steps import Steps, create_train_state
from jaxseg.system import startup
from jaxseg.system.devices import pick_devices
from jaxseg.training import apart

startup.tune()  # like the commands, before the first computation


class Bare:
    """Training and prediction steps with some settings, as `jaxseg.train` and `jaxseg.predict` run them.

    The batch is random noise: the time of a step does not depend on what the images show.

    Attributes:
      batch_size: images per step over all devices.
      devices: number of devices.
      parameters: number of trained values.

    Args:
      changes: settings that differ from the defaults.
    """

    def __init__(self, changes: Mapping[str, Any]):
        config = Config().updated({**changes, "model.pretrained": "none"})
        size, self.batch_size = config.data.image_size, config.train.batch_size
        self._steps = steps = Steps(config, pick_devices(config.train.devices, self.batch_size))
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (self.batch_size, size, size, 3), np.uint8)
        mask = (rng.random((self.batch_size, size, size, 1)) > 0.7).astype(np.uint8)
        self.devices = len(steps.devices)
        self._batch = steps.shard({"image": image, "mask": mask, "valid": np.ones(self.batch_size, bool)})
        self._state = steps.replicate(create_train_state(jax.random.key(0), config))
        self.parameters = sum(value.size for value in jax.tree.leaves(self._state.params))
        key = jax.random.key_data(jax.random.key(1))
        self._rest = steps.replicate(key), steps.replicate(np.float32(config.optim.learning_rate))
        self._config, self._plain = config, {"train": steps.train, "predict": steps.predict}

    def cost(self, what: str) -> JSON:
        """Compiles "train" or "predict"; returns its seconds of compilation, and FLOPs and bytes over all devices.

        To be asked after `run`, which this process's compilation would slow down: see `jaxseg.training.apart`.
        """
        step, args = self._plain[what], self._args(what)
        began = time.perf_counter()
        lowered = step.lower(*args)
        traced = time.perf_counter()
        compiled = lowered.compile()
        return {
            "trace_seconds": traced - began,
            "compile_seconds": time.perf_counter() - traced,
            # FLOPs before compilation: on a GPU, compiled convolutions are calls into a library, whose work is not
            # counted, and work that the compiler adds is no floor. Those of direct convolutions, as everybody counts
            # them: a CPU takes fewer (`jaxseg.models.winograd`). Bytes after compilation, of the fused program.
            "flops": _traceable(step).trace(*args).lower(lowering_platforms=("tpu",)).cost_analysis()["flops"]
            * self.devices,
            "compiled_flops": compiled.cost_analysis()["flops"] * self.devices,
            "bytes": compiled.cost_analysis()["bytes accessed"] * self.devices,
            "memory_bytes": program_memory(compiled.memory_analysis()),
        }

    def run(self, what: str, count: int) -> None:
        """Takes steps and waits for the last; the host runs ahead of the device as in training.

        Args:
          what: "train" or "predict".
          count: number of steps.
        """
        step = self._compiled(what)
        for _ in range(count):
            result = step(*self._args(what))
            if what == "train":
                self._state = result[0]
        jax.block_until_ready(result)

    def _compiled(self, what: str) -> Callable[..., Any]:
        steps = self._steps
        if what == "train" and steps.train is self._plain["train"]:
            steps.compile_train(self._config, apart.compiler("train", self._config, steps, self.batch_size))
        return getattr(steps, what)

    def _args(self, what: str) -> tuple:
        if what == "train":
            return self._state, self._batch, *self._rest
        return self._state.variables, self._batch["image"]


def _traceable(step: Any) -> Any:
    """Returns a step as something that can be lowered for another platform than its devices', which `pmap` cannot."""
    return step if hasattr(step, "trace") else jax.jit(step)


def measure(changes: Mapping[str, Any], rounds: int, steps: int) -> JSON:
    """Returns cost, seconds per step and memory of both steps.

    Args:
      changes: settings that differ from the defaults.
      rounds: number of rounds.
      steps: steps of each round.
    """
    bare, result = Bare(changes), {}
    for what in ("train", "predict"):
        result[what] = {"seconds": spread(timed_rounds(lambda count, what=what: bare.run(what, count), rounds, steps))}
    for what, measured in result.items():
        measured |= bare.cost(what)
    stats = jax.local_devices()[0].memory_stats() or {}
    return {**result, "peak_process_bytes": peak_memory(), "peak_device_bytes": stats.get("peak_bytes_in_use")}


def device() -> JSON:
    """Returns the platform, kind and number of JAX' devices."""
    devices = jax.local_devices()
    return {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}


def limits(rounds: int, side: int, mebibytes: int) -> JSON:
    """Measures the limits of one device, as the best of some rounds.

    Args:
      rounds: number of rounds.
      side: side of the square matrices that are multiplied.
      mebibytes: size of the array that is read and written; much more than the caches hold.

    Returns:
      "flops_per_second" by dtype, at JAX' default precision, which the network's convolutions use; and
      "bytes_per_second", read and written.
    """
    peaks = {}
    for dtype in ("float32", "bfloat16"):
        matrix = jnp.full((side, side), 1 / side, dtype)
        # A chain of products in one program makes the time of starting it negligible.
        product = jax.jit(lambda a, m: jax.lax.fori_loop(0, 4, lambda _, x: x @ m, a))
        jax.block_until_ready(product(matrix, matrix))
        best = min(seconds_of(lambda f, m: jax.block_until_ready(f(m, m)), product, matrix) for _ in range(rounds))
        peaks[dtype] = 4 * 2 * side**3 / best
    add = jax.jit(lambda x: x + 1, donate_argnums=0)  # in place: no time goes into new memory
    array = jax.block_until_ready(add(jnp.zeros(mebibytes * 2**18, jnp.float32)))
    times = []
    for _ in range(3 * rounds):
        began = time.perf_counter()
        array = jax.block_until_ready(add(array))
        times.append(time.perf_counter() - began)
    return {"flops_per_second": peaks, "bytes_per_second": 2 * array.nbytes / min(times)}
