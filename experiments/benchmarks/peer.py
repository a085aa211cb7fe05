"""Measures jaxseg beside segmentation_models_pytorch's U-Net with a ResNet-50 encoder, round by round in turns.

    python -m venv peer && peer/bin/pip install torch torchvision segmentation-models-pytorch
    python -m experiments.benchmarks.peer --peer-python peer/bin/python --quick
    python -m experiments.benchmarks.peer --peer-python peer/bin/python

Each network has a separate process, and they work in turns, round by round, so that other load on the machine affects
all of them. The ratio is computed per round; above 1 jaxseg is faster. PyTorch may be in a separate environment, as
above, or in jaxseg's (`pip install '.[peer]'`).

Loss, optimiser, batch and image size are the same. The training step of jaxseg includes augmentation, dropout, the
confusion counts and the gradient's norm, as in training; the peer's step has none of these. jaxseg takes bytes, the
peer floats. The peer runs in channels_last, compiled on a GPU, in the precision that trains faster there. `resnet50` is
the peer's encoder; `resnet50v2` is jaxseg's default. Each project has its own decoder. With --quick jaxseg's network is
tiny, and the ratio means nothing.

About ten minutes on two cores of an AMD EPYC. Expect 1.5 times the peer's rate for a training step with `resnet50v2`,
and 1.0 times with `resnet50` (`experiments/results/peer_cpu.json`).
"""

import sys
from contextlib import ExitStack
from typing import Any

from experiments.benchmarks.measuring import TINY, parser, positive, save, say
from experiments.benchmarks.worker import Worker, WorkerError, start
from experiments.shared.origin import JSON, origin
from experiments.shared.tables import markdown, number, per_second, shown, spread

PEER = "segmentation_models_pytorch"
WHAT = {"train": "train step", "predict": "inference"}

_ours: list[Any] = []


def answer(what: str, **arguments: Any) -> JSON:
    """Measures jaxseg in the worker; `workers/peer_torch.py` does the same for the peer.

    Args:
      what: "device", "prepare", "memory", "train" or "predict".
      arguments: arguments of the measurement.
    """
    import jax

    from experiments.benchmarks.measuring import peak_memory, seconds_of
    from experiments.benchmarks.workers import bare_step

    if what == "device":
        return bare_step.device()
    if what == "prepare":
        _ours.append(bare_step.Bare(arguments["changes"]))
        for step in WHAT:
            _ours[0].run(step, 2)
        return {}
    if what == "memory":
        stats = jax.local_devices()[0].memory_stats() or {}
        return {"peak_process_bytes": peak_memory(), "peak_device_bytes": stats.get("peak_bytes_in_use")}
    return {"seconds": seconds_of(_ours[0].run, what, arguments["count"]) / arguments["count"]}


def faster_dtype(python: str, shape: JSON, steps: int) -> str:
    """Returns the precision in which the peer trains faster; a separate process tries it, so no memory stays.

    Args:
      python: interpreter that has PyTorch.
      shape: "batch_size" and "image_size".
      steps: steps of a measurement.
    """
    seconds = {}
    with Worker("experiments.benchmarks.workers.peer_torch", python=python) as peer:
        for dtype in ("float32", "bfloat16"):
            peer.ask(what="prepare", dtype=dtype, **shape)
            seconds[dtype] = min(peer.ask(what="train", count=steps)["seconds"] for _ in range(2))
    say(f"the peer's seconds per step: {seconds}")
    return min(seconds, key=seconds.get)


def compare(workers: dict[str, Worker], rounds: int, steps: int) -> JSON:
    """Returns each network's seconds per step in every round, by step.

    Args:
      workers: processes by network.
      rounds: number of rounds.
      steps: steps of each round.
    """
    found = {what: {name: [] for name in workers} for what in WHAT}
    for what in WHAT:
        for index in range(rounds):
            # The order alternates too.
            names = list(workers) if index % 2 else list(workers)[::-1]
            for name in names:
                found[what][name].append(workers[name].ask(what=what, count=steps)["seconds"])
            say(f"{what}: " + ", ".join(f"{name} {times[-1]:.3f} s" for name, times in found[what].items()))
    return found


def judged(found: JSON, batch_size: int) -> JSON:
    """Returns rates and ratios, and the seconds of every round.

    Args:
      found: seconds per step by step and network, as `compare` returns them.
      batch_size: images of a step.
    """
    result = {}
    for what, seconds in found.items():
        result[what] = {
            name: {
                "seconds_by_round": times,
                "images_per_second": per_second(batch_size, spread(times)),
                "ratio": spread([peer / ours for peer, ours in zip(seconds[PEER], times, strict=True)]),
            }
            for name, times in seconds.items()
        }
    return result


def tables(result: JSON) -> str:
    """Returns the Markdown table."""
    rows = [
        (WHAT[what], name, result["dtypes"][name], shown(network["images_per_second"]), shown(network["ratio"]))
        for what, networks in result["measured"].items()
        for name, network in networks.items()
    ]
    peak = ", ".join(
        f"{name} {number((network['peak_device_bytes'] or network['peak_process_bytes']) / 2**30)} GiB"
        for name, network in result["memory"].items()
    )
    head = ("Step", "Network", "Precision", "Images per second", "Of the peer's rate")
    return (
        f"{markdown(head, rows)}\n\nMedian and quartiles over rounds; batch {result['batch_size']}, "
        f"{result['image_size']} px. Most memory, of the process or of the GPU: {peak}. Peer: "
        + ", ".join(f"{name} {version}" for name, version in result["peer"].items())
    )


def draw(result: JSON, ax: Any) -> None:
    """Draws the ratio of every round.

    Args:
      result: all numbers.
      ax: Matplotlib axes.
    """
    groups = [(what, name) for what in WHAT for name in result["measured"][what] if name != PEER]
    for place, (what, name) in enumerate(groups):
        ours, peer = (result["measured"][what][n]["seconds_by_round"] for n in (name, PEER))
        ax.plot([place] * len(ours), [b / a for a, b in zip(ours, peer, strict=True)], "o", alpha=0.6)
    ax.axhline(1, color="grey", linewidth=1)
    ax.set_xticks(range(len(groups)), [f"{name}\n{WHAT[what]}" for what, name in groups])
    ax.set(ylabel="jaxseg's rate / the peer's, each round", ylim=(0, None))


def main() -> None:
    """Measures in turns."""
    arguments = parser(__doc__, rounds=9)
    arguments.add_argument("--peer-python", default=sys.executable, metavar="PATH", help="interpreter that has PyTorch")
    arguments.add_argument(
        "--peer-dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="default: auto"
    )
    arguments.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="precision of jaxseg; default: CPU float32, else bfloat16"
    )
    arguments.add_argument("--batch-size", type=positive, metavar="N", help="default: CPU 8, else 64")
    arguments.add_argument("--image-size", type=positive, default=224, metavar="N", help="default: 224")
    arguments.add_argument("--steps", type=positive, metavar="N", help="steps of each round; default: CPU 1, else 20")
    args = arguments.parse_args()
    with ExitStack() as stack:
        workers = {
            "resnet50v2": stack.enter_context(Worker("experiments.benchmarks.peer")),
            "resnet50": stack.enter_context(Worker("experiments.benchmarks.peer")),
            PEER: stack.enter_context(Worker("experiments.benchmarks.workers.peer_torch", python=args.peer_python)),
        }
        try:
            peer = workers[PEER].ask(what="versions")
        except WorkerError:
            sys.exit(f"{args.peer_python}: lacks PyTorch or {PEER}; give --peer-python, or pip install '.[peer]'")
        device = workers["resnet50"].ask(what="device")
        cpu = device["platform"] == "cpu"
        result = origin("benchmark_peer", device)
        batch_size, image_size = args.batch_size or (8 if cpu else 64), args.image_size
        rounds, steps = args.rounds, args.steps or (1 if cpu else 20)
        if args.quick:
            batch_size, image_size, rounds, steps = 2, 64, 2, 1
        ours = args.dtype or ("float32" if cpu else "bfloat16")
        shape = {"batch_size": batch_size, "image_size": image_size}
        for name in ("resnet50v2", "resnet50"):
            say(f"compiling {name}")
            changes = {
                "model.encoder": name,
                "model.dtype": ours,
                "train.batch_size": batch_size,
                "data.image_size": image_size,
                "train.devices": 0 if cpu else 1,  # the peer uses the whole CPU, too
                **(TINY if args.quick else {}),
            }
            workers[name].ask(what="prepare", changes=changes)
        dtype = args.peer_dtype if args.peer_dtype != "auto" else faster_dtype(args.peer_python, shape, steps)
        workers[PEER].ask(what="prepare", dtype=dtype, **shape)
        measured = judged(compare(workers, rounds, steps), batch_size)
        memory = {name: worker.ask(what="memory") for name, worker in workers.items()}
    dtypes = {"resnet50v2": ours, "resnet50": ours, PEER: dtype}
    result |= {
        **shape,
        "steps_per_round": steps,
        "peer": peer,
        "dtypes": dtypes,
        "memory": memory,
        "measured": measured,
    }
    save(args, f"peer_{device['platform']}", result, tables(result), lambda ax: draw(result, ax))


if __name__ == "__main__":
    start(answer, main)
