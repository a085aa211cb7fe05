"""Measures the memory of training on a CPU beside PyTorch's, and whether it grows.

    python -m experiments.benchmarks.memory --quick                        (half a minute: does it run?)
    python -m experiments.benchmarks.memory --encoders resnet50            (35 to 50 minutes on two busy cores)

jaxseg's is that of the whole job, `python -m jaxseg.train` on synthetic images with one step per epoch, validation and
checkpoints included: with a device per core, with one device, and where jemalloc is installed with memory from there
(`LD_PRELOAD=libjemalloc.so.2`). PyTorch's is that of the bare step of `workers/peer_torch.py`, eager and compiled, with
the same network, batch and image size. Every case has a separate process. Its resident memory is noted after each epoch
or step; its growth is that from the five after the fifth to the last five.

Expect for ResNet50 6.6 GiB, and 3.4 for PyTorch (`experiments/results/memory_resnet50_cpu.json`). In its first
five steps jaxseg gives all memory back, which the chart shows. Each network has files of its own.
"""

import ctypes.util
import functools
import os
import statistics
import sys
from typing import Any

from experiments.benchmarks.contestants import CONTESTANTS, ENCODERS
from experiments.benchmarks.job import job
from experiments.benchmarks.measuring import TINY, parser, positive, save
from experiments.benchmarks.worker import Worker, WorkerError
from experiments.shared.console import say
from experiments.shared.origin import JSON, module_name, origin
from experiments.shared.tables import markdown

SETTLED = 5
"""Epochs or steps after which memory should not grow any more; growth is told of the means of as many."""

PEERS = ("torch", "torch-compiled")
PEER_STEPS = 15

LIMIT, GROWTH_LIMIT = 1.3, 0.05
"""What is aimed at: at most this many times PyTorch's peak, and at most this growth."""

OURS = {0: "jaxseg.train, a device per core", 1: "jaxseg.train, one device"}
"""Titles of jaxseg's cases by `train.devices`."""


def ours(encoder: str, network: JSON, devices: int, epochs: int, allocator: str = "") -> JSON:
    """Trains and returns the memory after each epoch.

    Args:
      encoder: name of the encoder, for the tables.
      network: settings of network, image size and batch.
      devices: value of `train.devices`.
      epochs: number of epochs of one step.
      allocator: name of the library that memory comes from, as "jemalloc"; "": the C library.

    Returns:
      "encoder", "title", "steps" taken, "resident_bytes" after each of the last of them, and "peak_process_bytes".
    """
    title, env = OURS[devices], {}
    if allocator:
        title, library = f"{title}, {allocator}", ctypes.util.find_library(allocator)
        if library is None:
            return {"encoder": encoder, "title": title, "failed": f"not installed: {allocator}"}
        env = {"LD_PRELOAD": library}
    changes = {
        **network,
        "data.name": "synthetic",
        "data.synthetic_train": network["train.batch_size"],
        "data.synthetic_eval": network["train.batch_size"],
        "train.devices": devices,
        "train.epochs": epochs,
    }
    done = job(changes, env=env)
    resident = [epoch["resident_bytes"] for epoch in done["epochs"]]
    return case(encoder, title, epochs, resident, done["peak_process_bytes"])


def theirs(encoder: str, shape: JSON, name: str, python: str, steps: int) -> JSON:
    """Has a peer take steps and returns the memory after each from the second on, as `ours` does.

    Args:
      encoder: name of the encoder.
      shape: "batch_size" and "image_size".
      name: name of the contestant.
      python: interpreter that has its packages.
      steps: number of steps.
    """
    contestant = CONTESTANTS[name]
    missing = contestant.missing(python)
    if missing:
        return {"encoder": encoder, "title": contestant.title, "failed": f"not installed: {', '.join(missing)}"}
    try:
        with Worker(contestant.module, python=python, env=contestant.env) as worker:
            # Takes two steps.
            worker.ask(what="prepare", step="train", encoder=encoder, dtype="float32", **shape, **contestant.options)
            resident = [worker.ask(what="memory")["resident_bytes"]]
            for _ in range(steps - 2):
                worker.ask(what="run", count=1)
                resident.append(worker.ask(what="memory")["resident_bytes"])
            peak = worker.ask(what="memory")["peak_process_bytes"]
    except WorkerError as error:
        return {"encoder": encoder, "title": contestant.title, "failed": str(error)}
    return case(encoder, contestant.title, steps, resident, peak)


def case(encoder: str, title: str, steps: int, resident: list[int], peak: int) -> JSON:
    """Returns a case as it is kept.

    Args:
      encoder: name of the encoder.
      title: the case in words.
      steps: steps taken.
      resident: memory after each of the last steps, bytes.
      peak: most memory of the process, bytes.

    Returns:
      The arguments.
    """
    return {
        "encoder": encoder,
        "title": title,
        "steps": steps,
        "resident_bytes": resident,
        "peak_process_bytes": peak,
    }


def growth(measured: JSON) -> float | None:
    """Returns by how much memory has grown from the first to the last `SETTLED` steps after step `SETTLED`, as a share.

    Args:
      measured: a case that did not fail; memory may not have been noted after its first steps.

    Returns:
      None: too few steps to tell.
    """
    if measured["steps"] < 3 * SETTLED:
        return None
    late = measured["resident_bytes"][SETTLED - measured["steps"] :]
    return statistics.fmean(late[-SETTLED:]) / statistics.fmean(late[:SETTLED]) - 1


def ratio(measured: JSON, cases: list[JSON]) -> float | None:
    """Returns a case's peak as a multiple of that of eager PyTorch with the same encoder; None if that is missing.

    Args:
      measured: the case.
      cases: all cases.
    """
    title = CONTESTANTS[PEERS[0]].title
    for other in cases:
        if other["title"] == title and other["encoder"] == measured["encoder"] and "failed" not in other:
            return measured["peak_process_bytes"] / other["peak_process_bytes"]
    return None


def numbers(measured: JSON, cases: list[JSON]) -> tuple[str, str, str]:
    """Returns a case's peak, its multiple of PyTorch's, and its growth, as tables show them.

    Args:
      measured: a case that did not fail.
      cases: all cases.
    """
    times, steps, grown = ratio(measured, cases), measured["steps"], growth(measured)
    return (
        f"{measured['peak_process_bytes'] / 2**30:.2f} GiB",
        "" if times is None else f"{times:.2f}",
        "" if grown is None else f"{grown:+.1%} from {SETTLED + 1}-{2 * SETTLED} to {steps - SETTLED + 1}-{steps}",
    )


def tables(result: JSON) -> str:
    """Returns the Markdown table."""
    rows = [
        (measured["encoder"], measured["title"], measured["failed"], "", "")
        if "failed" in measured
        else (measured["encoder"], measured["title"], *numbers(measured, result["cases"]))
        for measured in result["cases"]
    ]
    head = ("Network", "Training by", "Peak", "Times eager PyTorch's", "Growth, by epochs or steps")
    return (
        f"{markdown(head, rows)}\n\nBatch {result['batch_size']}, {result['image_size']} px, float32; resident memory "
        f"of the process. Aim: at most {LIMIT} times PyTorch's peak, and a growth of at most {GROWTH_LIMIT:.0%}."
    )


def draw(result: JSON, ax: Any) -> None:
    """Draws memory over epochs or steps.

    Args:
      result: all numbers.
      ax: Matplotlib axes.
    """
    for measured in result["cases"]:
        if "failed" not in measured:
            gibibytes = [value / 2**30 for value in measured["resident_bytes"]]
            first = measured["steps"] - len(gibibytes) + 1
            label = f"{measured['encoder']}, {measured['title']}"
            ax.plot(range(first, measured["steps"] + 1), gibibytes, label=label)
    ax.set(xlabel="epochs of one step, or steps", ylabel="resident memory, GiB", ylim=(0, None))
    ax.legend(fontsize=7)


def main() -> None:
    """Measures all cases, one after the other."""
    arguments = parser(__doc__, rounds=None)
    arguments.add_argument("--peer-python", default=sys.executable, metavar="PATH", help="interpreter that has PyTorch")
    arguments.add_argument(
        "--encoders", nargs="+", choices=ENCODERS, default=ENCODERS, metavar="E", help="default: all"
    )
    arguments.add_argument("--epochs", type=positive, default=50, metavar="N", help="of one step; default: 50")
    args = arguments.parse_args()
    os.environ.update(JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="")  # of the workers
    with Worker(CONTESTANTS["jaxseg"].module) as worker:
        result = origin("benchmark_memory", worker.ask(what="device"))
    shape, epochs = {"batch_size": 16, "image_size": 224}, args.epochs
    encoders, runs = args.encoders, [*((devices, "") for devices in OURS), (0, "jemalloc")]
    if args.quick:
        shape = {"batch_size": TINY["train.batch_size"], "image_size": TINY["data.image_size"]}
        epochs, encoders, runs = 6, encoders[:1], runs[:1]
    for encoder in encoders:
        usual = {"data.image_size": shape["image_size"], "train.batch_size": shape["batch_size"]}
        network = {"model.encoder": encoder, **usual, **(TINY if args.quick else {})}
        cases = []
        for devices, allocator in runs:
            say(f"{encoder}: {OURS[devices]} {allocator}".rstrip())
            cases.append(ours(encoder, network, devices, epochs, allocator))
        for name in PEERS:
            say(f"{encoder}: {CONTESTANTS[name].title}")
            cases.append(theirs(encoder, shape, name, args.peer_python, PEER_STEPS))
        found = {**result, **shape, "cases": cases}
        save(args, f"memory_{encoder}_cpu", found, tables(found), functools.partial(draw, found))


if __name__ == "__main__":
    try:
        main()
    except WorkerError as error:
        sys.exit(f"{module_name()}: error: {error}")
