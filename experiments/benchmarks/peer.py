"""Measures jaxseg beside PyTorch, Keras, ONNX Runtime and OpenVINO, round by round in turns.

    pip install -e '.[test,peer]'
    python -m experiments.benchmarks.peer --quick                (four minutes: does it run?)
    python -m experiments.benchmarks.peer

Each contestant has a separate process that sleeps while the others work; they take turns, round by round, so that other
load on the machine affects all of them. A ratio is computed per round; above 1 jaxseg is faster. "The best" of a group
has the lowest median. What is not installed gets a line that says so. `--peer-python` names an interpreter of another
environment for all contestants but jaxseg; it needs NumPy and the packages of the extra `peer`.

All have jaxseg's network, layer for layer, except segmentation_models_pytorch, which has its own U-Net with the same
encoder; the numbers of parameters, and the FLOPs of a forward pass as each library counts them, are in the result. ONNX
Runtime and OpenVINO run the file that `jaxseg.export --format onnx` writes. Loss, optimiser, batch, image size,
precision and the number of cores are the same. The training step of jaxseg includes augmentation, dropout, the
confusion counts and the gradient's norm, as in training; those of the others have none of these. jaxseg and the ONNX
file take bytes, the others floats. With --quick there is one encoder, at 64 pixels in batches of 2, and the ratios mean
nothing.

Needs a C++ compiler for `torch.compile`, and up to 20 GiB of memory.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from experiments.benchmarks.contestants import CONTESTANTS, ENCODERS, OURS, RIVALS, WHAT
from experiments.benchmarks.measuring import parser, positive, save
from experiments.benchmarks.worker import Worker, WorkerError
from experiments.shared.console import say
from experiments.shared.origin import JSON, module_name, origin
from experiments.shared.tables import markdown, number, per_second, shown, spread


def compare(workers: dict[str, Worker], rounds: int, steps: int) -> dict[str, JSON]:
    """Returns each contestant's "seconds_by_round" of one step, or "failed" with the reason.

    Args:
      workers: processes by contestant.
      rounds: number of rounds.
      steps: steps of each round.

    Raises:
      WorkerError: jaxseg's process failed.
    """
    found: dict[str, JSON] = {name: {"seconds_by_round": []} for name in workers}
    for index in range(rounds):
        # The order alternates too.
        for name in list(workers) if index % 2 else list(workers)[::-1]:
            if "failed" in found[name]:
                continue
            try:
                found[name]["seconds_by_round"].append(workers[name].ask(what="run", count=steps)["seconds"])
            except WorkerError as error:
                if name == OURS:
                    raise
                found[name] = {"failed": str(error)}
        told = [f"{n} {c['seconds_by_round'][-1]:.3f} s" for n, c in found.items() if "failed" not in c]
        say(", ".join(told))
    return found


def match(
    step: str, shape: JSON, names: list[str], missing: dict[str, list[str]], python: str, rounds: int, steps: int
) -> JSON:
    """Measures one step of one network by all contestants.

    Args:
      step: "train" or "predict".
      shape: "encoder", "dtype", "batch_size" and "image_size".
      names: names of the contestants.
      missing: packages that each of them lacks, by name.
      python: interpreter of all but jaxseg.
      rounds: number of rounds.
      steps: steps of each round.

    Returns:
      "step", "encoder", and "contestants": for each "seconds_by_round", "first_step_seconds", memory and facts, or
      "failed" with the reason.

    Raises:
      WorkerError: jaxseg's process failed.
    """
    found: dict[str, JSON] = {name: {"failed": f"not installed: {', '.join(missing[name])}"} for name in names}
    with ExitStack() as stack:
        onnx_file = str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxseg-peer-"))) / "network.onnx")
        workers = {}
        for name in (name for name in names if not missing[name]):
            contestant, file = CONTESTANTS[name], {}
            say(f"{WHAT[step]}, {shape['encoder']}: {name} starts")
            try:
                if contestant.worker == "peer_onnx":
                    file = {"onnx_file": export(shape, onnx_file)}
                interpreter = sys.executable if name == OURS else python
                worker = stack.enter_context(Worker(contestant.module, python=interpreter, env=contestant.env))
                found[name] = worker.ask(what="prepare", step=step, **shape, **contestant.options, **file)
                workers[name] = worker
            except WorkerError as error:
                if name == OURS:
                    raise
                found[name] = {"failed": str(error)}
        for name, result in compare(workers, rounds, steps).items():
            found[name] |= result
            if "failed" not in result:
                found[name] |= workers[name].ask(what="memory")
                found[name] |= workers[name].ask(what="facts")
    return {"step": step, "encoder": shape["encoder"], "contestants": found}


def export(shape: JSON, path: str) -> str:
    """Has a process write jaxseg's network as ONNX, unless it is there, and returns the path.

    Args:
      shape: "encoder" and "image_size" among others.
      path: file to write.
    """
    if not Path(path).exists():
        with Worker(CONTESTANTS[OURS].module) as worker:
            worker.ask(what="export", encoder=shape["encoder"], image_size=shape["image_size"], path=path)
    return path


def judged(played: JSON, batch_size: int) -> JSON:
    """Adds rates and ratios to a match.

    Args:
      played: the match, as `match` returns it.
      batch_size: images of a step.

    Returns:
      The match; each contestant that was measured has "images_per_second" and "ratio", its seconds over jaxseg's in
      each round. "best" lists, for each group of rivals with a member that was measured, the "rivals", the "name" of
      their best, and the "aim", or None.
    """
    measured = {name: c for name, c in played["contestants"].items() if "failed" not in c}
    ours = measured[OURS]["seconds_by_round"]
    for contestant in measured.values():
        times = contestant["seconds_by_round"]
        contestant["images_per_second"] = per_second(batch_size, spread(times))
        contestant["ratio"] = spread([theirs / own for theirs, own in zip(times, ours, strict=True)])
    best = []
    for rivals in RIVALS[played["step"]]:
        there = [name for name in rivals.members if name in measured]
        if there:
            fastest = max(there, key=lambda name: measured[name]["images_per_second"]["median"])
            best.append({"rivals": rivals.title, "name": fastest, "aim": rivals.aims.get(played["encoder"])})
    return {**played, "best": best}


def aim(best: JSON, played: JSON) -> str:
    """Returns what was aimed at, and whether it is reached.

    Args:
      best: an entry of the match's "best".
      played: the match.
    """
    if best["aim"] is None:
        return ""
    reached = played["contestants"][best["name"]]["ratio"]["median"] >= best["aim"]
    return f"{best['aim']}, {'reached' if reached else 'missed'}"


def tables(result: JSON) -> str:
    """Returns the Markdown tables."""
    rows, ratios = [], []
    for played in result["matches"]:
        case = (WHAT[played["step"]], played["encoder"])
        for name, contestant in played["contestants"].items():
            title = CONTESTANTS[name].title
            if "failed" in contestant:
                rows.append((*case, title, contestant["failed"], *[""] * 6))
                continue
            peak = contestant.get("peak_device_bytes") or contestant["peak_process_bytes"]
            parameters, flops = contestant["parameters"], contestant["flops"]
            rows.append(
                (
                    *case,
                    title,
                    shown(contestant["images_per_second"]),
                    shown(contestant["ratio"]),
                    number(contestant["first_step_seconds"]),
                    number(peak / 2**30),
                    f"{parameters:,}" if parameters else "",
                    number(flops / result["batch_size"] / 1e9) if flops else "",
                    contestant["how"],
                )
            )
        for best in played["best"]:
            contestant = played["contestants"][best["name"]]
            title = CONTESTANTS[best["name"]].title
            ratios.append((*case, best["rivals"], title, shown(contestant["ratio"]), aim(best, played)))
    head = (
        "Step",
        "Network",
        "By",
        "Images per second",
        "jaxseg's rate / its",
        "Seconds to the first step",
        "Peak, GiB",
        "Parameters",
        "Forward, GFLOPs per image",
        "How",
    )
    versions = {name: version for played in result["matches"] for name, version in peers_versions(played).items()}
    return "\n\n".join(
        [
            markdown(("Step", "Network", "Beside", "Their fastest", "jaxseg's rate / its", "Aim"), ratios),
            markdown(head, rows),
            f"Median and quartiles over {result['rounds']} rounds of {result['steps_per_round']} steps; batch "
            f"{result['batch_size']}, {result['image_size']} px, {result['dtype']}. Memory of the process, or of the "
            "GPU. Peers: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        ]
    )


def peers_versions(played: JSON) -> dict[str, str]:
    """Returns the versions of all packages in a match besides jaxseg's own.

    Args:
      played: the match.
    """
    others = [c.get("versions", {}) for name, c in played["contestants"].items() if name != OURS]
    return {name: version for versions in others for name, version in versions.items()}


def draw(result: JSON, ax: Any) -> None:
    """Draws the ratio of every round.

    Args:
      result: all numbers.
      ax: Matplotlib axes.
    """
    labels = []
    for played in result["matches"]:
        for name, contestant in played["contestants"].items():
            if name != OURS and "failed" not in contestant:
                ours = played["contestants"][OURS]["seconds_by_round"]
                ratios = [b / a for a, b in zip(ours, contestant["seconds_by_round"], strict=True)]
                ax.plot(ratios, [len(labels)] * len(ratios), "o", alpha=0.6, markersize=4)
                labels.append(f"{WHAT[played['step']]}, {played['encoder']}: {CONTESTANTS[name].title}")
    ax.axvline(1, color="grey", linewidth=1)
    ax.set_yticks(range(len(labels)), labels, fontsize=6)
    ax.invert_yaxis()
    ax.set(xlabel="jaxseg's rate / the other's, each round", xlim=(0, None))


def main() -> None:
    """Measures in turns."""
    arguments = parser(__doc__, rounds=7)
    arguments.add_argument(
        "--peer-python", default=sys.executable, metavar="PATH", help="interpreter of all but jaxseg; default: this one"
    )
    peers = [name for name in CONTESTANTS if name != OURS]
    arguments.add_argument(
        "--peers", nargs="+", choices=peers, default=peers, metavar="P", help=f"default: {' '.join(peers)}"
    )
    arguments.add_argument(
        "--encoders",
        nargs="+",
        choices=ENCODERS,
        metavar="E",
        help=f"default: {' '.join(ENCODERS)}; --quick: the first",
    )
    arguments.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: CPU float32, else bfloat16")
    arguments.add_argument("--batch-size", type=positive, metavar="N", help="default: CPU 8, else 64")
    arguments.add_argument("--image-size", type=positive, default=224, metavar="N", help="default: 224")
    args = arguments.parse_args()
    with Worker(CONTESTANTS[OURS].module) as worker:
        device = worker.ask(what="device")
    platform, cpu = device["platform"], device["platform"] == "cpu"
    result = origin("benchmark_peer", device)
    dtype, rounds = args.dtype or ("float32" if cpu else "bfloat16"), args.rounds
    shape = {"dtype": dtype, "batch_size": args.batch_size or (8 if cpu else 64), "image_size": args.image_size}
    encoders = args.encoders or ENCODERS
    steps = 3 if cpu else 20  # the first step after the others' turns meets their caches and sleeping threads
    if args.quick:
        shape, rounds, steps = {**shape, "batch_size": 2, "image_size": 64}, 2, 1
        encoders = args.encoders or ENCODERS[:1]
    chosen = [OURS, *(name for name in CONTESTANTS if name in args.peers)]
    missing = {name: CONTESTANTS[name].missing(args.peer_python) for name in chosen if name != OURS} | {OURS: []}
    matches = []
    for encoder in encoders:
        for step in WHAT:
            names = [name for name in chosen if CONTESTANTS[name].takes_part(step, encoder, dtype, platform)]
            played = match(step, {**shape, "encoder": encoder}, names, missing, args.peer_python, rounds, steps)
            matches.append(judged(played, shape["batch_size"]))
    result |= {**shape, "rounds": rounds, "steps_per_round": steps, "matches": matches}
    save(args, f"peer_{platform}", result, tables(result), lambda ax: draw(result, ax))


if __name__ == "__main__":
    try:
        main()
    except WorkerError as error:
        sys.exit(f"{module_name()}: error: {error}")
