"""What drawn images bring: beside PH2, alone, and before PH2.

Drawn images are those of `jaxseg.synthetic`, never the same twice. Rows are judged by PH2 validation, plain and with
drawn artefacts, and by drawn images that no run was trained on; the external set is scored, and chooses nothing.

    python -m experiments.paper.sections.drawn --out runs/paper --scale cpu

At scale `cpu` three and a quarter hours on two cores of an AMD EPYC, half an hour for the small network on most drawn
images; the ResNet on as many was not run.
"""

import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.paper import rows, style
from experiments.paper.command import main
from experiments.paper.cuts import CLEAN, cut, with_best_threshold
from experiments.paper.drawn_models import (
    KINDS,
    alone_row,
    epochs_of,
    few_row,
    longer_row,
    models,
    pretrained_alone_row,
    share_row,
)
from experiments.paper.measured import of_runs
from experiments.paper.models import FINAL, PHOTOGRAPHS
from experiments.paper.pool import resized
from experiments.paper.rows import Row, shown
from experiments.paper.sections import robustness
from experiments.paper.stacked import predict
from experiments.paper.study import MAPS, Study, load_maps, save_maps
from experiments.shared.origin import JSON
from jaxseg import synthetic
from jaxseg.inference.masks import THRESHOLD

NAME = "drawn"

SEED = 2016
"""Seed of the drawn images that are scored; runs draw from seeds that count from 0."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows, in the order of the work."""
    return list(models(study).values())


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    began = time.perf_counter()
    results = {row.name: done(study, row) for row in rows_of(study)}
    write(study, results, time.perf_counter() - began)


def done(study: Study, row: Row) -> JSON:
    """Returns a row's result after all that it takes to show it: a study that is cut short shows with `--report`.

    Args:
      study: the study.
      row: the row; it is trained if it is not there.
    """
    result = study.row(row)
    if row.keep and "tests" in result and not study.report:
        robustness.measure(study, row, "validation")
        measure(study, row)
    return result


def write(study: Study, results: Mapping[str, JSON], seconds: float) -> None:
    """Writes the section from the rows that are done.

    Args:
      study: the study.
      results: results by the row's name.
      seconds: wall time of the section so far.
    """
    trained = {title: row for title, row in models(study).items() if "tests" in results.get(row.name, {})}
    measured = {title: runs for title, row in trained.items() if (runs := measure(study, row))}
    preset_first = dict(sorted(models(study).items(), key=lambda item: item[1].name.startswith("drawn_")))
    tables = [training_table(study, preset_first, results, measured)]
    if measured:
        tables.append(style_table(measured))
    # Mean maps are of runs whose maps are here, not of those whose scores came from another machine.
    if found := {title: maps for title, row in trained.items() if (maps := maps_of(study, row))}:
        tables.append(together_table(study, found, truths(study)))
    told = [results[row.name] | {"title": title} for title, row in models(study).items()]
    study.section(
        NAME,
        title="What drawn images bring",
        about=(
            "Rows of the preset's network train the ResNet with ImageNet weights, for as many steps whatever their "
            "share of drawn images, unless their title says more; on drawn images alone they see as many as it says. "
            "Small rows train the plain U-Net of the model inside the package from random weights. Where "
            f"PH2 comes after drawn images, each seed starts with its own run of {study.scale.drawn.seen[0]:,} drawn "
            f"images alone, and trains for {epochs_of(study)} epochs at a tenth of the rate. The first three columns "
            "judge, the external set shows the outcome. Rows of drawn images alone choose their epoch by images of the "
            "embedded synthetic set, all others by PH2 validation.\n\n"
            f"{style.ABOUT}"
        ),
        tables=tables,
        missing=[*rows.missing(told), *rows.unmeasured(trained, measured)],
        rows=list(results),
        seconds=seconds,
    )


def measure(study: Study, row: Row) -> list[JSON]:
    """Returns what the tables show of each run of a row, and keeps it in the row's folder.

    Args:
      study: the study.
      row: a trained row that kept its runs.

    Returns:
      For each measured run mean Dice of "validation" and "drawn", and "style" on the external set.
    """

    def of_maps(workdirs: Sequence[Path]) -> list[JSON]:
        maps, truth = maps_of(study, row), truths(study)
        if not maps:  # the row trains on the external set
            return []
        here = study.workdirs_here(row)
        return [
            {
                **{name: robustness.dice_of(maps[name][i], truth[name]) for name in ("validation", "drawn")},
                "style": style.of_masks(maps["external"][i] > THRESHOLD, truth["external"]),
            }
            for i in map(here.index, workdirs)
        ]

    return of_runs(study, row, NAME, of_maps)


def maps_of(study: Study, row: Row) -> dict[str, np.ndarray]:
    """Returns the probabilities of a row's runs that are here, and keeps those of PH2 validation and of drawn images.

    Args:
      study: the study.
      row: a trained row that kept its runs.

    Returns:
      Probabilities [M, N, S, S] of "external", "validation" (of PH2, whatever the row validates on) and "drawn"; empty
      if the study only reports and they are not there, or if the row trains on the external set, or has no run here.
    """
    path = study.folder(row) / "maps_drawn.npz"
    if not (study.folder(row) / MAPS).exists() or (study.report and not path.exists()):
        return {}
    if not path.exists():
        config = study.config(row)
        steps, variables = study.restore(row)
        images = {
            "validation": resized(study.home_validation(config), config)[0],
            "drawn": drawn_images(study.scale.drawn.validation, config.data.image_size)[0],
        }
        save_maps(path, {name: predict(steps, variables, part) for name, part in images.items()})
    maps = load_maps(study.folder(row) / MAPS) | load_maps(path)
    return maps if "external" in maps else {}


@functools.cache
def drawn_images(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns drawn images uint8 [N, S, S, 3] and masks uint8 {0, 1} [N, S, S, 1] that no run is trained on.

    Args:
      count: number of images.
      size: their side, pixels.
    """
    images, masks = jax.jit(lambda key: synthetic.draw(key, count, size, size))(jax.random.key(SEED))
    return np.asarray(images), np.asarray(masks)


def truths(study: Study) -> dict[str, np.ndarray]:
    """Returns the masks {0, 1} [N, S, S] of the three sets of `maps_of`."""
    config = study.config(FINAL)
    return {
        "external": resized(study.external_set(config), config)[1][..., 0],
        "validation": resized(study.home_validation(config), config)[1][..., 0],
        "drawn": drawn_images(study.scale.drawn.validation, config.data.image_size)[1][..., 0],
    }


def training_table(
    study: Study, shown_rows: Mapping[str, Row], results: Mapping[str, JSON], measured: Mapping[str, Sequence[JSON]]
) -> JSON:
    """Returns a table of rows of whole sets: three columns to judge by, then the external set.

    Args:
      study: the study.
      shown_rows: rows by title, in the order of the lines.
      results: results by the row's name.
      measured: what `measure` returns, by the title of the row.
    """
    table = []
    for title, row in shown_rows.items():
        if title not in measured:
            table.append([title, "not run", *["-"] * 6])
            continue
        result, runs = results[row.name], measured[title]
        table.append(
            [
                rows.partly(title, len(runs), result),
                shown([run["validation"] for run in runs]),
                robustness.cell(study, row, result),
                shown([run["drawn"] for run in runs]),
                rows.cell(result, "external", "per_image", "dice"),
                *(rows.cell(result, "external", "pooled", name) for name in ("dice", "jaccard", "sensitivity")),
            ]
        )
    head = ["Trained on", "PH2 validation", "PH2 validation, artefacts", "Drawn", "External"]
    head += [f"External, pooled: {name}" for name in ("Dice", "Jaccard", "sensitivity")]
    return {"caption": "Training: Dice per image unless pooled", "head": head, "rows": table}


def style_table(measured: Mapping[str, Sequence[JSON]]) -> JSON:
    """Returns the table that tells style from misses on the external set, at the threshold 0.5.

    Args:
      measured: what `measure` returns, by the title of the row.
    """
    table = [[title, *style.cells([run["style"] for run in runs])] for title, runs in measured.items()]
    return {"caption": "Style and misses on the external set", "head": ["Trained on", *style.MEASURES], "rows": table}


def together_table(
    study: Study, found: Mapping[str, Mapping[str, np.ndarray]], truth: Mapping[str, np.ndarray]
) -> JSON:
    """Returns the table of runs alone and of mean maps of two, with clean masks and thresholds from PH2 validation.

    Args:
      study: the study.
      found: probabilities by the title of the row, as `maps_of` returns them.
      truth: masks by set.
    """
    whole = {row.name: title for title, row in models(study).items() if title in found}
    sizes = study.scale.drawn

    def there(*some: Row) -> list[str]:
        return [whole[row.name] for row in some if row.name in whole]

    both = there(PHOTOGRAPHS, FINAL)
    beside = there(*(share_row(study, share) for share in sizes.shares))
    longer = there(longer_row(study))
    alone = there(
        *(alone_row(study, seen) for seen in sizes.seen if seen >= sizes.seen[0]),  # fewer are of the curve alone
        *(pretrained_alone_row(study, seen) for seen in sizes.seen_pretrained),
    )
    after = there(few_row(study, max(sizes.few), KINDS[2]))
    members = {title: [found[title]] for title in (*both, *longer, *beside, *alone, *after)}
    for title in (title for title in both if len(next(iter(found[title].values()))) > 1):
        # Two of one kind: what two networks gain by being two.
        turned = {name: np.roll(maps, 1, axis=0) for name, maps in found[title].items()}
        members[f"{title}: two seeds"] = [found[title], turned]
    for one in (*both, *beside):
        for other in (*alone, *after):
            members[f"{one}; with {other}"] = [found[one], found[other]]
    return clean_table(members, truth)


def clean_table(members: Mapping[str, Sequence[Mapping[str, np.ndarray]]], truth: Mapping[str, np.ndarray]) -> JSON:
    """Returns the table of mean maps, with clean masks and thresholds from PH2 validation.

    Args:
      members: probabilities [M, N, S, S] by set, as `maps_of` returns them, of all whose mean is taken, by title.
      truth: masks by set.
    """
    table = []
    for title, parts in members.items():
        maps = {name: np.mean([part[name] for part in parts], axis=0) for name in ("external", "validation")}
        ways = [with_best_threshold(run, truth["validation"], CLEAN) for run in maps["validation"]]
        masks = [cut(run, way) for run, way in zip(maps["external"], ways, strict=True)]
        own = [
            rows.score(cut(run, way), truth["validation"])["per_image"]["dice"]
            for run, way in zip(maps["validation"], ways, strict=True)
        ]
        scored = [rows.score(run, truth["external"]) for run in masks]
        cells = [shown(own), shown([run["per_image"]["dice"] for run in scored])]
        cells += [shown([run["pooled"][name] for run in scored]) for name in ("dice", "jaccard")]
        table.append([title, *cells, *style.cells([style.of_masks(run, truth["external"]) for run in masks])])
    head = [
        "Mean map of",
        "PH2 validation",
        "External",
        "External, pooled: Dice",
        "External, pooled: Jaccard",
        *style.MEASURES,
    ]
    caption = "Ensembles: threshold from PH2 validation, largest component, holes filled"
    return {"caption": caption, "head": head, "rows": table}


if __name__ == "__main__":
    main(run, __doc__)
