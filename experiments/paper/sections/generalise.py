"""From PH2 to other cameras: what each step of the preset `generalise` adds to the paper's recipe.

Steps are chosen by PH2 validation, plain and with drawn artefacts; the external set is scored, but nothing is chosen
by it.

    python -m experiments.paper.sections.generalise --out runs/paper --scale cpu

At scale `cpu` three hours on one core of an AMD EPYC besides the full model. Expect a pooled Dice on the external set
of 0.82 for the paper's recipe and 0.87 for the preset on photographs alone; what drawn images add to it is a section
of its own.
"""

import time
from collections.abc import Iterator, Mapping

import numpy as np

from experiments.paper import rows
from experiments.paper.command import main
from experiments.paper.cuts import CLEAN, cut, with_best_threshold
from experiments.paper.models import FULL, ON_PHOTOGRAPHS, PHOTOGRAPHS, STEPS, TOGETHER, left_out_rows, step_rows
from experiments.paper.pool import resized
from experiments.paper.rows import Row
from experiments.paper.sections import robustness
from experiments.paper.stacked import predict
from experiments.paper.study import MAPS, Study, load_maps, save_maps
from experiments.shared.origin import JSON
from jaxseg.inference.masks import THRESHOLD, Prediction

NAME = "generalise"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # the same rows at every scale
    return [*step_rows(), *left_out_rows().values()]


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    began = time.perf_counter()
    steps = {"the paper's recipe": FULL}
    for row, step in zip(step_rows()[1:], STEPS.values(), strict=True):
        kept = step.items() <= PHOTOGRAPHS.changes.items()
        steps[row.title if kept else f"{row.title} (not in the preset)"] = row
    left_out = {"the six together": step_rows()[TOGETHER]}
    for row in left_out_rows().values():
        left_out[f"{row.title} ({ON_PHOTOGRAPHS})" if row == PHOTOGRAPHS else row.title] = row
    results = {row.name: study.row(row) for row in (*steps.values(), *left_out.values())}
    tables = [
        training_table(study, steps, results, "Training: Dice per image unless pooled"),
        training_table(
            study, left_out, results, "The first six steps without one of them: Dice per image unless pooled"
        ),
    ]
    for row, title in ((FULL, "the paper's recipe"), (PHOTOGRAPHS, ON_PHOTOGRAPHS)):
        if (study.folder(row) / MAPS).exists():
            tables.append(prediction_table(study, row, title))
    study.section(
        NAME,
        title="From PH2 to other cameras",
        about=(
            "Steps from the paper's recipe to the preset generalise, each added to those before it; drawn images, "
            "which it has besides, are in a section of their own. They are judged by the first two columns: validation "
            "images, plain and under every artefact at every severity. The external set shows the outcome."
        ),
        tables=tables,
        missing=rows.missing(list(results.values())),
        seconds=time.perf_counter() - began,
    )


def training_table(study: Study, models: Mapping[str, Row], results: Mapping[str, JSON], caption: str) -> JSON:
    """Returns a table with a line per row: validation images plain and under artefacts, then the external set.

    Args:
      study: the study.
      models: rows by the title of their line.
      results: results by the row's name.
      caption: caption of the table.
    """
    lines, pooled = [], {"dice": "Dice", "jaccard": "Jaccard", "sensitivity": "sensitivity"}
    for title, row in models.items():
        result = results[row.name]
        if "missing" in result:
            lines.append([title, "not run", *["-"] * 5])
            continue
        line = [title, rows.cell(result, "validation", "per_image", "dice"), robustness.cell(study, row, result)]
        line += [rows.cell(result, "external", "per_image", "dice")]
        lines.append([*line, *(rows.cell(result, "external", "pooled", name) for name in pooled)])
    head = ["Step", "Validation", "Validation, artefacts", "External"]
    head += [f"External, pooled: {title}" for title in pooled.values()]
    return {"caption": caption, "head": head, "rows": lines}


def prediction_table(study: Study, row: Row, title: str) -> JSON:
    """Returns a table of what better predictions, which cost no training, add to a row.

    Args:
      study: the study.
      row: a row that kept its probabilities.
      title: name of the row in the caption.
    """
    lines = []
    for way, found in ways(study, row):
        scored = [rows.score(masks, truth) for masks, truth in found]
        cells = [rows.shown([run["per_image"]["dice"] for run in scored])]
        cells += [rows.shown([run["pooled"][n] for run in scored]) for n in ("dice", "jaccard", "sensitivity")]
        lines.append([way, *cells])
    head = ["Prediction", "External", *(f"External, pooled: {n}" for n in ("Dice", "Jaccard", "sensitivity"))]
    return {"caption": f"Prediction by the runs of {title}: Dice per image unless pooled", "head": head, "rows": lines}


def ways(study: Study, row: Row) -> Iterator[tuple[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """Yields titles of better and better predictions, each with the pairs (masks, truth) of all runs.

    Args:
      study: the study.
      row: a row that kept its probabilities.
    """
    config = study.config(row)
    _, validation = study.splits(config)
    truth = {
        name: resized(split, config)[1][..., 0]
        for name, split in (("external", study.external_set(config)), ("validation", validation))
    }
    maps = load_maps(study.folder(row) / MAPS)
    yield "as it is", [(found > THRESHOLD, truth["external"]) for found in maps["external"]]
    for title, prediction in (
        ("+ threshold chosen on validation", Prediction()),
        ("+ largest component, holes filled", CLEAN),
    ):
        yield (
            title,
            [
                (
                    cut(external, with_best_threshold(validation_maps, truth["validation"], prediction)),
                    truth["external"],
                )
                for external, validation_maps in zip(maps["external"], maps["validation"], strict=True)
            ],
        )
    turned = turned_maps(study, row)
    for title, part in (("+ the runs as an ensemble", maps), ("+ test-time augmentation", turned)):
        if not part:
            continue
        prediction = with_best_threshold(part["validation"].mean(axis=0), truth["validation"], CLEAN)
        yield title, [(cut(part["external"].mean(axis=0), prediction), truth["external"])]


def turned_maps(study: Study, row: Row) -> dict[str, np.ndarray]:
    """Returns a row's maps with test-time augmentation, and keeps them in its folder.

    Args:
      study: the study.
      row: a row that kept its runs.

    Returns:
      Probabilities by set; empty if the study only reports and they are not there.
    """
    path = study.folder(row) / "maps_tta.npz"
    if study.report and not path.exists():
        return {}
    if not path.exists():
        config = study.config(row)
        steps, variables = study.restore(row, tta=True)
        sets = {"external": study.external_set(config), "validation": study.splits(config)[1]}
        save_maps(path, {name: predict(steps, variables, resized(s, config)[0]) for name, s in sets.items()})
    return load_maps(path)


if __name__ == "__main__":
    main(run, __doc__)
