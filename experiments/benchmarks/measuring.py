"""What the benchmarks share: origin of the numbers, rounds, processes that measure when asked, result files, plots.

Needs nothing but the standard library until it draws, so that a process with PyTorch and without JAX can use it.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.shared.origin import JSON, RESULTS, source

TINY = {"model.encoder": "none", "model.unet_channels": [4, 8], "data.image_size": 32, "train.batch_size": 4}
"""Settings of a network for trying a benchmark out."""


PARTS = ("compile", "checkpoint", "input wait", "validation", "step", "start-up", "other")
"""Where time goes. A moment within several belongs to the first of them: validation's compilation is compilation."""


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


def peak_memory() -> int:
    """Returns the most memory that this process has had so far, bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def program_memory(stats: Any) -> int:
    """Returns the memory that a compiled program needs on a device, bytes; `stats` as of JAX' `memory_analysis`."""
    new = stats.output_size_in_bytes - stats.alias_size_in_bytes  # the others lie where arguments lay
    return stats.argument_size_in_bytes + new + stats.temp_size_in_bytes


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
