"""The bare steps, on one batch that stays on the device, and what the device could do at most.

For the benchmarks' workers: importing this starts JAX.
"""

import time
from collections.abc import Mapping
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

startup.tune()  # as the commands do, before they compute


class Bare:
    """Training and prediction steps of a config, as `jaxseg.train` and `jaxseg.predict` run them.

    The batch is random noise: the time of a step does not depend on what the images show.

    Attributes:
      batch_size: images per step over all devices.
    """

    def __init__(self, changes: Mapping[str, Any]):
        config = Config().updated({**changes, "model.pretrained": "none"})
        size, self.batch_size = config.data.image_size, config.train.batch_size
        self._steps = steps = Steps(config, pick_devices(config.train.devices, self.batch_size))
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (self.batch_size, size, size, 3), np.uint8)
        mask = (rng.random((self.batch_size, size, size, 1)) > 0.7).astype(np.uint8)
        self._batch = steps.shard({"image": image, "mask": mask, "valid": np.ones(self.batch_size, bool)})
        self._state = steps.replicate(create_train_state(jax.random.key(0), config))
        self._rest = steps.replicate(jax.random.key(1)), steps.replicate(np.float32(config.optim.learning_rate))

    def cost(self, what: str) -> JSON:
        """Compiles "train" or "predict"; returns the seconds that takes, and FLOPs and bytes over all devices."""
        step, args = self._call(what)
        began = time.perf_counter()
        lowered = step.lower(*args)
        traced = time.perf_counter()
        compiled = lowered.compile()
        devices = len(self._steps.devices)
        return {
            "trace_seconds": traced - began,
            "compile_seconds": time.perf_counter() - traced,
            # Before compilation: on a GPU, convolutions become calls into a library, whose work is not counted after;
            # and what a compiler adds for its own ends is no floor. Bytes are of the fused program: after.
            "flops": lowered.cost_analysis()["flops"] * devices,
            "compiled_flops": compiled.cost_analysis()["flops"] * devices,
            "bytes": compiled.cost_analysis()["bytes accessed"] * devices,
            "memory_bytes": program_memory(compiled.memory_analysis()),
        }

    def run(self, what: str, count: int) -> None:
        """Takes "train" or "predict" steps and waits for the last; the host runs ahead as it does in training."""
        for _ in range(count):
            step, args = self._call(what)
            result = step(*args)
            if what == "train":
                self._state = result[0]
        jax.block_until_ready(result)

    def _call(self, what: str) -> tuple[Any, tuple]:
        if what == "train":
            return self._steps.train, (self._state, self._batch, *self._rest)
        return self._steps.predict, (self._state.variables, self._batch["image"])


def measure(changes: Mapping[str, Any], rounds: int, steps: int) -> JSON:
    """Returns cost, seconds per step and memory of both steps of a config."""
    bare, result = Bare(changes), {}
    for what in ("train", "predict"):
        cost = bare.cost(what)
        times = timed_rounds(lambda count, what=what: bare.run(what, count), rounds, steps)
        result[what] = {**cost, "seconds": spread(times)}
    stats = jax.local_devices()[0].memory_stats() or {}
    return {**result, "peak_process_bytes": peak_memory(), "peak_device_bytes": stats.get("peak_bytes_in_use")}


def device() -> JSON:
    """Returns what JAX runs on."""
    devices = jax.local_devices()
    return {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}


def limits(rounds: int, side: int, mebibytes: int) -> JSON:
    """Measures what one device does at most: the best of some rounds, as nothing makes it faster than it is.

    Args:
      rounds: how many.
      side: of the square matrices that are multiplied.
      mebibytes: of the array that is read and written; much more than the caches hold.

    Returns:
      "flops_per_second" by dtype, at JAX's default precision, which is that of the network's convolutions; and
      "bytes_per_second", read and written.
    """
    peaks = {}
    for dtype in ("float32", "bfloat16"):
        matrix = jnp.full((side, side), 1 / side, dtype)
        # A chain of products in one program, so that starting it is no part of the time.
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
