"""Where the distance to the paper's numbers lies: limits of any threshold, lesions by size, batch norm that lags.

The external set's truth is used for analysis only; nothing is chosen by it.

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
    limits, by_size, lags = [], [], []
    for title, row in at_hand.items():
        config = study.config(row)
        truth = resized(study.external_set(config), config)[1][..., 0]
        maps = load_maps(study.folder(row) / "maps.npz")
        if "external" not in maps:
            continue
        limits += [[title, *cells] for cells in limit_lines(maps["external"], truth)]
        by_size += [[title, *cells] for cells in size_lines(maps["external"], truth)]
        if scored := restated(study, row):
            lags += [[title, *cells] for cells in lag_lines(results[title], scored)]
    both = ["External", "External, pooled"]
    study.section(
        NAME,
        title="Where the distance lies",
        about=(
            "The best thresholds are found with the external set's truth: they are bounds, not results. A running "
            "average of batch norm keeps the share momentum ** steps of what it began with, so in a short run "
            "validation and test use statistics that training never did. Recomputed statistics are means over the "
            "training images with the same weights."
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
                "rows": lags,
            },
        ],
        missing=rows.missing(list(results.values())),
        seconds=time.perf_counter() - began,
    )


def limit_lines(maps: np.ndarray, truth: np.ndarray) -> list[list[str]]:
    """Returns the scores at the best thresholds, for each run and for their ensemble.

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


def restated(study: Study, row: Row) -> JSON:
    """Scores a row's runs with batch norm's statistics recomputed over the training images; keeps the scores on disk.

    Args:
      study: the study.
      row: a trained row of seeds.

    Returns:
      Scores by test, in the form of a row's "tests"; empty if the study only reports and they are not there.
    """

    def measure(workdirs: Sequence[Path]) -> list[JSON]:
        say(f"batch norm: {row.title}")
        config = study.config(row)
        train, validation = study.splits(config)
        steps, variables = study.restore(row, workdirs)
        statistics = steps.replicate(statistics_of(config, variables, resized(train, config)[0]))
        variables = {**variables, "batch_stats": statistics}
        tests = {}
        for name, split in (("validation", validation), ("external", study.external_set(config))):
            images, truth = resized(split, config)
            tests[name] = [rows.score(m > THRESHOLD, truth[..., 0]) for m in predict(steps, variables, images)]
        return [{name: scored[i] for name, scored in tests.items()} for i in range(len(workdirs))]

    runs = of_runs(study, row, "batch_norm", measure)
    return {name: [run[name] for run in runs] for name in runs[0]} if runs else {}


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


def lag_lines(result: JSON, tests: JSON) -> list[list[str]]:
    """Returns the lines of a row as it was trained, and with recomputed statistics.

    Args:
      result: the row's result.
      tests: scores with recomputed statistics, as `restated` returns them.
    """
    lines = []
    for name, scored in (("running averages", result), ("recomputed", {"tests": tests})):
        cells = [rows.cell(scored, test, "per_image", "dice") for test in ("validation", "external")]
        lines.append([name, *cells, rows.cell(scored, "external", "pooled", "dice")])
    return lines


if __name__ == "__main__":
    main(run, __doc__)
