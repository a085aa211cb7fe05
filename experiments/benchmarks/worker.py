"""Runs measurements in separate processes; requests and answers are lines of JSON."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from experiments.shared.origin import JSON, ROOT, module_name


class WorkerError(Exception):
    """A worker failed; the message is one line."""


class Worker:
    """A separate process that measures when asked, by lines of JSON; a context manager.

    It shares no threads and no memory with other measurements. Its cache of compiled programs starts empty: the first
    compilation is always a real one, and compiling the same program again costs little.

    Args:
      module: dotted name of the module to run; it calls `serve` when given `--worker`.
      python: interpreter of the process.
      env: environment variables besides those of this process.
    """

    def __init__(self, module: str, *, python: str = sys.executable, env: Mapping[str, str] | None = None):
        self._compiled = tempfile.TemporaryDirectory(prefix="jaxseg-benchmark-")
        cache = {
            "JAX_COMPILATION_CACHE_DIR": self._compiled.name,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [python, "-m", module, "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **cache, **(env or {})},
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0]:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # ends the worker
        self._process.wait()
        self._process.stdout.close()
        self._compiled.cleanup()

    def ask(self, **question: Any) -> JSON:
        """Returns the answer to a question, given as keywords.

        Raises:
          WorkerError: the measurement failed, or the process died.
        """
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"the process died with exit code {self._process.wait()}")
        answer = json.loads(line)
        if "failed" in answer:
            raise WorkerError(answer["failed"])
        return answer


def serve(answer: Callable[..., JSON]) -> None:
    """Answers questions until the input ends; an error is an answer too, with its traceback on stderr.

    Args:
      answer: function that takes a question as keywords.
    """
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # text that libraries print is not an answer
        for line in sys.stdin:
            try:
                reply = answer(**json.loads(line))
            except Exception as error:
                sys.excepthook(*sys.exc_info())
                reply = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]}
            out.write(json.dumps(reply) + "\n")
            out.flush()


def start(answer: Callable[..., JSON], main: Callable[[], None]) -> None:
    """Runs a script, as a worker if it was started with `--worker`, else by its `main`.

    Args:
      answer: answers the worker's questions.
      main: the script's own work; a failed worker ends it with one line.
    """
    if sys.argv[1:] == ["--worker"]:
        serve(answer)
        return
    try:
        main()
    except WorkerError as error:
        sys.exit(f"{module_name()}: error: {error}")
