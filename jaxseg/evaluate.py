"""Scores a trained model: `python -m jaxseg.evaluate --workdir runs/full --data isic2016 --split test`."""

import argparse

from jaxseg import cli


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "evaluate",
        "Scores the best weights of a run on a split of a data set, per image and pooled over all pixels, at the "
        "images' own resolution and at the network's. Writes metrics.json, per_image.csv, cases.png and overlays/.",
        "--workdir W [--data D] [--split S] [--out DIR] [--data-dir DIR]",
    )
    result.add_argument("--workdir", required=True, metavar="W", help="folder of the run")
    result.add_argument("--data", metavar="D", help="ph2, isic2016, synthetic or a folder; default: what it trained on")
    result.add_argument(
        "--split", metavar="S", help="default: ph2 validation, isic2016 test, synthetic test, all of a folder"
    )
    result.add_argument("--out", metavar="DIR", help="folder for the results; default: W/evaluation/D-S")
    result.add_argument("--data-dir", metavar="DIR", help="folder of the prepared TFDS data sets; default: the run's")
    return result


if __name__ == "__main__":
    _parser().parse_args()

import csv
import dataclasses
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np

from jaxseg import data
from jaxseg import workdir as files
from jaxseg.config import Config, DataConfig
from jaxseg.data.examples import Examples
from jaxseg.data.images import resize_mask
from jaxseg.data.pipeline import read_ahead
from jaxseg.errors import UserError
from jaxseg.metrics import COUNTS, SCORES, confusion, scores
from jaxseg.progress import progress
from jaxseg.report import Case, overlay, overlay_sheet, save_png
from jaxseg.segmenter import THRESHOLD, Segmenter, resize_probability

log = logging.getLogger("jaxseg.evaluate")

SHOWN = 4
"""Best, median and worst cases of each that are drawn."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, scores, prints the table."""
    args = _parser().parse_args(argv)
    cli.start_logging()
    workdir = Path(args.workdir)
    config = files.read_config(workdir)
    changes = {"data.name": args.data, "data.data_dir": args.data_dir}
    data_config = config.updated({name: value for name, value in changes.items() if value is not None}).data
    name = data.resolve_name(data_config)
    examples = data.open_split(data_config, args.split or data.default_split(name))
    out = Path(args.out) if args.out else workdir / "evaluation" / f"{Path(name).name}-{examples.split}"
    evaluate(Segmenter.load(workdir), examples, data_config, out, workdir)


@dataclasses.dataclass(frozen=True)
class Scored:
    """One image's counts.

    Attributes:
      index: position in the split.
      native: "tp", "fp", "fn", "tn" at the image's own resolution.
      network: the same at the network's.
    """

    index: int
    native: dict[str, int]
    network: dict[str, int]

    @property
    def dice(self) -> float:
        """Dice at the image's own resolution."""
        return float(scores(self.native)["dice"])


def evaluate(
    segmenter: Segmenter, examples: Examples, data_config: DataConfig, out: Path, workdir: Path
) -> dict[str, Any]:
    """Scores a split and writes the results.

    Args:
      segmenter: the model.
      examples: the split.
      data_config: how it was opened.
      out: folder for the results.
      workdir: the run's folder, recorded.

    Returns:
      The content of `metrics.json`.
    """
    seen = trained_on(segmenter.config, data_config, examples)
    if seen:
        log.warning("%d of the %d images were TRAINED ON by this run: not an honest test", seen, len(examples))
    scored = list(score_images(segmenter, examples, data_config.workers))
    metrics = {
        "data": {
            "dataset": examples.dataset,
            "split": examples.split,
            "images": len(examples),
            "synthetic": examples.dataset == "synthetic",
            "fingerprint": examples.fingerprint(),
            "trained_on": seen,
        },
        "model": {"workdir": str(workdir), "step": segmenter.step, "trained_on": segmenter.config.data.name},
        "threshold": THRESHOLD,
        "native": {"resolution": "the images' own", **summarise([s.native for s in scored])},
        "network": {"resolution": segmenter.image_size, **summarise([s.network for s in scored])},
    }
    files.write_json(out / "metrics.json", metrics)
    files.write_text(out / "per_image.csv", per_image_csv(scored, examples))
    draw_cases(segmenter, scored, examples, out)
    log_table(metrics, out)
    return metrics


def trained_on(config: Config, data_config: DataConfig, examples: Examples) -> int:
    """Returns how many of the images the run was trained on; 0 if what it was trained on is not to be had here."""
    try:
        train, _ = data.training_splits(dataclasses.replace(config.data, data_dir=data_config.data_dir))
    except UserError:
        return 0
    return len(set(train.names) & set(examples.names)) if train.dataset == examples.dataset else 0


def score_images(segmenter: Segmenter, examples: Examples, workers: int) -> Iterator[Scored]:
    """Segments and counts image by image, in order; decoding runs ahead in threads, memory stays bounded."""

    def load(index: int) -> tuple[tuple[int, np.ndarray], np.ndarray]:
        image, mask = examples.load(index)
        return (index, mask), segmenter.resize(image)

    loaded = read_ahead(grain.MapDataset.range(len(examples)).map(load), workers)
    size = (segmenter.image_size, segmenter.image_size)
    scored = progress(segmenter.stream(loaded), f"scoring {examples.split}", len(examples))
    for (index, mask), probability in scored:
        native = resize_probability(probability, mask.shape[:2]) > THRESHOLD
        yield Scored(
            index,
            native=count(native, mask[..., 0]),
            network=count(probability > THRESHOLD, resize_mask(mask, size)[..., 0]),
        )


def count(prediction: np.ndarray, truth: np.ndarray) -> dict[str, int]:
    """Returns one image's counts as Python integers, from masks [H, W]."""
    counts = confusion(prediction[None], truth[None])
    return {name: int(counts[name][0]) for name in COUNTS}


def summarise(counts: Sequence[dict[str, int]]) -> dict[str, dict[str, float]]:
    """Returns scores per image (mean and sample standard deviation over images) and pooled (of the summed counts)."""
    each = {name: np.array([scores(c)[name] for c in counts], np.float64) for name in SCORES}
    pooled = scores({name: sum(c[name] for c in counts) for name in COUNTS})
    return {
        "per_image": {name: float(values.mean()) for name, values in each.items()},
        "per_image_sd": {name: float(values.std(ddof=1)) if len(values) > 1 else 0.0 for name, values in each.items()},
        "pooled": {name: float(pooled[name]) for name in SCORES},
    }


def per_image_csv(scored: Sequence[Scored], examples: Examples) -> str:
    """Returns a table with a line per image: name, group, the five scores and the counts at its own resolution."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "group", *SCORES, *COUNTS])
    for s in scored:
        values = scores(s.native)
        row = [examples.names[s.index], examples.groups[s.index], *(f"{values[n]:.6f}" for n in SCORES)]
        table.writerow([*row, *(s.native[n] for n in COUNTS)])
    return text.getvalue()


def draw_cases(segmenter: Segmenter, scored: Sequence[Scored], examples: Examples, out: Path) -> None:
    """Draws the worst, median and best cases: `cases.png` with all, and each by itself in `overlays/`."""
    order = sorted(scored, key=lambda s: s.dice)
    middle = max((len(order) - SHOWN) // 2, 0)
    picked: dict[int, tuple[str, float]] = {}
    for kind, some in {
        "worst": order[:SHOWN],
        "best": order[-SHOWN:],
        "median": order[middle : middle + SHOWN],
    }.items():
        for s in some:
            picked.setdefault(s.index, (kind, s.dice))
    loaded = ((i, examples.load(i)) for i in sorted(picked, key=lambda i: picked[i][1]))
    cases = []
    stream = segmenter.stream(((i, example), segmenter.resize(example.image)) for i, example in loaded)
    for (i, example), probability in stream:
        kind, dice = picked[i]
        prediction = resize_probability(probability, example.mask.shape[:2]) > THRESHOLD
        truth = example.mask[..., 0]
        cases.append(Case(f"{kind}: {examples.names[i]}", example.image, truth, prediction, dice))
        name = f"{kind}_{examples.names[i]}.png".replace("/", "_")
        save_png(overlay(example.image, prediction, truth), out / "overlays" / name)
    title = f"{segmenter.config.data.name} → {examples.dataset} {examples.split}"
    overlay_sheet(cases, out / "cases.png", title, synthetic=examples.dataset == "synthetic")


def log_table(metrics: dict[str, Any], out: Path) -> None:
    """Logs the scores and where the files are."""
    about = metrics["data"]
    note = "  *** SYNTHETIC DATA ***" if about["synthetic"] else ""
    log.info("%s %s, %d images%s", about["dataset"], about["split"], about["images"], note)
    log.info("%-22s %s", "", " ".join(f"{name:>11}" for name in SCORES))
    for place in ("native", "network"):
        for kind in ("per_image", "pooled"):
            values = " ".join(f"{metrics[place][kind][name]:11.4f}" for name in SCORES)
            log.info("%-22s %s", f"{place}, {kind.replace('_', ' ')}", values)
    log.info("written to %s: metrics.json, per_image.csv, cases.png, overlays/", out)


if __name__ == "__main__":
    cli.run("evaluate", main)
