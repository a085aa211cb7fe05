"""Compiles the steps for absent accelerators, and counts their work.

For the benchmark's worker: importing this module starts JAX. XLA's compilers for GPU and TPU come with JAX' plugins and
need no device, only a description of it. Nothing runs, and nothing is chosen by timing it.
"""

import dataclasses
import re
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jaxlib import _jax

from experiments.benchmarks.measuring import program_memory
from experiments.shared.origin import JSON
from jaxseg.config import Config
from jaxseg.steps import Steps, state_target

_HOPPER = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 l2_cache_size: 52428800
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth} device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 }}
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 8 }} runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "{name}"
"""
"""The part of XLA's `gpu/target_config/specs/h100_sxm.txtpb` that the compiler needs, for an H100 or H200."""


@dataclasses.dataclass(frozen=True)
class Target:
    """An accelerator with the numbers of its data sheet.

    Attributes:
      name: the maker's name.
      flops_per_second: rate of dense matrix products by compute type, at JAX' default precision.
      bytes_per_second: rate of its memory.
      memory: size of its memory, bytes.
      extra: extra of `pyproject.toml` that installs its compiler.
      tpu: name of a topology of four devices; empty for a GPU.
    """

    name: str
    flops_per_second: Mapping[str, float]
    bytes_per_second: float
    memory: float
    extra: str
    tpu: str = ""

    def devices(self, count: int) -> list[Any]:
        """Returns devices to compile for, up to four.

        Raises:
          RuntimeError: the compiler is not installed.
        """
        try:
            if self.tpu:
                return topologies.get_topology_desc(self.tpu, "tpu").devices[:count]
            config = _HOPPER.format(name=self.name, bandwidth=int(self.bytes_per_second), memory=int(self.memory))
            options = {"target_config": config, "topology": f"1x1x{count}"}
            return topologies.get_topology_desc(self.name, "cuda", **options).devices
        except RuntimeError as error:
            raise RuntimeError(f"no compiler for {self.name}: pip install '.[{self.extra}]' ({error})") from error


# By default JAX computes float32 products in TF32 on a GPU and in bfloat16 on a TPU.
_H100_RATES = {"bfloat16": 989e12, "float32": 495e12}
_V5E_RATES, _V6E_RATES = dict.fromkeys(_H100_RATES, 197e12), dict.fromkeys(_H100_RATES, 918e12)
TARGETS = {
    "h100": Target("NVIDIA H100 SXM", _H100_RATES, 3.35e12, 80e9, "gpu"),
    "h200": Target("NVIDIA H200 SXM", _H100_RATES, 4.8e12, 141e9, "gpu"),
    "v5e": Target("TPU v5e", _V5E_RATES, 819e9, 16e9, "tpu", "v5e:2x2"),
    "v6e": Target("TPU v6e", _V6E_RATES, 1638e9, 32e9, "tpu", "v6e:2x2"),
}
"""Accelerators by their name on the command line (NVIDIA's data sheets, without sparsity; Google Cloud's documents)."""


def compiled(target: str, changes: Mapping[str, Any]) -> JSON:
    """Compiles the training and the inference step for a target.

    Args:
      target: a key of `TARGETS`.
      changes: settings that differ from the defaults.

    Returns:
      By "train" and "predict", of one device: "compile_seconds", "flops", "bytes" between kernels, "kernels" started,
      "memory_bytes" needed, and "floor_seconds" at the maker's rates by "compute" and, for a GPU, "memory". Part of a
      TPU's bytes moves within memory on the chip and gives no floor.
    """
    config = Config().updated({**changes, "model.pretrained": "none"})
    accelerator = TARGETS[target]
    steps = Steps(config, accelerator.devices(config.train.devices))
    state, batch = state_target(config, steps), steps.batch_shapes(config, config.train.batch_size)
    result = {}
    for what, args in {
        "train": (state, batch, steps.shape_of(jax.random.key(0)), steps.shape_of(np.float32(0))),
        "predict": (state.variables, batch["image"]),
    }.items():
        lowered = getattr(steps, what).lower(*args)
        began = time.perf_counter()
        program = lowered.compile()
        seconds = time.perf_counter() - began
        (module,) = program.runtime_executable().hlo_modules()
        # As in `bare_step.py`: FLOPs before compilation, bytes after.
        flops = _cost(lowered.compiler_ir("hlo").as_hlo_module())["flops"]
        moved = _cost(module)["bytes accessed"]
        floors = {"compute": flops / accelerator.flops_per_second[config.model.dtype]}
        if not accelerator.tpu:
            floors["memory"] = moved / accelerator.bytes_per_second
        result[what] = {
            "compile_seconds": seconds,
            "flops": flops,
            "bytes": moved,
            "kernels": kernels(module.to_string()),
            "memory_bytes": program_memory(program.memory_analysis()),
            "floor_seconds": floors,
        }
    return result


def _cost(module: Any) -> JSON:
    """Returns XLA's count for a module; JAX' public functions give none for an absent device."""
    return _jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, module)


_STARTS_NOTHING = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id")


def kernels(module: str) -> int:
    """Returns how many operations a compiled module starts, from its text; an asynchronous one counts once."""
    entry = module[module.index("\nENTRY ") :]
    operations = re.findall(r"^\s+(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([\w\-]+)\(", entry, re.MULTILINE)
    return sum(name not in _STARTS_NOTHING and not name.endswith("-done") for name in operations)
