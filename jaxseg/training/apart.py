"""Has the steps of a large network compiled in a process of its own.

Compilation leaves thousands of small free pieces in the heap, which all threads of a process share, and among which
each of them searches when a step takes memory: in the process that has compiled its training step, steps take 8 to 20 %
longer for as long as it lives, and its memory does not get smaller. So a process that does not find its program among
those kept has another one compile it, which ends with all that it held, and then finds it.

The other process is this module, run with the request as a line of JSON on its standard input. It ends when that is
closed, so it never outlives the run.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxseg.config import Config
from jaxseg.steps import Steps, state_target
from jaxseg.system import kept_programs, startup

FEWEST_PARAMETERS = 5_000_000
"""The programs of smaller networks are compiled in a few seconds, and starting a process takes as long."""

EVENT = "/jaxseg/compile/apart"
"""What JAX's listeners hear of, with its seconds, when another process has compiled."""

STEPS = {
    "train": lambda steps, config, batch_size: steps.compile_train(config),
    "evaluate": lambda steps, config, batch_size: steps.compile_evaluate(config, batch_size),
}
"""The methods of `Steps` that compile, by the attribute that they set."""


def compiler(step: str, config: Config, steps: Steps, batch_size: int) -> Callable[[], None] | None:
    """Returns what compiles a step in another process, for the methods of `Steps`; None for small networks.

    Args:
      step: a name of `STEPS`.
      config: all settings.
      steps: the steps, whose devices the program is for.
      batch_size: images per batch over all devices.
    """
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state_target(config, steps).params))
    if parameters < FEWEST_PARAMETERS:
        return None
    request = {"step": step, "config": config.to_dict(), "devices": len(steps.devices), "batch_size": batch_size}
    return lambda: _ask(request)


def _ask(request: Mapping[str, Any]) -> None:
    """Has a step compiled and kept. If that fails, the caller finds nothing and compiles it itself."""
    text = json.dumps({**request, "surroundings": kept_programs.surroundings()})
    # In a session of its own Ctrl-C does not reach it: the run saves and leaves as it does when it compiles itself.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    call, began = [sys.executable, "-m", __name__], time.monotonic()
    # It may not start, or end before it has read the request.
    with contextlib.suppress(OSError), subprocess.Popen(call, stdin=subprocess.PIPE, text=True, **quiet) as process:
        process.stdin.write(text + "\n")
        process.stdin.flush()
        process.wait()
    jax.monitoring.record_event_duration_secs(EVENT, time.monotonic() - began)


def main() -> int:
    """Compiles what the request on standard input asks for.

    Returns:
      The exit code: 1 if this process would compile another program than the one that asks.
    """
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    startup.tune()
    if kept_programs.surroundings() != request["surroundings"]:
        return 1
    config = Config.from_dict(request["config"])
    steps = Steps(config, jax.local_devices()[: request["devices"]])
    STEPS[request["step"]](steps, config, request["batch_size"])
    return 0


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing is written any more: returns when the other end is closed
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
