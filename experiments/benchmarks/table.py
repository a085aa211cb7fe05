"""Writes the table of speed in RESULTS.md from the benchmarks' files in `experiments/results/`.

    python -m experiments.benchmarks.table                           (a second)

A benchmark that was not run on a kind of device has a line that says so. No number is typed by hand.
"""

import argparse
import json
from collections.abc import Callable, Iterator

from experiments.benchmarks import ahead, job, memory, peer, start, step
from experiments.benchmarks.contestants import CONTESTANTS, ENCODERS, WHAT
from experiments.shared.origin import JSON, RESULTS, hardware, source
from experiments.shared.tables import PAGE, markdown, number, shown, write_between

PLATFORMS = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU"}
"""Kinds of devices: JAX's names, which are in the names of the files, and the table's."""

Row = tuple[str, str, str]
"""What was measured, in which case, and the numbers."""


def step_rows(result: JSON) -> Iterator[Row]:
    """Yields the bare steps."""
    for what, title in WHAT.items():
        for measured in result["cases"]:
            label = step.label(measured["case"])
            if "failed" in measured:
                yield title.capitalize(), label, measured["failed"]
                continue
            found = measured[what]
            floor = f"floor {found['floor_share']:.0%} ({found['floor_is']}), FLOPs {found['flop_share']:.0%}"
            yield title.capitalize(), label, f"{shown(found['images_per_second'])} images/s; {floor} of the step"


def peer_rows(result: JSON) -> Iterator[Row]:
    """Yields the rate beside the best of each group of rivals, and who was not measured."""
    shape = f"batch {result['batch_size']}, {result['image_size']} px, {result['dtype']}"
    for played in result["matches"]:
        title, case = WHAT[played["step"]].capitalize(), f"{played['encoder']}, {shape}"
        for best in played["best"]:
            found = played["contestants"][best["name"]]
            reached = peer.aim(best, played)
            fastest, rate = CONTESTANTS[best["name"]].title, shown(found["images_per_second"])
            numbers = f"{shown(found['ratio'])} times the rate of {fastest}, the fastest, which is {rate} images/s"
            numbers += f"; aim: {reached}" if reached else ""
            yield f"{title} beside {best['rivals']}", case, numbers
        for name, found in played["contestants"].items():
            if "failed" in found:
                yield f"{title} beside {CONTESTANTS[name].title}", case, found["failed"]


def memory_rows(result: JSON) -> Iterator[Row]:
    """Yields the memory of training beside PyTorch's."""
    shape = f"batch {result['batch_size']}, {result['image_size']} px, float32"
    for measured in result["cases"]:
        case = f"{measured['encoder']}, {measured['title']}, {shape}"
        if "failed" in measured:
            yield "Memory of training", case, measured["failed"]
            continue
        peak, times, growth = memory.numbers(measured, result["cases"])
        yield (
            "Memory of training",
            case,
            peak + (f", {times} times eager PyTorch's" if times else "") + (f"; {growth}" if growth else ""),
        )


def job_rows(result: JSON) -> Iterator[Row]:
    """Yields the whole job and its growth."""
    whole = result["job"]
    yield "Rate inside the job, of the bare step's", job.label(whole), f"{job.inside_share(whole):.1%}"
    for run in (whole, *result["growth"]):
        parts = ", ".join(f"{part} {number(run['seconds'][part])}" for part in job.PARTS)
        first, last = (run["epochs"][i]["resident_bytes"] / 2**30 for i in (0, -1))
        memory = f"{first:.2f} GiB after the first epoch, {last:.2f} after the last"
        yield "The whole job", job.label(run), f"{number(run['total'])} s: {parts}; {memory}"


def start_rows(result: JSON) -> Iterator[Row]:
    """Yields the starts of training, of a prediction and of commands."""
    for name, seconds in result["training"].items():
        share = (
            f", {start.warm_share(result):.0%} of the cold start; aim: {start.SHARE:.0%}" if name == start.WARM else ""
        )
        yield "First step done", f"{name} cache of compiled programs", f"{shown(seconds)} s{share}"
    for runtime, by_cache in result["prediction"].items():
        for name, seconds in by_cache.items():
            aim = f"; aim: {number(start.SECONDS)}" if name == start.WARM else ""
            yield "Prediction of one image done", f"{runtime}, {name} cache", f"{shown(seconds)} s{aim}"
    commands = result["commands"]
    helps = {name: seconds["help"]["median"] for name, seconds in commands.items() if "help" in seconds}
    for title, pick in (("fastest", min), ("slowest", max)):
        name = pick(helps, key=helps.get)
        yield "`--help`", f"{title}: {name}", f"{shown(commands[name]['help'])} s"
    for name in ("jaxseg", "jaxseg.train"):
        yield "`import`", name, f"{shown(commands[name]['import'])} s"


def input_rows(result: JSON) -> Iterator[Row]:
    """Yields the input pipeline and the augmentation."""
    for name, rates in result["input"].items():
        what = f"{name}, {rates['size'][1]} x {rates['size'][0]}"
        yield "Input, one thread: read, decode, resize", what, f"{shown(rates['one_thread']['resize'])} images/s"
        threads, rate = max(rates["pipeline"].items(), key=lambda item: item[1]["median"])
        yield f"Input, batches by {threads} threads, the fastest number", what, f"{shown(rate)} images/s"
    for count, rates in result["augment"].items():
        yield "Augmentation alone", f"batch {count}", f"{shown(rates['images_per_second'])} images/s"


def ahead_rows(result: JSON) -> Iterator[Row]:
    """Yields the training steps that were compiled for devices that were not there."""
    for compiled in result["cases"]:
        what = f"{compiled['target']}: {step.label(compiled['case'])}"
        if "failed" in compiled:
            yield "Train step, compiled and not run", what, compiled["failed"]
            continue
        train = compiled["train"]
        rate, bound = ahead.floor(compiled["case"], train)
        numbers = f"{train['kernels']:,} kernels, {number(train['memory_bytes'] / 2**30)} GiB, "
        numbers += f"at most {number(rate)} images/s ({bound})"
        yield "Train step, compiled and not run", what, numbers


BENCHMARKS: dict[str, Callable[[JSON], Iterator[Row]]] = {
    "step": step_rows,
    "peer": peer_rows,
    **{f"memory_{encoder}": memory_rows for encoder in ENCODERS},
    "job": job_rows,
    "start": start_rows,
    "input": input_rows,
    "ahead": ahead_rows,
}
"""Functions that yield a benchmark's lines, by the name of its files."""


def table() -> str:
    """Returns the Markdown table and the origin of its rows."""
    rows, origins = [], []
    missing = {platform: [] for platform in PLATFORMS}
    for name, rows_of in BENCHMARKS.items():
        script = name.partition("_")[0]
        # "ahead" compiles on a CPU for other devices; "memory" is that of a process, which other devices do not share.
        for platform in ("cpu",) if script in ("ahead", "memory") else PLATFORMS:
            path = RESULTS / f"{name}_{platform}.json"
            result = json.loads(path.read_text()) if path.exists() else {"quick": True}
            if result["quick"]:  # a trial of the script, whose numbers mean nothing
                missing[platform].append(f"`benchmarks.{script}`")
                continue
            rows += [(*cells, hardware(result)) for cells in rows_of(result)]
            origins.append(f"- [{path.name}]({path.name}): {source(result)}")
    rows += [
        (", ".join(dict.fromkeys(names)), "", "not run", PLATFORMS[platform])
        for platform, names in missing.items()
        if names
    ]
    return "\n".join([markdown(("Measured", "Case", "Result", "On"), rows), "", *origins]).strip()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write_between("speed", table(), PAGE)
