"""Measures the whole training job: where its time goes, and how it grows.

    python -m experiments.benchmarks.job --quick                        (about a minute: does it run?)
    python -m experiments.benchmarks.job                                (about 6 minutes on two cores of an AMD EPYC)
    python -m experiments.benchmarks.job --images 200 2000 20000        (9 minutes)

Two parts. Job: `python -m jaxseg.train` with the default network on PH2, or on synthetic images if PH2 is not
prepared; its wall time by part, and its rate beside the bare step's (the same network on one batch that stays on the
device, in the same process). Growth: the same command for more (synthetic) images and for more epochs, on a CPU with a
small network, which shows what the trainer adds. Every job has a separate process.

Expect 97 % of the bare step's rate inside the job on two cores of an AMD EPYC (`experiments/results/job_cpu.json`).
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.benchmarks.measuring import PARTS, TINY, parser, positive, save
from experiments.benchmarks.worker import Worker, start
from experiments.shared.console import say
from experiments.shared.origin import JSON, origin
from experiments.shared.tables import markdown, number, spread

SMALL = {"model.encoder": "none", "model.unet_channels": [8, 16], "data.image_size": 64, "train.batch_size": 16}
"""Settings of a small network, so that most of the time is the trainer's."""


def answer(what: str, **arguments: Any) -> JSON:
    """Measures in the worker.

    Args:
      what: "device", "job" or "bare".
      arguments: arguments of the measurement.
    """
    from experiments.benchmarks.workers import bare_step, timed_job

    return {"device": bare_step.device, "job": timed_job.run_job, "bare": timed_job.bare_step}[what](**arguments)


def flags(changes: JSON) -> dict[str, str]:
    """Returns settings in the form of the command line."""
    shown = {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in changes.items()}
    # Any weights do, and the run must not end early.
    return {"model.pretrained": "none", "optim.early_stop_patience": 10**6, **shown}


def job(
    changes: JSON,
    *,
    workdir: Path | None = None,
    cache: str | None = None,
    bare: tuple[int, int] | None = None,
    env: Mapping[str, str] | None = None,
    **arguments: Any,
) -> JSON:
    """Runs a job in a separate process.

    Args:
      changes: settings of the job.
      workdir: the run's folder; None: one that is removed afterwards.
      cache: folder of compiled programs; None: a new one.
      bare: rounds and steps in which to measure the bare step after the job; None: not at all.
      env: environment variables of the process besides those of this one.
      arguments: further arguments of the worker.
    """
    # The default of JAX and of the command.
    env = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1", **(env or {})}
    if cache:
        env["JAX_COMPILATION_CACHE_DIR"] = cache
    with tempfile.TemporaryDirectory(prefix="jaxseg-job-") as folder:
        spawned = time.time()
        with Worker("experiments.benchmarks.job", env=env) as worker:
            settings = flags(changes)
            place = str(workdir or f"{folder}/run")
            result = worker.ask(what="job", settings=settings, workdir=place, spawned=spawned, **arguments)
            if bare:
                network = {name: value for name, value in changes.items() if name not in ("data.name", "train.epochs")}
                result["bare"] = worker.ask(what="bare", changes=network, rounds=bare[0], steps=bare[1])
    return {"settings": changes, **result}


def inside_share(run: JSON) -> float:
    """Returns the job's rate, as the median epoch without the first, which compiles, as a share of the bare step's."""
    rates = [epoch["images_per_second"] for epoch in run["epochs"][1:]]
    return spread(rates)["median"] * run["bare"]["median"] / run["settings"]["train.batch_size"]


def tables(result: JSON) -> str:
    """Returns the Markdown tables."""
    rows = [
        (
            label(run),
            *(number(run["seconds"][part]) for part in PARTS),
            number(run["total"]),
            " to ".join(f"{e['resident_bytes'] / 2**30:.2f}" for e in (run["epochs"][0], run["epochs"][-1])),
        )
        for run in (result["job"], *result["growth"])
    ]
    head = ("Job", *(f"{part.capitalize()}, s" for part in PARTS), "All, s", "GiB after the first and last epoch")
    return "\n\n".join(
        [
            markdown(head, rows),
            f"Rate inside the job, of the bare step's: {inside_share(result['job']):.1%}.",
        ]
    )


def label(run: JSON) -> str:
    """Returns a job in words."""
    settings = run["settings"]
    encoder = {"none": "small plain U-Net"}.get(settings["model.encoder"], settings["model.encoder"])
    images = settings.get("data.synthetic_train")
    what = f"{images:,} synthetic images" if images else settings["data.name"]
    return f"{encoder}, {settings['data.image_size']} px, {what}, {settings['train.epochs']} epochs"


def draw(result: JSON, ax: Any) -> None:
    """Draws each job's parts as shares of its time.

    Args:
      result: all numbers.
      ax: Matplotlib axes.
    """
    jobs = [result["job"], *result["growth"]]
    left = [0.0] * len(jobs)
    for part in PARTS:
        shares = [run["seconds"][part] / run["total"] for run in jobs]
        ax.barh(range(len(jobs)), shares, left=left, label=part)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    ax.set_yticks(range(len(jobs)), [f"{label(run)}\n{run['total']:.0f} s" for run in jobs], fontsize=7)
    ax.invert_yaxis()
    ax.set(xlabel="share of the job's wall time")
    ax.legend(ncols=4, fontsize=7, loc="lower center", bbox_to_anchor=(0.4, 1))


def grown(small: JSON, images: list[int], epochs: list[int]) -> list[JSON]:
    """Returns settings of jobs with more and more synthetic images, then with more and more epochs.

    Args:
      small: settings of the network.
      images: numbers of training images.
      epochs: numbers of epochs; the first is that of the jobs with more images.
    """
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
    """Measures the two parts."""
    arguments = parser(__doc__, rounds=None)
    arguments.add_argument("--data", metavar="D", help="data set of the job; default: ph2 if prepared, else synthetic")
    arguments.add_argument("--batch-size", type=positive, metavar="N", help="batch of the job; default: CPU 8, else 16")
    arguments.add_argument(
        "--epochs",
        nargs="+",
        type=positive,
        default=[2, 20],
        metavar="N",
        help="epochs of the growing jobs; default: 2 20",
    )
    arguments.add_argument(
        "--images",
        nargs="+",
        type=positive,
        metavar="N",
        help="images of the growing jobs; default: 200 2000 (CPU), 20000",
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
        "train.devices": 0 if cpu else 1,  # a CPU counts as one device
    }
    small = SMALL if cpu else network
    images, epochs = args.images or ([200, 2000] if cpu else [200, 2000, 20000]), args.epochs
    length = 5 if cpu else 10  # epochs; in the first two or three a CPU's heap still grows
    if args.quick:
        network, small, images, epochs, length = TINY, TINY, [8], [1], 2
    from jaxseg import data
    from jaxseg.config import DataConfig

    # The synthetic set has 160 and 40 images by default, as many as PH2.
    name = args.data or ("synthetic" if args.quick else data.resolve_name(DataConfig()))
    say(f"the job, on {name}")
    changes = {**network, "data.name": name, "train.epochs": length}
    result["job"] = job(changes, bare=(2, 1) if args.quick else (7, 1 if cpu else 20))
    result["growth"] = []
    for settings in grown(small, images, epochs):
        say(f"{settings['data.synthetic_train']} images, {settings['train.epochs']} epochs")
        result["growth"].append(job(settings))
    save(args, f"job_{device['platform']}", result, tables(result), lambda ax: draw(result, ax))


if __name__ == "__main__":
    start(answer, main)
