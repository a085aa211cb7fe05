"""Measures the bare training and prediction steps: images per second, and what share of the device's limits that is.

    python -m experiments.benchmarks.step --quick           (half a minute: does it run?)
    python -m experiments.benchmarks.step                   (10 minutes on two cores of an AMD EPYC)
    python -m experiments.benchmarks.step --batch-sizes 16 64 256 --dtypes bfloat16 float32

The first value of each list is the base, and the others are tried one at a time. Every case runs in a separate process.
The batch stays on the device; augmentation and dropout are part of the training step, as in training.

The floor is the time that the step would take at a limit of the device: FLOPs at the rate of a large matrix product, or
bytes at the rate of a large copy, whichever is longer. Both rates are measured by the script; FLOPs and bytes are XLA's
count for the program. XLA counts bytes between the fused kernels: where a cache holds them, a step can be faster.

Expect 6.6 images per second for a training step of ResNet50V2 at 224 pixels and batch 8 on two cores of an AMD EPYC
(`experiments/results/step_cpu.json`).
"""

import argparse
from typing import Any

from experiments.benchmarks.measuring import TINY, parser, positive, save
from experiments.benchmarks.worker import Worker, WorkerError, start
from experiments.shared.console import say
from experiments.shared.origin import JSON, origin
from experiments.shared.tables import markdown, number, per_second, shown


def answer(what: str, **arguments: Any) -> JSON:
    """Measures in the worker.

    Args:
      what: "device", "limits" or "measure".
      arguments: arguments of the function of that name.
    """
    from experiments.benchmarks.workers import bare_step

    return {"device": bare_step.device, "limits": bare_step.limits, "measure": bare_step.measure}[what](**arguments)


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    result = parser(__doc__, rounds=7)
    result.add_argument("--encoders", nargs="+", choices=("resnet50v2", "resnet50", "none"), help="default: all")
    result.add_argument("--batch-sizes", nargs="+", type=positive, metavar="N", help="default: CPU 8 2, else 16 64 256")
    result.add_argument(
        "--image-sizes", nargs="+", type=positive, metavar="N", help="default: CPU 224 128, else 224 512"
    )
    result.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), help="default: both")
    result.add_argument(
        "--devices", nargs="+", type=positive, metavar="N", help="default: CPU 2 1, else 1, 2, 4, ... of all"
    )
    result.add_argument("--steps", type=positive, metavar="N", help="steps of each round; default: CPU 1, else 20")
    return result.parse_args()


def cases(args: argparse.Namespace, device: JSON) -> list[dict[str, Any]]:
    """Returns the settings of each case, the base first.

    Args:
      args: the parsed command line.
      device: "platform" and "count" of the devices.
    """
    cpu = device["platform"] == "cpu"
    values = {
        "model.encoder": args.encoders or ["resnet50v2", "resnet50", "none"],
        "train.batch_size": args.batch_sizes or ([8, 2] if cpu else [16, 64, 256]),
        "data.image_size": args.image_sizes or ([224, 128] if cpu else [224, 512]),
        "model.dtype": args.dtypes or ["float32", "bfloat16"],
        "train.devices": args.devices or ([2, 1] if cpu else [2**i for i in range(8) if 2**i <= device["count"]]),
    }
    base = {name: choices[0] for name, choices in values.items()}
    if args.quick:
        return [{**base, **TINY}]
    return [base, *({**base, name: value} for name, choices in values.items() for value in choices[1:])]


def judged(case: JSON, measured: JSON, limits: JSON, device: JSON) -> JSON:
    """Returns a case's measurements with its rate and its shares of the device's limits.

    Args:
      case: settings of the case.
      measured: what the worker measured; it is changed.
      limits: rates of the device.
      device: "platform" of the device.
    """
    # A CPU's "devices" share its cores.
    devices = 1 if device["platform"] == "cpu" else case["train.devices"]
    for what in ("train", "predict"):
        step = measured[what]
        compute = step["flops"] / (limits["flops_per_second"][case["model.dtype"]] * devices)
        memory = step["bytes"] / (limits["bytes_per_second"] * devices)
        step["images_per_second"] = per_second(case["train.batch_size"], step["seconds"])
        step["floor_share"] = max(compute, memory) / step["seconds"]["median"]
        step["floor_is"] = "compute" if compute > memory else "memory"
        step["flop_share"] = compute / step["seconds"]["median"]
    return {"case": case, **measured}


def label(case: JSON) -> str:
    """Returns a case in words."""
    encoder = {"none": "plain U-Net"}.get(case["model.encoder"], case["model.encoder"])
    words = f"{encoder}, {case['data.image_size']} px, batch {case['train.batch_size']}, {case['model.dtype']}"
    return words + (f", {case['train.devices']} devices" if case["train.devices"] > 1 else "")


def tables(result: JSON) -> str:
    """Returns the Markdown tables."""
    head = ("Case", "Step", "Images per second", "Floor, share of the step", "FLOPs", "GFLOP per image")
    head += ("Trace and compile, s", "Memory, GiB")
    rows = []
    for entry in result["cases"]:
        if "failed" in entry:
            rows.append((label(entry["case"]), entry["failed"], *[""] * 6))
            continue
        for what in ("train", "predict"):
            step = entry[what]
            rows.append(
                (
                    label(entry["case"]),
                    what,
                    shown(step["images_per_second"]),
                    f"{step['floor_share']:.0%} ({step['floor_is']})",
                    f"{step['flop_share']:.0%}",
                    number(step["flops"] / entry["case"]["train.batch_size"] / 1e9),
                    f"{step['trace_seconds']:.1f} + {step['compile_seconds']:.1f}",
                    number(step["memory_bytes"] / 2**30),
                )
            )
    peaks = result["limits"]["flops_per_second"]
    rates = ", ".join(f"{dtype} products {peak / 1e12:.2f} TFLOP/s" for dtype, peak in peaks.items())
    limits = f"Limits of one device: {rates}, copies {result['limits']['bytes_per_second'] / 1e9:.1f} GB/s."
    return f"{markdown(head, rows)}\n\nMedian and quartiles over rounds. {limits}"


def draw(result: JSON, ax: Any) -> None:
    """Draws rates as bars.

    Args:
      result: all numbers.
      ax: Matplotlib axes.
    """
    done = [entry for entry in result["cases"] if "failed" not in entry]
    for shift, what in ((-0.2, "train"), (0.2, "predict")):
        rates = [entry[what]["images_per_second"] for entry in done]
        middle = [rate["median"] for rate in rates]
        error = [[abs(rate["quartiles"][side] - rate["median"]) for rate in rates] for side in (0, 1)]
        ax.barh([i + shift for i in range(len(done))], middle, 0.4, xerr=error, label=what)
    ax.set_yticks(range(len(done)), [label(entry["case"]) for entry in done])
    ax.invert_yaxis()
    ax.set(xlabel="images per second")
    ax.legend()


def main() -> None:
    """Measures case by case."""
    args = arguments()
    with Worker("experiments.benchmarks.step") as worker:
        device = worker.ask(what="device")
        cpu = device["platform"] == "cpu"
        result = origin("benchmark_step", device)
        side, mebibytes = (512, 32) if args.quick else (2048, 512) if cpu else (8192, 2048)
        limits = worker.ask(what="limits", rounds=5, side=side, mebibytes=mebibytes)
    rounds, steps = 2 if args.quick else args.rounds, args.steps or (1 if cpu else 20)
    found = []
    for case in cases(args, device):
        say(label(case))
        # The number of devices of a CPU is a setting.
        flags = f"--xla_force_host_platform_device_count={case['train.devices']}"
        try:
            with Worker("experiments.benchmarks.step", env={"XLA_FLAGS": flags} if cpu else None) as worker:
                measured = worker.ask(what="measure", changes=case, rounds=rounds, steps=steps)
        except WorkerError as error:  # usually out of memory
            found.append({"case": case, "failed": str(error)})
        else:
            found.append(judged(case, measured, limits, device))
    result |= {"limits": limits, "steps_per_round": steps, "cases": found}
    save(args, f"step_{device['platform']}", result, tables(result), lambda ax: draw(result, ax))


if __name__ == "__main__":
    start(answer, main)
