"""What a command sets in its own process before it computes; importing jaxseg sets nothing."""

import contextlib
import os

import jax

from jaxseg.errors import UserError, one_line
from jaxseg.system import heap, machine, processes

CACHE_BYTES = 2**30
"""Maximum size of the cache of compiled programs; the least recently used ones are dropped first."""


def tune() -> None:
    """Makes the process fast: keeps compiled programs on disk and freed memory in the process; cores become devices.

    Raises:
      UserError: JAX has no device of the platform that the environment asks for.
    """
    keep_compiled_programs()
    heap.keep_freed_memory()
    split_cpu()
    if processes.VARIABLE not in os.environ:  # else the process must join the others before JAX starts
        check_platform()


def check_platform() -> None:
    """Starts JAX.

    Raises:
      UserError: JAX has no device of the platform that `JAX_PLATFORMS` names, or a device does not start.
    """
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:  # the former for "cuda" without an NVIDIA GPU
        asked = jax.config.jax_platforms
        what = f"JAX_PLATFORMS = {asked!r}: JAX finds no such device here" if asked else "JAX cannot start its device"
        cause = f" ({one_line(error)})" if str(error) else ""
        raise UserError(
            f"{what}{cause}; unset JAX_PLATFORMS or use JAX_PLATFORMS=cpu, or install JAX for the device: "
            "pip install 'jaxseg[gpu]' or 'jaxseg[tpu]'"
        ) from error


def split_cpu() -> None:
    """Makes each core of the CPU a device, unless the environment sets the number of devices or JAX already runs.

    XLA divides convolutions among the cores, but not all operations between them. Devices share the cores: even fewer
    devices than cores keep all of them busy.
    """
    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if forced or jax.config.jax_num_cpu_devices > 0 or processes.VARIABLE in os.environ:
        return
    with contextlib.suppress(RuntimeError):  # JAX already runs
        jax.config.update("jax_num_cpu_devices", machine.cores())


def keep_compiled_programs() -> None:
    """Keeps compiled programs in the user's cache folder, so that the next start finds them.

    `JAX_COMPILATION_CACHE_DIR` selects another folder; `JAX_ENABLE_COMPILATION_CACHE=false` turns the cache off.
    """
    if jax.config.jax_compilation_cache_dir is None:
        try:
            folder = machine.cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # no home folder, or no right to write there: JAX would warn for every program
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
