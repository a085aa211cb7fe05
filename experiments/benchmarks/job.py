"""Measures the whole training job: where its time goes, how it grows, how fast it starts.

    python -m experiments.benchmarks.job --quick                        (about a minute: does it run?)
    python -m experiments.benchmarks.job                                (about 10 minutes on two CPU cores)
    python -m experiments.benchmarks.job --images 200 2000 20000        (some minutes more)

Four parts. The job: `python -m jaxseg.train` with the default network on PH2, or on synthetic images where that is not
prepared, its wall time split, and its rate beside the bare step's (the same network on one batch that stays on the
device, in the same process). Growth: the same command for more images (synthetic) and for more epochs, on a CPU with a
small network, so that what the trainer adds is seen. Starts: seconds from the process's start until the first step is
done, with an empty cache of compiled programs and with that of the start before. Commands: seconds of an import and of
`--help`. Every job and start is a process of its own.
"""

import subprocess
import sys
import tempfile
import time
from typing import Any

from experiments.benchmarks.measuring import PARTS, TINY, parser, positive, save, say, seconds_of
from experiments.benchmarks.worker import Worker, start
from experiments.shared.origin import JSON, ROOT, origin
from experiments.shared.tables import markdown, number, shown, spread

SMALL = {"model.encoder": "none", "model.unet_channels": [8, 16], "data.image_size": 64, "train.batch_size": 16}
"""Settings of a network that leaves most of the time to the trainer."""

COLD_OR_WARM = ("cold", "warm")


def answer(what: str, **arguments: Any) -> JSON:
    """Measures in the worker."""
    from experiments.benchmarks.workers import bare_step as bare
    from experiments.benchmarks.workers import timed_job as job_split

    return {"device": bare.device, "job": job_split.run_job, "bare": job_split.bare_step}[what](**arguments)


def flags(changes: JSON) -> dict[str, str]:
    """Returns settings as the command line takes them."""
    shown = {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in changes.items()}
    # The weights need not mean anything, nor may the run end early.
    return {"model.pretrained": "none", "optim.early_stop_patience": 10**6, **shown}


def job(changes: JSON, *, cache: str | None = None, bare: tuple[int, int] | None = None, **arguments: Any) -> JSON:
    """Runs a job in a process of its own; with the bare step after it, if its rounds and steps are given."""
    env = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1"}  # JAX' own default, which is the command's
    if cache:
        env["JAX_COMPILATION_CACHE_DIR"] = cache
    with tempfile.TemporaryDirectory(prefix="jaxseg-job-") as workdir:
        spawned = time.time()
        with Worker("experiments.benchmarks.job", env=env) as worker:
            settings = flags(changes)
            result = worker.ask(what="job", settings=settings, workdir=f"{workdir}/run", spawned=spawned, **arguments)
            if bare:
                network = {name: value for name, value in changes.items() if name not in ("data.name", "train.epochs")}
                result["bare"] = worker.ask(what="bare", changes=network, rounds=bare[0], steps=bare[1])
    return {"settings": changes, **result}


def starts(changes: JSON, rounds: int) -> JSON:
    """Returns seconds to the first step with a cold and with a warm cache of compiled programs."""
    found = {name: [] for name in COLD_OR_WARM}
    for index in range(rounds):
        with tempfile.TemporaryDirectory(prefix="jaxseg-cache-") as cache:
            for name in COLD_OR_WARM:
                found[name].append(job(changes, cache=cache, only_first_step=True)["first_step"])
        say(f"start {index + 1}: " + ", ".join(f"{name} {of[-1]:.1f} s" for name, of in found.items()))
    return {name: spread(of) for name, of in found.items()}


def command_modules() -> list[str]:
    """Returns the names of the modules that are commands."""
    files = sorted((ROOT / "jaxseg").glob("*.py"))
    return [f"jaxseg.{file.stem}" for file in files if "    cli.run(" in file.read_text()]


def start_times(names: list[str], rounds: int) -> JSON:
    """Returns the seconds of an import and of `--help`, by module, taking turns."""
    ways = {"jaxseg": {"import": ["-c", "import jaxseg"]}}
    ways |= {name: {"help": ["-m", name, "--help"], "import": ["-c", f"import {name}"]} for name in names}
    found: dict[str, dict[str, list[float]]] = {name: {way: [] for way in of} for name, of in ways.items()}
    for _ in range(rounds):
        for name, of in ways.items():
            for way, arguments in of.items():
                found[name][way].append(seconds_of(run_python, arguments))
    return {name: {way: spread(of) for way, of in by_way.items()} for name, by_way in found.items()}


def run_python(arguments: list[str]) -> None:
    """Runs this interpreter on this checkout, quietly."""
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def inside_share(of: JSON) -> float:
    """Returns the job's rate as a share of the bare step's: the median epoch but the first, which compiles."""
    rates = [epoch["images_per_second"] for epoch in of["epochs"][1:]]
    return spread(rates)["median"] * of["bare"]["median"] / of["settings"]["train.batch_size"]


def tables(result: JSON) -> str:
    """Returns the Markdown tables."""
    rows = [
        (
            label(of),
            *(number(of["seconds"][part]) for part in PARTS),
            number(of["total"]),
            " to ".join(f"{e['resident_bytes'] / 2**30:.2f}" for e in (of["epochs"][0], of["epochs"][-1])),
        )
        for of in (result["job"], *result["growth"])
    ]
    head = ("Job", *(f"{part.capitalize()}, s" for part in PARTS), "All, s", "GiB after the first and last epoch")
    begin = [(f"{name} cache", shown(of)) for name, of in result["starts"].items()]
    help_rows = [
        (name, shown(of["import"]), shown(of["help"]) if "help" in of else "")
        for name, of in result["commands"].items()
    ]
    return "\n\n".join(
        [
            markdown(head, rows),
            f"Rate inside the job, of the bare step's: {inside_share(result['job']):.1%}.",
            markdown(("Start", "Seconds to the first step done"), begin),
            markdown(("Module", "Import, s", "--help, s"), help_rows),
            "Median and quartiles over rounds.",
        ]
    )


def label(of: JSON) -> str:
    """Returns a job in words."""
    settings = of["settings"]
    encoder = {"none": "small plain U-Net"}.get(settings["model.encoder"], settings["model.encoder"])
    images = settings.get("data.synthetic_train")
    what = f"{images:,} synthetic images" if images else settings["data.name"]
    return f"{encoder}, {settings['data.image_size']} px, {what}, {settings['train.epochs']} epochs"


def draw(result: JSON, ax: Any) -> None:
    """Draws each job's parts as shares of its time."""
    jobs = [result["job"], *result["growth"]]
    left = [0.0] * len(jobs)
    for part in PARTS:
        shares = [of["seconds"][part] / of["total"] for of in jobs]
        ax.barh(range(len(jobs)), shares, left=left, label=part)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    ax.set_yticks(range(len(jobs)), [f"{label(of)}\n{of['total']:.0f} s" for of in jobs], fontsize=7)
    ax.invert_yaxis()
    ax.set(xlabel="share of the job's wall time")
    ax.legend(ncols=4, fontsize=7, loc="lower center", bbox_to_anchor=(0.4, 1))


def grown(small: JSON, images: list[int], epochs: list[int]) -> list[JSON]:
    """Returns settings of jobs of more and more images, then of more and more epochs; all synthetic."""
    sizes = [(count, epochs[0]) for count in images] + [(images[0], count) for count in epochs[1:]]
    return [
        {
            **small,
            "data.name": "synthetic",
            "data.synthetic_train": count,
            "data.synthetic_eval": max(count // 5, 1),
            "train.epochs": length,
        }
        for count, length in sizes
    ]


def main() -> None:
    """Measures the four parts."""
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--data", metavar="D", help="of the job; default: ph2 where prepared, else synthetic")
    arguments.add_argument("--batch-size", type=positive, metavar="N", help="of the job; default: CPU 8, else 16")
    arguments.add_argument(
        "--epochs", nargs="+", type=positive, default=[2, 20], metavar="N", help="growth; default: 2 20"
    )
    arguments.add_argument(
        "--images", nargs="+", type=positive, metavar="N", help="growth; default: 200 2000 (CPU), 20000"
    )
    args = arguments.parse_args()
    with Worker("experiments.benchmarks.job") as worker:
        device = worker.ask(what="device")
    cpu = device["platform"] == "cpu"
    result = origin("benchmark_job", device)
    network = {
        "model.encoder": "resnet50v2",
        "data.image_size": 224,
        "train.batch_size": args.batch_size or (8 if cpu else 16),
        "train.devices": 0 if cpu else 1,  # a CPU is one device to its user
    }
    small = SMALL if cpu else network
    images, epochs = args.images or ([200, 2000] if cpu else [200, 2000, 20000]), args.epochs
    rounds, length = args.rounds, 5 if cpu else 10  # epochs; of the first two or three a CPU's heap still grows
    if args.quick:
        network, small, images, epochs, rounds, length = TINY, TINY, [8], [1], 1, 2
    from jaxseg import data
    from jaxseg.config import DataConfig

    # Where it is synthetic, of the settings' own 160 and 40 images, as many as PH2 has.
    name = args.data or ("synthetic" if args.quick else data.resolve_name(DataConfig()))
    say(f"the job, on {name}")
    changes = {**network, "data.name": name, "train.epochs": length}
    result["job"] = job(changes, bare=(2, 1) if args.quick else (7, 1 if cpu else 20))
    result["growth"] = []
    for settings in grown(small, images, epochs):
        say(f"{settings['data.synthetic_train']} images, {settings['train.epochs']} epochs")
        result["growth"].append(job(settings))
    result["starts"] = starts(changes, rounds)
    say("the commands")
    result["commands"] = start_times(["jaxseg.train"] if args.quick else command_modules(), rounds)
    save(args, f"job_{device['platform']}", result, tables(result), lambda ax: draw(result, ax))


if __name__ == "__main__":
    start(answer, main)
