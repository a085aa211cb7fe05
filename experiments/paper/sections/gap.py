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
from experiments.paper.models import RECIPES
from experiments.paper.pool import resized
from experiments.paper.rows import Row
from experiments.paper.stacked import predict
from experiments.paper.study import MAPS, Study, load_maps
from experiments.shared.console import say
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

STATISTICS = ("running averages", "of the training images", "of the external images", "halves of both kinds")
"""Where batch norm's statistics come from: training, as usual; images as they are in training, without augmentation;
the images to be segmented, without masks; and the mean of the first and the third."""

FOR_ALL, FOR_EACH = "the best for all images", "the best for each image"
"""What a threshold is the best for."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # the same rows at every scale
    return list(RECIPES.values())


def run(study: Study) -> None:
    """Measures what is not there yet, and writes the section."""
    began = time.perf_counter()
    results = {title: study.row(row) for title, row in RECIPES.items()}
    missing = rows.missing(list(results.values()))
    thresholds, sizes, statistics = [], [], []
    for title, row in RECIPES.items():
        if "external" not in results[title].get("tests", {}):
            continue
        if runs := maps_measured(study, row):
            counted = rows.partly(title, len(runs), results[title])
            thresholds += [[counted, *cells] for cells in limit_lines([run["limits"] for run in runs])]
            sizes += [[counted, *cells] for cells in size_lines([run["sizes"] for run in runs])]
        else:
            missing.append(f"{title}: trained, not measured: thresholds and sizes")
        thresholds += [[title, *cells] for cells in ensemble_lines(study, row)]
        if runs := statistics_measured(study, row):
            counted = rows.partly(title, len(runs), results[title])
            statistics += [[counted, *cells] for cells in statistics_lines(runs)]
        else:
            missing.append(f"{title}: trained, not measured: batch norm")
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
            {
                "caption": "No threshold does better: Dice",
                "head": ["Runs of", "Threshold", *both],
                "rows": thresholds,
            },
            {
                "caption": f"Lesions by size, threshold {THRESHOLD}",
                "head": ["Runs of", "Share of the image", "Images", "Dice per image", "Median area, found / true"],
                "rows": sizes,
            },
            {
                "caption": f"Batch norm's statistics: Dice, threshold {THRESHOLD}",
                "head": ["Runs of", "Statistics", "Validation", *both],
                "rows": statistics,
            },
        ],
        missing=missing,
        seconds=time.perf_counter() - began,
    )


def external_maps(study: Study, row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probabilities [M, N, S, S] of a row's runs that are here, and the masks {0, 1} [N, S, S].

    Args:
      study: the study.
      row: a trained row of seeds.
    """
    config = study.config(row)
    truth = resized(study.external_set(config), config)[1][..., 0]
    return load_maps(study.folder(row) / MAPS)["external"], truth


def maps_measured(study: Study, row: Row) -> list[JSON]:
    """Returns "limits" and "sizes", of the functions `limits` and `by_size`, of each measured run of a row.

    Args:
      study: the study.
      row: a trained row of seeds.
    """

    def measure(workdirs: Sequence[Path]) -> list[JSON]:
        maps, truth = external_maps(study, row)
        places = map(study.workdirs_here(row).index, workdirs)
        return [{"limits": limits(maps[i], truth), "sizes": by_size(maps[i], truth)} for i in places]

    return of_runs(study, row, NAME, measure)


def limits(found: np.ndarray, truth: np.ndarray) -> JSON:
    """Returns the scores at the best single threshold for all images, and at the best threshold of each image.

    Args:
      found: probabilities [N, S, S].
      truth: masks {0, 1} [N, S, S].

    Returns:
      "per_image" and "pooled" Dice under `FOR_ALL` and `FOR_EACH`.
    """
    counts = [counts_at(found, truth, threshold) for threshold in GRID]
    return {FOR_ALL: best_for_all(counts), FOR_EACH: best_for_each(counts)}


def limit_lines(runs: Sequence[JSON]) -> list[list[str]]:
    """Returns the lines of a row from the `limits` of its runs."""
    return [
        [name, *(rows.shown([run[name][how] for run in runs]) for how in ("per_image", "pooled"))]
        for name in (FOR_ALL, FOR_EACH)
    ]


def ensemble_lines(study: Study, row: Row) -> list[list[str]]:
    """Returns the lines of a row's runs together, of those whose maps are here if they are several.

    Args:
      study: the study.
      row: a trained row of seeds.
    """
    if not (study.folder(row) / MAPS).exists():
        return []
    maps, truth = external_maps(study, row)
    if len(maps) == 1:
        return []
    lines = limit_lines([limits(maps.mean(axis=0), truth)])
    return [[f"{name}, ensemble of {len(maps)}", *scores] for name, *scores in lines]


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


def by_size(found: np.ndarray, truth: np.ndarray) -> JSON:
    """Returns "images", mean "dice" and median "area", found over true, by the lesion's share of the image.

    Args:
      found: probabilities [N, S, S].
      truth: masks {0, 1} [N, S, S].
    """
    share, result = truth.mean(axis=(1, 2)), {}
    for low, high in itertools.pairwise(SIZES):
        chosen = (share > low) & (share <= high)
        if chosen.any():
            cut = found[chosen] > THRESHOLD
            result[f"{low:.0%} to {high:.0%}"] = {
                "images": int(chosen.sum()),
                "dice": rows.score(cut, truth[chosen])["per_image"]["dice"],
                "area": float(np.median(cut.mean(axis=(1, 2)) / share[chosen])),
            }
    return result


def size_lines(runs: Sequence[JSON]) -> list[list[str]]:
    """Returns the lines of a row from what `by_size` says of its runs."""
    return [
        [size, str(of_size["images"]), *(rows.shown([run[size][name] for run in runs]) for name in ("dice", "area"))]
        for size, of_size in runs[0].items()
    ]


def statistics_measured(study: Study, row: Row) -> list[JSON]:
    """Scores a row's runs with their own and with other statistics of batch norm, and keeps the scores on disk.

    Args:
      study: the study.
      row: a trained row of seeds.

    Returns:
      For each measured run, by where the statistics come from: scores by test, in the form of a row's "tests".
    """

    def measure(workdirs: Sequence[Path]) -> list[JSON]:
        say(f"batch norm: {row.title}")
        config = study.config(row)
        train, validation = study.splits(config)
        sets = {"validation": resized(validation, config), "external": resized(study.external_set(config), config)}
        steps, variables = study.restore(row, workdirs)
        running = variables["batch_stats"]
        of_training = statistics_of(config, variables, resized(train, config)[0])
        external = statistics_of(config, variables, sets["external"][0])
        halves = jax.tree.map(lambda a, b: (a + b) / 2, running, external)
        found = [{} for _ in workdirs]
        for title, statistics in zip(STATISTICS, (running, of_training, external, halves), strict=True):
            changed = {**variables, "batch_stats": steps.replicate(statistics)}
            for name, (images, truth) in sets.items():
                for entry, maps in zip(found, predict(steps, changed, images), strict=True):
                    entry.setdefault(title, {})[name] = rows.score(maps > THRESHOLD, truth[..., 0])
        return found

    return of_runs(study, row, "batch_norm", measure)


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


def statistics_lines(runs: Sequence[JSON]) -> list[list[str]]:
    """Returns the lines of a row from the scores of its runs, as `statistics_measured` returns them."""
    columns = (("validation", "per_image"), ("external", "per_image"), ("external", "pooled"))
    return [
        [title, *(rows.shown([run[title][test][how]["dice"] for run in runs]) for test, how in columns)]
        for title in STATISTICS
    ]


if __name__ == "__main__":
    main(run, __doc__)
