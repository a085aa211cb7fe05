"""What the benchmarks share: origin of the numbers, rounds, processes that measure when asked, result files, plots.

Needs nothing but the standard library until it draws, so that a process with PyTorch and without JAX can use it.
"""

import argparse
import contextlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from results import RESULTS, ROOT, commit, row, today, versions

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")

JSON = dict[str, Any]

TINY = {"model.encoder": "none", "model.unet_channels": [4, 8], "data.image_size": 32, "train.batch_size": 4}
"""Settings of a network for trying a benchmark out."""

PARTS = ("compile", "checkpoint", "input wait", "validation", "step", "start-up", "other")
"""Where time goes. A moment within several belongs to the first of them: validation's compilation is compilation."""


class WorkerError(Exception):
    """A worker could not do what it was asked; says why in a line."""


class Worker:
    """A process of its own that measures when asked, by lines of JSON; a context manager.

    Its threads and memory are not shared with what is measured beside it. JAX keeps what it compiles there in a folder
    of the worker's own: the first compilation is always a real one, and a second of the same program costs little.

    Args:
      script: file in this folder, which calls `serve` when given `--worker`.
      python: its interpreter.
      env: variables besides this process's.
    """

    def __init__(self, script: str, *, python: str = sys.executable, env: Mapping[str, str] | None = None):
        self._compiled = tempfile.TemporaryDirectory(prefix="jaxseg-benchmark-")
        cache = {
            "JAX_COMPILATION_CACHE_DIR": self._compiled.name,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [python, str(ROOT / "experiments" / script), "--worker"],
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
            self._process.stdin.close()  # which ends it
        self._process.wait()
        self._process.stdout.close()
        self._compiled.cleanup()

    def ask(self, **question: Any) -> JSON:
        """Returns the answer to a question.

        Raises:
          WorkerError: it failed, or the process died.
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
    """Answers questions until there are none; an error is an answer too, with its traceback on stderr.

    Args:
      answer: takes a question's names as keywords.
    """
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what libraries print is no answer
        for line in sys.stdin:
            try:
                reply = answer(**json.loads(line))
            except Exception as error:
                sys.excepthook(*sys.exc_info())
                reply = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]}
            out.write(json.dumps(reply) + "\n")
            out.flush()


def start(answer: Callable[..., JSON], main: Callable[[], None]) -> None:
    """Runs a script: as a worker if started as one, and else its `main`, whose failed worker ends it with a line."""
    if sys.argv[1:] == ["--worker"]:
        serve(answer)
        return
    try:
        main()
    except WorkerError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


def parser(doc: str, rounds: int | None) -> argparse.ArgumentParser:
    """Returns a benchmark's parser with the arguments that all have; `rounds` of None: nothing is timed in rounds."""
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--quick", action="store_true", help="a tiny network and few rounds: does it run at all?")
    if rounds:
        result.add_argument(
            "--rounds", type=positive, default=rounds, metavar="N", help="of each measurement (default: %(default)s)"
        )
    result.add_argument("--out", type=Path, metavar="DIR", help=f"results' folder (default: {RESULTS}; quick: none)")
    return result


def positive(text: str) -> int:
    """Reads a number of things from the command line, at least one."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def origin(kind: str, device: JSON) -> JSON:
    """Returns where, when and with what it is measured; to be called before, as the commit may move on meanwhile.

    Args:
      kind: of the result file.
      device: "platform", "kind" and "count", as of JAX.
    """
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "kind": kind,
        "command": shlex.join(["python", f"experiments/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": today(),
        "commit": commit(),
        "versions": versions(PACKAGES),
        "hardware": {
            **device,
            "machine": platform.machine(),
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gib": round(pages / 2**30),
            # Of others, before it began: numbers of a machine that is in use are not to be trusted.
            "load_before": round(os.getloadavg()[0], 2),
        },
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def timed_rounds(run: Callable[[int], object], rounds: int, steps: int) -> list[float]:
    """Returns the seconds of one step in each round, warm-up apart.

    Args:
      run: does a number of steps and waits for the last.
      rounds: how many times.
      steps: of each round.
    """
    run(2)
    return [seconds_of(run, steps) / steps for _ in range(rounds)]


def seconds_of(run: Callable[..., object], *args: Any) -> float:
    """Returns how long a call takes, seconds."""
    began = time.perf_counter()
    run(*args)
    return time.perf_counter() - began


def spread(values: Sequence[float]) -> JSON:
    """Returns median, quartiles, extremes and the number of some values."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {
        "median": statistics.median(values),
        "quartiles": [low, high],
        "range": [min(values), max(values)],
        "rounds": len(values),
    }


def per_second(count: float, seconds: JSON) -> JSON:
    """Turns the spread of seconds per step into that of things per second, `count` to a step."""
    return {
        "median": count / seconds["median"],
        "quartiles": [count / s for s in reversed(seconds["quartiles"])],
        "range": [count / s for s in reversed(seconds["range"])],
        "rounds": seconds["rounds"],
    }


def shown(values: JSON, unit: str = "") -> str:
    """Returns a spread as tables show it: the median, and the quartiles in brackets."""
    low, high = values["quartiles"]
    return f"{number(values['median'])}{unit} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    """Returns a number with three digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def peak_memory() -> int:
    """Returns the most memory that this process has had so far, bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def program_memory(stats: Any) -> int:
    """Returns the memory that a compiled program needs on a device, bytes; `stats` as of JAX' `memory_analysis`."""
    new = stats.output_size_in_bytes - stats.alias_size_in_bytes  # the others lie where arguments lay
    return stats.argument_size_in_bytes + new + stats.temp_size_in_bytes


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    return "\n".join([row(*head), row(*["---"] * len(head)), *(row(*cells) for cells in rows)])


def hardware(result: JSON) -> str:
    """Returns what a result was measured on, as a table says it."""
    of = result["hardware"]
    return (
        f"{of['cores']} CPU core{'s' * (of['cores'] > 1)}"
        if of["platform"] == "cpu"
        else f"{of['count']} x {of['kind']}"
    )


def source(result: JSON) -> str:
    """Returns a line on a result's origin."""
    of = result["hardware"]
    names = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{hardware(result)} ({of['cpu']}, {of['memory_gib']} GiB; load before: {of['load_before']}), {names}, "
        f"{result['date']}, commit {result['commit']}: `{result['command']}`"
    )


def save(args: argparse.Namespace, name: str, result: JSON, tables: str, draw: Callable[[Any], None]) -> None:
    """Prints a result, and writes it as `NAME.json`, `NAME.md` and `NAME.png`.

    Args:
      args: of the command line; a quick run without `--out` writes nothing.
      name: as "step_cpu".
      result: all numbers.
      tables: in Markdown.
      draw: draws on Matplotlib's axes.
    """
    text = f"{tables}\n\n{source(result)}\n"
    print(text)
    if args.quick and not args.out:
        return
    out = args.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps({**result, "quick": args.quick}, indent=1) + "\n")
    (out / f"{name}.md").write_text(text)
    with axes(out / f"{name}.png") as ax:
        draw(ax)
    say(f"written: {out / name}.json, .md, .png")


@contextlib.contextmanager
def axes(path: Path) -> Iterator[Any]:
    """Yields Matplotlib's axes, and writes the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure.add_subplot()
    figure.savefig(path, dpi=100)


def say(text: str) -> None:
    """Tells on stderr how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
