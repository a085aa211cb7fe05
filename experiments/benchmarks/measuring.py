"""Shared by the benchmarks: command line, timed rounds, memory, result files and charts.

It imports only the standard library until it draws: processes with PyTorch and without JAX use it, too.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.shared.console import say
from experiments.shared.origin import JSON, RESULTS, ROOT, source

TINY = {"model.encoder": "none", "model.unet_channels": [4, 8], "data.image_size": 32, "train.batch_size": 4}
"""Settings of a tiny network, to try a benchmark out."""

PARTS = ("compile", "checkpoint", "input wait", "validation", "step", "start-up", "other")
"""Parts of a job's time. A moment within several belongs to the first: validation that compiles is "compile"."""


def parser(doc: str, rounds: int | None) -> argparse.ArgumentParser:
    """Returns a benchmark's parser with the arguments that all benchmarks have.

    Args:
      doc: the script's docstring, shown by `--help`.
      rounds: default of `--rounds`; None: the script times nothing in rounds and lacks the argument.
    """
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--quick", action="store_true", help="a tiny network and few rounds: does it run at all?")
    if rounds:
        result.add_argument(
            "--rounds",
            type=positive,
            default=rounds,
            metavar="N",
            help="rounds of each measurement (default: %(default)s)",
        )
    result.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder of results (default: {RESULTS.relative_to(ROOT)}; with --quick: none)",
    )
    return result


def positive(text: str) -> int:
    """Reads a positive whole number from the command line.

    Raises:
      ArgumentTypeError: the text is no such number; argparse turns it into a message.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def timed_rounds(run: Callable[[int], object], rounds: int, steps: int) -> list[float]:
    """Returns the seconds of one step in each round, after a warm-up.

    Args:
      run: takes a number of steps and waits for the last.
      rounds: number of rounds.
      steps: steps of each round.
    """
    run(2)
    return [seconds_of(run, steps) / steps for _ in range(rounds)]


def seconds_of(run: Callable[..., object], *args: Any) -> float:
    """Returns how long a call takes, in seconds.

    Args:
      run: function to call.
      args: its arguments.
    """
    began = time.perf_counter()
    run(*args)
    return time.perf_counter() - began


def peak_memory() -> int:
    """Returns the peak memory of this process so far, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def program_memory(stats: Any) -> int:
    """Returns the memory that a compiled program needs on a device, in bytes, from JAX' `memory_analysis`."""
    new = stats.output_size_in_bytes - stats.alias_size_in_bytes  # the other outputs reuse the memory of arguments
    return stats.argument_size_in_bytes + new + stats.temp_size_in_bytes


def save(args: argparse.Namespace, name: str, result: JSON, tables: str, draw: Callable[[Any], None]) -> None:
    """Prints a result, and writes it as `NAME.json`, `NAME.md` and `NAME.png`.

    Args:
      args: the parsed command line; a quick run without `--out` writes nothing.
      name: name of the files, "step_cpu" for example.
      result: all numbers.
      tables: the tables in Markdown.
      draw: draws the chart on Matplotlib axes.
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
    """Yields Matplotlib axes, and writes the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure.add_subplot()
    figure.savefig(path, dpi=100)
