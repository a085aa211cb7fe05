"""Measures the input pipeline alone, and augmentation alone: images per second.

    python -m experiments.benchmarks.input --quick                          (half a minute: does it run?)
    python -m experiments.benchmarks.input                                  (2 minutes on two cores of an AMD EPYC)
    python -m experiments.benchmarks.input --data ph2 isic2016              (prepared sets, besides the made one)

The made set consists of synthetic images enlarged to the size of a photograph (1022 x 767, JPEG), prepared in the same
way as the published ISIC 2016, so it needs no download. First one thread, each stage on top of those before it: read
the record, decode image and mask, resize both. Then the whole pipeline with batches as in training, by number of
threads; nothing is cached from one epoch to the next (`data.cache_mib` 0), as in a first epoch. Then augmentation
alone, of a batch that is on the device.

Expect 293 images per second from the made set with two threads on two cores of an AMD EPYC
(`experiments/results/input_cpu.json`).
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.benchmarks.measuring import parser, positive, save, seconds_of, timed_rounds
from experiments.benchmarks.worker import Worker, start
from experiments.shared.console import say
from experiments.shared.origin import JSON, origin
from experiments.shared.tables import markdown, per_second, shown, spread

STAGES = ("read", "decode", "resize")
MADE = "made"
SIZE = 224


def answer(what: str, **arguments: Any) -> JSON:
    """Measures in the worker.

    Args:
      what: "device", "input" or "augment".
      arguments: arguments of the measurement.
    """
    if what == "device":
        from experiments.benchmarks.workers import bare_step

        return bare_step.device()
    return {"input": measure_input, "augment": measure_augment}[what](**arguments)


def make_set(folder: Path, images: int) -> None:
    """Builds the made set below a folder, in the form of ISIC 2016's training split.

    Args:
      folder: where to build it.
      images: number of images.
    """
    from PIL import Image

    from jaxseg.data.published.prepared import builder_of
    from jaxseg.data.synthetic import example

    source = folder / "source"
    pictures, masks = (source / f"ISBI2016_ISIC_Part1_Training_{part}" for part in ("Data", "GroundTruth"))
    for part in (pictures, masks):
        part.mkdir(parents=True)
    for i in range(images):
        drawn = example("train", i)
        name = f"ISIC_{i:07d}"
        Image.fromarray(drawn.image).resize((1022, 767), Image.Resampling.BICUBIC).save(
            pictures / f"{name}.jpg", quality=95
        )
        mask = Image.fromarray(drawn.mask[..., 0] * 255).resize((1022, 767), Image.Resampling.NEAREST)
        mask.save(masks / f"{name}_Segmentation.png")
    builder_of("isic2016", str(folder), str(source)).download_and_prepare()


def measure_input(name: str, images: int, workers: list[int], batch_size: int, rounds: int) -> JSON:
    """Returns the rates of the stages and of the whole pipeline.

    Args:
      name: name of a prepared set, or `MADE`.
      images: images of the made set.
      workers: numbers of threads to try.
      batch_size: images of a batch.
      rounds: rounds of each measurement.
    """
    if name != MADE:
        return _input_of(name, "", workers, batch_size, rounds)
    with tempfile.TemporaryDirectory(prefix="jaxseg-input-") as folder:
        make_set(Path(folder), images)
        return _input_of("isic2016", folder, workers, batch_size, rounds)


def _input_of(name: str, data_dir: str, workers: list[int], batch_size: int, rounds: int) -> JSON:
    from jaxseg import data
    from jaxseg.config import DataConfig
    from jaxseg.data import pipeline

    config = DataConfig(name=name, data_dir=data_dir, image_size=SIZE, cache_mib=0)
    # The whole training split of ISIC; the committed training part of PH2.
    examples = data.open_split(config, "train")
    batch_size = min(batch_size, len(examples))
    whole = len(examples) // batch_size * batch_size

    def epoch(count: int) -> None:
        batches = pipeline.train_batches(
            pipeline.ResizedExamples(examples, config),
            DataConfig(name=name, workers=count),
            batch_size=batch_size,
            seed=0,
            first_step=0,
            last_step=whole // batch_size,
        )
        for _ in batches:
            pass

    result: JSON = {"images": len(examples), "batch_size": batch_size, "size": list(examples.load(0).image.shape[:2])}
    stages = _stages(name, data_dir, config)
    count = min(len(examples), 100)
    result["one_thread"] = {
        stage: _rate(lambda run=run: [run(i) for i in range(count)], count, rounds) for stage, run in stages.items()
    }
    result["pipeline"] = {str(n): _rate(lambda n=n: epoch(n), whole, rounds) for n in workers}
    return result


def _stages(name: str, data_dir: str, config: Any) -> dict[str, Callable[[int], object]]:
    """Returns functions that do each stage, and the stages before it, for the image at an index."""
    from tensorflow_datasets import decode

    from jaxseg import data
    from jaxseg.data import pipeline
    from jaxseg.data.published.prepared import builder_of

    raw = {"image": decode.SkipDecoding(), "mask": decode.SkipDecoding()}
    source = builder_of(name, data_dir).as_data_source("train", decoders=raw)
    examples = data.open_split(config, "train")
    resized = pipeline.ResizedExamples(examples, config)
    return dict(zip(STAGES, (lambda i: source[i], examples.load, resized.load), strict=True))


def _rate(run: Callable[[], object], images: int, rounds: int) -> JSON:
    """Returns the spread of images per second, without the first round, which reads the files into memory."""
    run()
    return per_second(images, spread([seconds_of(run) for _ in range(rounds)]))


def measure_augment(batch_sizes: list[int], rounds: int, steps: int) -> JSON:
    """Returns the rates of the augmentation alone and the seconds of its compilation, by batch size.

    Args:
      batch_sizes: batch sizes to try.
      rounds: rounds of each measurement.
      steps: batches of each round.
    """
    import jax
    import jax.numpy as jnp

    from jaxseg.augment import augment
    from jaxseg.config import AugmentConfig

    step = jax.jit(lambda key, images, masks: augment(key, images, masks, AugmentConfig()))
    result = {}
    for count in batch_sizes:
        images = jnp.zeros((count, SIZE, SIZE, 3), jnp.uint8)
        call = jax.random.key(0), images, images[..., :1]
        began = time.perf_counter()
        jax.block_until_ready(step(*call))
        compile_seconds = time.perf_counter() - began

        def run(steps: int, call: Any = call) -> None:
            for _ in range(steps):
                warped = step(*call)
            jax.block_until_ready(warped)

        seconds = spread(timed_rounds(run, rounds, steps))
        result[str(count)] = {"images_per_second": per_second(count, seconds), "first_call_seconds": compile_seconds}
    return result


def tables(result: JSON) -> str:
    """Returns the Markdown tables."""
    rows = []
    for name, entry in result["input"].items():
        where = f"{entry['images']} images of {entry['size'][1]} x {entry['size'][0]} and the like, {name}"
        for index, stage in enumerate(STAGES):
            rows.append((where, f"one thread: {', '.join(STAGES[: index + 1])}", shown(entry["one_thread"][stage])))
        for count, rate in entry["pipeline"].items():
            rows.append((where, f"pipeline, {count} threads, batch {entry['batch_size']}", shown(rate)))
    for count, entry in result["augment"].items():
        rows.append(("on the device", f"augmentation, {SIZE} px, batch {count}", shown(entry["images_per_second"])))
    return markdown(("Images", "What", "Images per second"), rows) + "\n\nMedian and quartiles over rounds."


def draw(result: JSON, ax: Any) -> None:
    """Draws the pipeline's rate by the number of threads.

    Args:
      result: all numbers.
      ax: Matplotlib axes.
    """
    for name, entry in result["input"].items():
        threads = [int(count) for count in entry["pipeline"]]
        rates = [rate["median"] for rate in entry["pipeline"].values()]
        error = [[abs(r["quartiles"][side] - r["median"]) for r in entry["pipeline"].values()] for side in (0, 1)]
        ax.errorbar(threads, rates, error, marker="o", label=f"{name}: read, decode, resize, batch")
    ax.set(xlabel="threads (data.workers)", ylabel="images per second", ylim=(0, None))
    ax.legend()


def main() -> None:
    """Measures in one process, one thing after the other."""
    arguments = parser(__doc__, rounds=7)
    arguments.add_argument(
        "--data", nargs="+", default=[], choices=("ph2", "isic2016"), help="prepared sets to measure"
    )
    arguments.add_argument(
        "--images", type=positive, default=200, metavar="N", help="images of the made set (default: 200)"
    )
    arguments.add_argument(
        "--threads", nargs="+", type=int, default=[0, 1, 2, 4, 8], metavar="N", help="numbers of threads to try"
    )
    arguments.add_argument(
        "--batch-sizes", nargs="+", type=positive, default=[16, 64], metavar="N", help="batch sizes of augmentation"
    )
    args = arguments.parse_args()
    images, threads, batch_sizes, rounds = args.images, args.threads, args.batch_sizes, args.rounds
    if args.quick:
        images, threads, batch_sizes, rounds = 8, [0, 2], [2], 2
    with Worker("experiments.benchmarks.input") as worker:
        device = worker.ask(what="device")
        result = origin("benchmark_input", device)
        result["input"] = {}
        for name in (MADE, *args.data):
            say(f"the set {name}")
            shape = {"images": images, "workers": threads, "batch_size": 16, "rounds": rounds}
            result["input"][name] = worker.ask(what="input", name=name, **shape)
        say("augmentation")
        result["augment"] = worker.ask(
            what="augment", batch_sizes=batch_sizes, rounds=rounds, steps=2 if device["platform"] == "cpu" else 50
        )
    save(args, f"input_{device['platform']}", result, tables(result), lambda ax: draw(result, ax))


if __name__ == "__main__":
    start(answer, main)
