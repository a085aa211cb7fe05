"""What the remaining error consists of: misses, the level at which outlines are cut, and their shape; with pictures.

The external set's truth is used for analysis only; nothing is chosen by it.

    python -m experiments.paper.sections.remaining --out runs/paper --scale full --runs 1 --in-turn

Twenty seconds per run at scale `full` on two cores of an AMD EPYC once the rows are trained. Expect for `generalise`
there that misses, a sixth of the images, make nearly half of it, and the level two fifths.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.paper import plots, rows
from experiments.paper.command import main
from experiments.paper.measured import of_runs
from experiments.paper.models import BARE, FULL, NETWORKS, UNET
from experiments.paper.pool import resized
from experiments.paper.rows import Row, shown
from experiments.paper.sections.gap import counts_at, external_maps
from experiments.paper.study import MAPS, Study
from experiments.paper.style import percent
from experiments.shared.origin import JSON
from jaxseg.inference.masks import THRESHOLD
from jaxseg.inference.threshold import GRID
from jaxseg.metrics import LEAST_JACCARD, scores
from jaxseg.report.overlays import Case, overlay_sheet

NAME = "remaining"

MODELS = NETWORKS | {row.title: row for row in (FULL, BARE, UNET)}
"""The rows, by their titles here; the first one whose maps are here has pictures, too."""

MISSED, MISSED_LEVEL, LEVEL, SHAPE = "misses", "misses: level", "others: level", "others: shape"
PARTS = (MISSED, MISSED_LEVEL, LEVEL, SHAPE)
"""What a mean Dice lacks to 1, in parts."""

SMALL, LARGE, ELSEWHERE = "too small", "too large", "elsewhere"
"""Kinds of misses."""

RATIO = 1.25
"""A miss is too large if its area is at least this many times the true one, and too small if at most the inverse."""

EXAMPLES = 3
"""Pictures of either kind: misses, and others that lack most by their level."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # the same rows at every scale
    return list(MODELS.values())


def run(study: Study) -> None:
    """Measures what is not there yet, and writes the section."""
    began = time.perf_counter()
    results = {title: study.row(row) for title, row in MODELS.items()}
    trained = [title for title, result in results.items() if "external" in result.get("tests", {})]
    measured = {title: runs for title in trained if (runs := measure(study, MODELS[title]))}
    lines = [(rows.partly(title, len(runs), results[title]), runs) for title, runs in measured.items()]
    study.section(
        NAME,
        title="What the remaining error consists of",
        about=(
            f"What the mean Dice on the external set lacks to 1, threshold {THRESHOLD}, in parts. Misses are images "
            f"with a Jaccard below {LEAST_JACCARD}. Level is what an image would gain by the threshold that is best "
            "for itself, which needs its truth: its outline is at the right place, but too wide or too close. What "
            "others still lack is shape; what misses still lack has no other name. Misses are too small if the area "
            f"found is at most {1 / RATIO:g} of the true one, too large if it is at least {RATIO:g} times it, else "
            "elsewhere."
        ),
        tables=[
            {
                "caption": "Missing to a Dice of 1, by part",
                "head": ["Model", "Dice", *(part.capitalize() for part in PARTS)],
                "rows": [
                    [title, *(shown([run[part] for run in runs]) for part in ("dice", *PARTS))] for title, runs in lines
                ],
            },
            {
                "caption": "Misses by kind, shares of all images",
                "head": ["Model", *(kind.capitalize() for kind in (SMALL, LARGE, ELSEWHERE)), "Median area of others"],
                "rows": [
                    [
                        title,
                        *(percent([run[kind] for run in runs]) for kind in (SMALL, LARGE, ELSEWHERE)),
                        shown([run["area"] for run in runs]),
                    ]
                    for title, runs in lines
                ],
            },
        ],
        figures=figures(study, lines, measured),
        missing=[*rows.missing(list(results.values())), *rows.unmeasured(trained, measured)],
        seconds=time.perf_counter() - began,
    )


def measure(study: Study, row: Row) -> list[JSON]:
    """Returns what `parts` says of each measured run of a row.

    Args:
      study: the study.
      row: a trained row of seeds.
    """

    def of_maps(workdirs: Sequence[Path]) -> list[JSON]:
        if not (study.folder(row) / MAPS).exists():
            return []
        maps, truth = external_maps(study, row)
        return [parts(maps[study.workdirs_here(row).index(workdir)], truth) for workdir in workdirs]

    return of_runs(study, row, NAME, of_maps)


def parts(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Returns the mean Dice, the parts of what it lacks, the shares of misses by kind, and the area of the others.

    Args:
      found: probabilities [N, S, S].
      truth: masks {0, 1} [N, S, S]; none is empty.

    Returns:
      "dice"; `PARTS`, which add up to 1 - "dice"; `SMALL`, `LARGE` and `ELSEWHERE`, shares of the
      N images; and "area", the median over images that are no misses of the area found over the true one.
    """
    dice, gain, missed = of_images(found, truth)
    ratio = (found > THRESHOLD).mean(axis=(1, 2)) / truth.mean(axis=(1, 2))
    small, large = missed & (ratio <= 1 / RATIO), missed & (ratio >= RATIO)
    return {
        "dice": float(dice.mean()),
        MISSED: float(np.mean(missed * (1 - dice - gain))),
        MISSED_LEVEL: float(np.mean(missed * gain)),
        LEVEL: float(np.mean(~missed * gain)),
        SHAPE: float(np.mean(~missed * (1 - dice - gain))),
        SMALL: float(small.mean()),
        LARGE: float(large.mean()),
        ELSEWHERE: float((missed & ~small & ~large).mean()),
        "area": float(np.median(ratio[~missed])) if not missed.all() else 0.0,
    }


def of_images(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns each image's Dice, what its own best threshold would add to it, and whether it is a miss; each [N].

    Args:
      found: probabilities [N, S, S].
      truth: masks {0, 1} [N, S, S].
    """
    scored = {threshold: scores(counts_at(found, truth, threshold)) for threshold in {*GRID, THRESHOLD}}
    dice = np.asarray(scored[THRESHOLD]["dice"])
    best = np.max([of_all["dice"] for of_all in scored.values()], axis=0)
    return dice, best - dice, np.asarray(scored[THRESHOLD]["jaccard"]) < LEAST_JACCARD


def figures(study: Study, lines: Sequence[tuple[str, Sequence[JSON]]], measured: Mapping[str, object]) -> list[JSON]:
    """Draws the parts as bars, and examples of the first model whose maps are here; returns the section's figures.

    Args:
      study: the study.
      lines: what `parts` says of runs, with the model's title.
      measured: titles of the models among `MODELS` that are measured.
    """
    drawn = []
    if lines:
        means = {title: {part: rows.mean_sd([run[part] for run in runs])[0] for part in PARTS} for title, runs in lines}
        plots.stacked(
            means, study.place(NAME, "parts.png"), synthetic=study.synthetic, x_label="missing to a Dice of 1"
        )
        drawn.append({"file": "parts.png", "caption": "The parts, means over the runs", "chart": True})
    here = [title for title in MODELS if title in measured and (study.folder(MODELS[title]) / MAPS).exists()]
    if here:
        examples(study, MODELS[here[0]])
        caption = f"{here[0]}: typical misses, and of the others those that lack most by their level"
        drawn.append({"file": "examples.png", "caption": caption})
    return drawn


def examples(study: Study, row: Row) -> None:
    """Draws misses around the median of all misses, and the images that lack most by their level alone.

    Args:
      study: the study.
      row: a row whose maps are here; those of its first run there are shown.
    """
    config = study.config(row)
    external = study.external_set(config)
    pictures, truth = resized(external, config)
    found = external_maps(study, row)[0][0]
    dice, gain, missed = of_images(found, truth[..., 0])
    misses = sorted(np.flatnonzero(missed), key=lambda i: dice[i])
    others = sorted(np.flatnonzero(~missed), key=lambda i: -gain[i])
    middle = max((len(misses) - EXAMPLES) // 2, 0)
    chosen = {"miss": misses[middle : middle + EXAMPLES], "level": others[:EXAMPLES]}
    cases = [
        Case(f"{kind}: {external.names[i]}", pictures[i], truth[i, ..., 0], found[i] > THRESHOLD, float(dice[i]))
        for kind, images in chosen.items()
        for i in images
    ]
    overlay_sheet(
        cases, study.place(NAME, "examples.png"), "Misses, and outlines too wide or close", synthetic=study.synthetic
    )


if __name__ == "__main__":
    main(run, __doc__)
