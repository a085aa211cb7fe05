"""Writes README's table of speed from what the benchmarks have left in `experiments/results/`.

    python -m experiments.benchmarks.table

What was not measured is in the table too, as not run. Nobody types a number.
"""

import json
from collections.abc import Callable, Iterator

from experiments.benchmarks import ahead as benchmark_ahead
from experiments.benchmarks import job as benchmark_job
from experiments.benchmarks import peer as benchmark_peer
from experiments.benchmarks import step as benchmark_step
from experiments.shared.origin import JSON, RESULTS, hardware, source
from experiments.shared.tables import markdown, number, shown, write_between

PLATFORMS = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU"}
"""As JAX calls them, and files' names; as the table does."""

Row = tuple[str, str, str]
"""What was measured, of what, and the numbers."""


def step_rows(result: JSON) -> Iterator[Row]:
    """Yields the bare steps."""
    for what, title in benchmark_peer.WHAT.items():
        for of in result["cases"]:
            label = benchmark_step.label(of["case"])
            if "failed" in of:
                yield title.capitalize(), label, of["failed"]
                continue
            step = of[what]
            floor = f"floor {step['floor_share']:.0%} ({step['floor_is']}), FLOPs {step['flop_share']:.0%} of the step"
            yield title.capitalize(), label, f"{shown(step['images_per_second'])} images/s; {floor}"


def peer_rows(result: JSON) -> Iterator[Row]:
    """Yields the rates beside the peer's."""
    peer, shape = result["measured"], f"batch {result['batch_size']}, {result['image_size']} px"
    for what, title in benchmark_peer.WHAT.items():
        for name, of in peer[what].items():
            if name != benchmark_peer.PEER:
                theirs = shown(peer[what][benchmark_peer.PEER]["images_per_second"])
                dtypes = f"{result['dtypes'][name]}, peer {result['dtypes'][benchmark_peer.PEER]}"
                numbers = f"{shown(of['ratio'])} times the peer's rate, which is {theirs} images/s"
                yield f"{title.capitalize()} beside PyTorch", f"{name}, {shape}, {dtypes}", numbers


def job_rows(result: JSON) -> Iterator[Row]:
    """Yields the whole job, its growth, starts and commands."""
    job = result["job"]
    inside = f"{benchmark_job.inside_share(job):.1%}"
    yield "Rate inside the job, of the bare step's", benchmark_job.label(job), inside
    for of in (job, *result["growth"]):
        parts = ", ".join(f"{part} {number(of['seconds'][part])}" for part in benchmark_job.PARTS)
        first, last = (of["epochs"][i]["resident_bytes"] / 2**30 for i in (0, -1))
        memory = f"{first:.2f} GiB after the first epoch, {last:.2f} after the last"
        yield "The whole job", benchmark_job.label(of), f"{number(of['total'])} s: {parts}; {memory}"
    for name, of in result["starts"].items():
        yield "First step done", f"{name} cache of compiled programs", f"{shown(of)} s"
    helps = {name: of["help"]["median"] for name, of in result["commands"].items() if "help" in of}
    for title, pick in (("fastest", min), ("slowest", max)):
        name = pick(helps, key=helps.get)
        yield "`--help`", f"{title}: {name}", f"{shown(result['commands'][name]['help'])} s"
    for name in ("jaxseg", "jaxseg.train"):
        yield "`import`", name, f"{shown(result['commands'][name]['import'])} s"


def input_rows(result: JSON) -> Iterator[Row]:
    """Yields the input pipeline and the augmentation."""
    for name, of in result["input"].items():
        what = f"{name}, {of['size'][1]} x {of['size'][0]}"
        yield "Input, one thread: read, decode, resize", what, f"{shown(of['one_thread']['resize'])} images/s"
        threads, rate = max(of["pipeline"].items(), key=lambda item: item[1]["median"])
        yield f"Input, batches by {threads} threads, the fastest number", what, f"{shown(rate)} images/s"
    for count, of in result["augment"].items():
        yield "Augmentation alone", f"batch {count}", f"{shown(of['images_per_second'])} images/s"


def ahead_rows(result: JSON) -> Iterator[Row]:
    """Yields the training steps that were compiled for devices that were not there."""
    for of in result["cases"]:
        what = f"{of['target']}: {benchmark_step.label(of['case'])}"
        if "failed" in of:
            yield "Train step, compiled and not run", what, of["failed"]
            continue
        step = of["train"]
        rate, bound = benchmark_ahead.floor(of["case"], step)
        numbers = f"{step['kernels']:,} kernels, {number(step['memory_bytes'] / 2**30)} GiB, "
        numbers += f"at most {number(rate)} images/s ({bound})"
        yield "Train step, compiled and not run", what, numbers


BENCHMARKS: dict[str, Callable[[JSON], Iterator[Row]]] = {
    "step": step_rows,
    "peer": peer_rows,
    "job": job_rows,
    "input": input_rows,
    "ahead": ahead_rows,
}


def table() -> str:
    """Returns the Markdown table and the origin of its rows."""
    rows, origins = [], []
    missing = {platform: [] for platform in PLATFORMS}
    for name, rows_of in BENCHMARKS.items():
        for platform in PLATFORMS if name != "ahead" else ("cpu",):  # which compiles for the others
            path = RESULTS / f"{name}_{platform}.json"
            result = json.loads(path.read_text()) if path.exists() else {"quick": True}
            if result["quick"]:  # which says nothing
                missing[platform].append(f"`benchmark_{name}.py`")
                continue
            rows += [(*cells, hardware(result)) for cells in rows_of(result)]
            origins.append(f"- [{path.name}](experiments/results/{path.name}): {source(result)}")
    rows += [(", ".join(names), "", "not run", PLATFORMS[platform]) for platform, names in missing.items() if names]
    return "\n".join([markdown(("Measured", "Of", "Result", "On"), rows), "", *origins]).strip()


if __name__ == "__main__":
    write_between("speed", table())
