"""Compiles the training and inference steps for GPUs and TPUs that are absent: do they compile, and what is the floor?

    pip install '.[gpu]'                                             (or '.[tpu]', or both)
    python -m experiments.benchmarks.ahead --quick --targets h100    (half a minute: does it run?)
    python -m experiments.benchmarks.ahead --targets h100 h200       (5 minutes on two cores of an AMD EPYC)
    python -m experiments.benchmarks.ahead --targets v5e             (13 minutes)

XLA's compilers need no device. The script reports the seconds of compilation, the memory that the program needs, the
number of kernels, the bytes that move between them, and the floor: the longer of the times that FLOPs and bytes take at
the rates of the maker's data sheet. A step is faster than the floor of bytes only if a cache holds them. On a TPU the
floor is that of FLOPs alone, because XLA counts data that it moves to memory on the chip. `benchmarks.step` measures on
the device how near to its floor a step comes. Kernels that XLA would choose by timing on a GPU keep their defaults.

Expect at most 6,074 images per second for a training step on an H100 at batch 16 in bfloat16
(`experiments/results/ahead_cpu.json`).
"""

import argparse
from typing import Any

from experiments.benchmarks.measuring import TINY, parser, positive, save
from experiments.benchmarks.step import label
from experiments.benchmarks.worker import Worker, WorkerError, start
from experiments.shared.console import say
from experiments.shared.origin import JSON, origin
from experiments.shared.tables import markdown, number

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "XLA_FLAGS": "--xla_gpu_autotune_level=0",  # autotuning would run kernels
    # What the host of a TPU would provide.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def answer(target: str, changes: JSON) -> JSON:
    """Compiles in the worker.

    Args:
      target: name of the accelerator.
      changes: settings of the case.
    """
    from experiments.benchmarks.workers import compile_ahead

    return compile_ahead.compiled(target, changes)


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    result = parser(__doc__, rounds=None)
    result.add_argument(
        "--targets", nargs="+", choices=("h100", "h200", "v5e", "v6e"), default=["h100"], help="default: h100"
    )
    result.add_argument(
        "--batch-sizes", nargs="+", type=positive, default=[16, 128], metavar="N", help="default: 16 128"
    )
    return result.parse_args()


def cases(args: argparse.Namespace) -> list[JSON]:
    """Returns the settings to compile, the base first: batch sizes, then float32, the other encoder, four devices."""
    base = {
        "model.encoder": "resnet50v2",
        "train.batch_size": args.batch_sizes[0],
        "data.image_size": 224,
        "model.dtype": "bfloat16",
        "train.devices": 1,
    }
    if args.quick:
        return [{**base, **TINY}]
    return [
        *({**base, "train.batch_size": size} for size in args.batch_sizes),
        {**base, "model.dtype": "float32"},
        {**base, "model.encoder": "resnet50"},
        {**base, "train.batch_size": 4 * args.batch_sizes[0], "train.devices": 4},
    ]


def floor(case: JSON, step: JSON) -> tuple[float, str]:
    """Returns the largest possible rate in images per second over all devices, and what bounds it.

    Args:
      case: settings of the case.
      step: what was counted for one of its steps.
    """
    bound, seconds = max(step["floor_seconds"].items(), key=lambda item: item[1])
    return case["train.batch_size"] / seconds, bound


def tables(result: JSON) -> str:
    """Returns the Markdown table."""
    head = ("For", "Case", "Step", "Compile, s", "Kernels", "GFLOP per image", "MB between kernels per image")
    head += ("Memory, GiB", "At most, images per second")
    rows = []
    for compiled in result["cases"]:
        if "failed" in compiled:
            rows.append((compiled["target"], label(compiled["case"]), compiled["failed"], *[""] * 6))
            continue
        images = compiled["case"]["train.batch_size"] / compiled["case"]["train.devices"]
        for what in ("train", "predict"):
            step = compiled[what]
            rate, bound = floor(compiled["case"], step)
            rows.append(
                (
                    compiled["target"],
                    label(compiled["case"]),
                    what,
                    f"{step['compile_seconds']:.0f}",
                    f"{step['kernels']:,}",
                    number(step["flops"] / images / 1e9),
                    number(step["bytes"] / images / 1e6),
                    number(step["memory_bytes"] / 2**30),
                    f"{number(rate)} ({bound})",
                )
            )
    return f"{markdown(head, rows)}\n\nCompiled, not run. Kernels, FLOPs, bytes and memory are of one device."


def draw(result: JSON, ax: Any) -> None:
    """Draws the bounds of the training step as bars.

    Args:
      result: all numbers.
      ax: Matplotlib axes.
    """
    done = [compiled for compiled in result["cases"] if "failed" not in compiled]
    for shift, bound in ((-0.2, "compute"), (0.2, "memory")):
        seconds = [1e3 * compiled["train"]["floor_seconds"].get(bound, 0) for compiled in done]
        ax.barh([i + shift for i in range(len(done))], seconds, 0.4, label=f"bound by {bound}")
    ax.set_yticks(
        range(len(done)), [f"{compiled['target']}: {label(compiled['case'])}" for compiled in done], fontsize=7
    )
    ax.invert_yaxis()
    ax.set(xlabel="minimum ms of a training step, by the maker's rates")
    ax.legend()


def main() -> None:
    """Compiles case by case, each in a process of its own.

    Raises:
      WorkerError: no case compiles.
    """
    args = arguments()
    result = origin("benchmark_ahead", {"platform": "cpu", "kind": "cpu", "count": 1})  # the CPU compiles
    found = []
    for target in args.targets:
        for case in cases(args):
            say(f"{target}: {label(case)}")
            try:
                with Worker("experiments.benchmarks.ahead", env=ENVIRONMENT) as worker:
                    steps = worker.ask(target=target, changes=case)
            except WorkerError as error:  # usually the program does not fit the device
                found.append({"target": target, "case": case, "failed": str(error)})
            else:
                found.append({"target": target, "case": case, **steps})
    if all("failed" in compiled for compiled in found):
        raise WorkerError(found[0]["failed"])
    result["cases"] = found
    save(args, "ahead_cpu", result, tables(result), lambda ax: draw(result, ax))


if __name__ == "__main__":
    start(answer, main)
