"""Where the distance to the paper's numbers lies: limits of any threshold, lesions by size, batch norm's statistics.

The external set's truth is used for analysis only; nothing is chosen by it. Statistics of its images, which batch norm
takes in one table, are a row of their own: such a network has seen them.

    python -m experiments.paper.sections.gap --out runs/paper --scale cpu

Minutes on one core of an AMD EPYC once the rows are trained. At scale `cpu` expect a pooled Dice of 0.93 for
`generalise` with the best threshold for each image, which requires the image's truth.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.paper import rows
from experiments.paper.command import main
from experiments.paper.measured import of_runs
from experiments.paper.models import FINAL, FULL
from experiments.paper.pool import resized
from experiments.paper.rows import Row
from experiments.paper.stacked import predict
from experiments.paper.study import Study, load_maps, say
from experiments.shared.origin import JSON
from jaxseg.config import Config
from jaxseg.inference.masks import THRESHOLD
from jaxseg.inference.threshold import GRID
from jaxseg.metrics import COUNTS, confusion, scores
from jaxseg.models import create_model

NAME = "gap"

SIZES = (0.0, 0.05, 0.15, 0.4, 1.0)
"""Bounds of the classes of lesion sizes, as shares of the image."""

BATCH = 32
"""Images of a batch for which batch norm's statistics are computed."""

TRAINING, EXTERNAL, HALVES = "of the training images", "of the external images", "halves of both kinds"
"""Where batch norm's statistics come from instead of running averages: images as they are in training, without
augmentation; the images to be segmented, without masks; and the mean of the running averages and of the latter."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # the same rows at every scale
    return [FULL, FINAL]


def run(study: Study) -> None:
    """Measures what is not there yet, and writes the section."""
    began = time.perf_counter()
    models = {"the paper's recipe": FULL, "the preset generalise": FINAL}
    results = {title: study.row(row) for title, row in models.items()}
    at_hand = {title: row for title, row in models.items() if (study.folder(row) / "maps.npz").exists()}
    limits, by_size, by_statistics = [], [], []
    for title, row in at_hand.items():
        config = study.config(row)
        truth = resized(study.external_set(config), config)[1][..., 0]
        maps = load_maps(study.folder(row) / "maps.npz")
        if "external" not in maps:
            continue
        limits += [[title, *cells] for cells in limit_lines(maps["external"], truth)]
        by_size += [[title, *cells] for cells in size_lines(maps["external"], truth)]
        if scored := restated(study, row):
            by_statistics += [[title, *cells] for cells in statistics_lines(results[title], scored)]
    both = ["External", "External, pooled"]
    study.section(
        NAME,
        title="Where the distance lies",
        about=(
            "The best thresholds are found with the external set's truth: they are bounds, not results. A running "
            "average of batch norm keeps the share momentum ** steps of what it began with, so in a short run "
            "validation and test use statistics that training never did. Statistics of images are means over batches "
            "of them with the same weights; those of the external images have seen these, without their masks."
        ),
        tables=[
            {"caption": "No threshold does better: Dice", "head": ["Runs of", "Threshold", *both], "rows": limits},
            {
                "caption": f"Lesions by size, threshold {THRESHOLD}",
                "head": ["Runs of", "Share of the image", "Images", "Dice per image", "Median area, found / true"],
                "rows": by_size,
            },
            {
                "caption": f"Batch norm's statistics: Dice, threshold {THRESHOLD}",
                "head": ["Runs of", "Statistics", "Validation", *both],
                "rows": by_statistics,
            },
        ],
        missing=rows.missing(list(results.values())),
        seconds=time.perf_counter() - began,
    )


def limit_lines(maps: np.ndarray, truth: np.ndarray) -> list[list[str]]:
    """Returns the scores at the best thresholds, for each run and for the ensemble of several.

    Args:
      maps: probabilities [M, N, S, S].
      truth: masks {0, 1} [N, S, S].

    Returns:
      Lines of the table, for the best single threshold for all images and for the best threshold of each image.
    """
    every = [*maps, maps.mean(axis=0)]
    counted = [[counts_at(found, truth, threshold) for threshold in GRID] for found in every]
    lines = []
    for name, best in (("the best for all images", best_for_all), ("the best for each image", best_for_each)):
        scored = [best(counts) for counts in counted]
        lines.append([name, *(rows.shown([scores[how] for scores in scored[:-1]]) for how in ("per_image", "pooled"))])
        if len(maps) > 1:
            lines.append([f"{name}, ensemble", *(rows.shown([scored[-1][how]]) for how in ("per_image", "pooled"))])
    return lines


def counts_at(found: np.ndarray, truth: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """Returns each image's pixel counts [N] at a threshold.

    Args:
      found: probabilities [N, S, S].
      truth: masks {0, 1} [N, S, S].
      threshold: probability above which a pixel is lesion.
    """
    return {name: np.asarray(value, np.int64) for name, value in confusion(found > threshold, truth).items()}


def best_for_all(counts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Returns the highest mean Dice and the highest pooled Dice over thresholds, given the counts at each."""
    pooled = [scores({name: at[name].sum() for name in COUNTS})["dice"] for at in counts]
    return {"per_image": max(float(np.mean(scores(at)["dice"])) for at in counts), "pooled": float(max(pooled))}


def best_for_each(counts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Returns mean and pooled Dice where each image has the threshold with its own highest Dice."""
    dice = np.array([scores(at)["dice"] for at in counts])
    chosen = (dice.argmax(axis=0), np.arange(dice.shape[1]))
    pooled = scores({name: np.array([at[name] for at in counts])[chosen].sum() for name in COUNTS})["dice"]
    return {"per_image": float(dice.max(axis=0).mean()), "pooled": float(pooled)}


def size_lines(maps: np.ndarray, truth: np.ndarray) -> list[list[str]]:
    """Returns Dice and found area by the lesion's share of the image.

    Args:
      maps: probabilities [M, N, S, S].
      truth: masks {0, 1} [N, S, S].
    """
    share, lines = truth.mean(axis=(1, 2)), []
    for low, high in itertools.pairwise(SIZES):
        chosen = (share > low) & (share <= high)
        if chosen.any():
            cut = [found[chosen] > THRESHOLD for found in maps]
            ratio = [float(np.median(m.mean(axis=(1, 2)) / share[chosen])) for m in cut]
            dice = [rows.score(m, truth[chosen])["per_image"]["dice"] for m in cut]
            lines.append([f"{low:.0%} to {high:.0%}", str(chosen.sum()), rows.shown(dice), rows.shown(ratio)])
    return lines


def restated(study: Study, row: Row) -> dict[str, JSON]:
    """Scores a row's runs with other statistics of batch norm, and keeps the scores on disk.

    Args:
      study: the study.
      row: a trained row of seeds.

    Returns:
      By where the statistics come from: scores by test, in the form of a row's "tests"; empty if the study only reports
      and they are not there.
    """

    def measure(workdirs: Sequence[Path]) -> list[JSON]:
        say(f"batch norm: {row.title}")
        config = study.config(row)
        train, validation = study.splits(config)
        sets = {"validation": resized(validation, config), "external": resized(study.external_set(config), config)}
        steps, variables = study.restore(row, workdirs)
        own = statistics_of(config, variables, resized(train, config)[0])
        external = statistics_of(config, variables, sets["external"][0])
        halves = jax.tree.map(lambda a, b: (a + b) / 2, variables["batch_stats"], external)
        found = [{} for _ in workdirs]
        for title, statistics in ((TRAINING, own), (EXTERNAL, external), (HALVES, halves)):
            changed = {**variables, "batch_stats": steps.replicate(statistics)}
            for name, (images, truth) in sets.items():
                for entry, maps in zip(found, predict(steps, changed, images), strict=True):
                    entry.setdefault(title, {})[name] = rows.score(maps > THRESHOLD, truth[..., 0])
        return found

    runs = of_runs(study, row, "batch_norm", measure)
    return {
        title: {name: [run[title][name] for run in runs] for name in of_title}
        for title, of_title in (runs[0].items() if runs else ())
    }


def statistics_of(config: Config, variables: Any, images: np.ndarray) -> Any:
    """Returns batch norm's statistics over images, as means over batches; without dropout.

    Args:
      config: settings of the runs.
      variables: variables of the runs, stacked along a leading axis.
      images: uint8 [N, S, S, 3]; if there are more than one batch, the last incomplete one is dropped.

    Returns:
      "batch_stats", stacked.
    """
    # With momentum 0 a batch leaves its own statistics.
    changes = {"dropout": 0.0, "encoder_bn_momentum": 0.0, "decoder_bn_momentum": 0.0}
    model = create_model(dataclasses.replace(config.model, **changes))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def statistics(variables, images):
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[1]["batch_stats"]

    starts = range(0, max(len(images) - BATCH, 0) + 1, BATCH)
    found = [statistics(variables, images[start : start + BATCH]) for start in starts]
    return jax.tree.map(lambda *batches: sum(batches) / len(batches), *found)


def statistics_lines(result: JSON, found: Mapping[str, JSON]) -> list[list[str]]:
    """Returns the lines of a row as it was trained, and with other statistics.

    Args:
      result: the row's result.
      found: scores with other statistics, as `restated` returns them.
    """
    lines = []
    for name, tests in {"running averages": result["tests"], **found}.items():
        scored = {"tests": tests}
        cells = [rows.cell(scored, test, "per_image", "dice") for test in ("validation", "external")]
        lines.append([name, *cells, rows.cell(scored, "external", "pooled", "dice")])
    return lines


if __name__ == "__main__":
    main(run, __doc__)
