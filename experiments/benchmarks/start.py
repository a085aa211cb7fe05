"""Measures how fast jaxseg starts: training to its first step, a prediction to its mask, imports and `--help`.

    python -m experiments.benchmarks.start --quick    (two minutes: does it run?)
    python -m experiments.benchmarks.start            (8 minutes on two slow cores of an AMD EPYC)

Three parts. Training: seconds from the start of the process until the first step is done, by the default network on
PH2, or on synthetic images if PH2 is not prepared; with an empty cache of compiled programs, and with that of the start
before. Prediction: seconds of `python -m jaxseg.predict` for one image, by a run of the default network, with the same
two caches and every runtime that is installed. Commands: seconds of an import and of `--help`. Every start has a
separate process.

Aim: a second start of at most 25 % of the first, and a prediction with warm caches of at most 3 s.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.job import job
from experiments.benchmarks.measuring import TINY, parser, positive, save, seconds_of
from experiments.benchmarks.worker import Worker, WorkerError
from experiments.shared.console import say
from experiments.shared.origin import JSON, ROOT, module_name, origin
from experiments.shared.tables import markdown, shown, spread

COLD, WARM = CACHES = ("cold", "warm")
"""States of the cache of compiled programs: empty, and as the start before left it."""

SHARE, SECONDS = 0.25, 3.0
"""Aims: the warm start of training as a share of the cold one, and the seconds of a warm prediction."""


def training(changes: JSON, rounds: int) -> JSON:
    """Returns the seconds to the first step of training by cache.

    Args:
      changes: settings of the job.
      rounds: number of starts of each kind.
    """
    found = {name: [] for name in CACHES}
    for index in range(rounds):
        with tempfile.TemporaryDirectory(prefix="jaxseg-cache-") as cache:
            for name in CACHES:
                found[name].append(job(changes, cache=cache, only_first_step=True)["first_step"])
        say(f"training {index + 1}: {_listed(found)}")
    return {name: spread(seconds) for name, seconds in found.items()}


def prediction(changes: JSON, rounds: int) -> JSON:
    """Returns the seconds of a prediction of one image by runtime and cache.

    Args:
      changes: settings of the run that predicts.
      rounds: number of starts of each kind.
    """
    from PIL import Image

    from jaxseg.data.synthetic import example

    runtimes = ["jax", *(["onnx"] if importlib.util.find_spec("onnx") else [])]
    found = {runtime: {name: [] for name in CACHES} for runtime in runtimes}
    with tempfile.TemporaryDirectory(prefix="jaxseg-start-") as folder:
        image, run = Path(folder, "image.png"), Path(folder, "run")
        Image.fromarray(example("test", 0).image).save(image)
        few = {"data.name": "synthetic", "data.synthetic_train": 16, "data.synthetic_eval": 4, "train.epochs": 1}
        job({**changes, **few}, workdir=run)
        for index in range(rounds):
            for runtime, seconds in found.items():
                with tempfile.TemporaryDirectory(prefix="jaxseg-cache-") as cache:
                    for name in CACHES:
                        call = ["-m", "jaxseg.predict", "--workdir", run, "--input", image, "--output", f"{cache}/out"]
                        call += ["--runtime", runtime, "--overwrite"]
                        seconds[name].append(seconds_of(run_python, call, f"{cache}/jax"))
                say(f"prediction {index + 1} by {runtime}: {_listed(seconds)}")
    return {way: {name: spread(values) for name, values in by.items()} for way, by in found.items()}


def _listed(found: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {seconds[-1]:.1f} s" for name, seconds in found.items())


def command_modules() -> list[str]:
    """Returns the names of the modules that are commands."""
    files = sorted((ROOT / "jaxseg").glob("*.py"))
    return [f"jaxseg.{file.stem}" for file in files if "    cli.run(" in file.read_text()]


def commands(names: list[str], rounds: int) -> JSON:
    """Returns the seconds of an import and of `--help` by module, measured in turns.

    Args:
      names: names of the modules.
      rounds: rounds of each measurement.
    """
    ways = {"jaxseg": {"import": ["-c", "import jaxseg"]}}
    ways |= {name: {"help": ["-m", name, "--help"], "import": ["-c", f"import {name}"]} for name in names}
    found: dict[str, dict[str, list[float]]] = {name: {way: [] for way in by_way} for name, by_way in ways.items()}
    for _ in range(rounds):
        for name, by_way in ways.items():
            for way, arguments in by_way.items():
                found[name][way].append(seconds_of(run_python, arguments))
    return {name: {way: spread(seconds) for way, seconds in by_way.items()} for name, by_way in found.items()}


def run_python(arguments: Sequence[str | Path], cache: str = "") -> None:
    """Runs this interpreter on this checkout, quietly.

    Args:
      arguments: of the interpreter.
      cache: folder of compiled programs; "": the user's.
    """
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache} if cache else None
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=env, check=True, capture_output=True)


def warm_share(result: JSON) -> float:
    """Returns the seconds of the warm start of training as a share of those of the cold one."""
    return result["training"][WARM]["median"] / result["training"][COLD]["median"]


def tables(result: JSON) -> str:
    """Returns the Markdown tables."""
    started = [(f"training, to the first step, {name} cache", shown(result["training"][name])) for name in CACHES]
    for runtime, by_cache in result["prediction"].items():
        started += [(f"prediction of one image by {runtime}, {name} cache", shown(by_cache[name])) for name in CACHES]
    modules = [
        (name, shown(run["import"]), shown(run["help"]) if "help" in run else "")
        for name, run in result["commands"].items()
    ]
    return "\n\n".join(
        [
            markdown(("Start", "Seconds"), started),
            f"Training with a warm cache takes {warm_share(result):.0%} of the time with a cold one.",
            markdown(("Module", "Import, s", "--help, s"), modules),
            "Median and quartiles over rounds.",
        ]
    )


def draw(result: JSON, ax: Any) -> None:
    """Draws the seconds of every start.

    Args:
      result: all numbers.
      ax: Matplotlib axes.
    """
    ways = {"training, first step": result["training"]}
    ways |= {f"prediction, {runtime}": by_cache for runtime, by_cache in result["prediction"].items()}
    for offset, name in zip((-0.2, 0.2), CACHES, strict=True):
        places = [i + offset for i in range(len(ways))]
        ax.barh(places, [by_cache[name]["median"] for by_cache in ways.values()], 0.38, label=f"{name} cache")
    ax.set_yticks(range(len(ways)), ways)
    ax.invert_yaxis()
    ax.set(xlabel="seconds")
    ax.legend()


def main() -> None:
    """Measures the three parts."""
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--data", metavar="D", help="data set of training; default: ph2 if prepared, else synthetic")
    arguments.add_argument("--batch-size", type=positive, default=8, metavar="N", help="default: %(default)s")
    args = arguments.parse_args()
    with Worker("experiments.benchmarks.job") as worker:
        device = worker.ask(what="device")
    result = origin("benchmark_start", device)
    network = {"model.encoder": "resnet50v2", "data.image_size": 224, "train.batch_size": args.batch_size}
    rounds, modules = args.rounds, command_modules()
    if args.quick:
        network, rounds, modules = TINY, 1, ["jaxseg.train"]
    from jaxseg import data
    from jaxseg.config import DataConfig

    name = args.data or ("synthetic" if args.quick else data.resolve_name(DataConfig()))
    result["training"] = training({**network, "data.name": name, "train.epochs": 1}, rounds)
    result["prediction"] = prediction(network, rounds)
    say("the commands")
    result["commands"] = commands(modules, rounds)
    save(args, f"start_{device['platform']}", result, tables(result), lambda ax: draw(result, ax))


if __name__ == "__main__":
    try:
        main()
    except WorkerError as error:
        sys.exit(f"{module_name()}: error: {error}")
