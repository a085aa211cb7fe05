"""From PH2 to other cameras: what the preset `generalise` adds to the paper's recipe, step by step.

Steps are judged by PH2 validation, as it is and under drawn artefacts; the external set only reports.

python -m experiments.paper.sections.generalise --out runs/paper --scale cpu
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping

import numpy as np

from experiments.paper import rows, study
from experiments.paper.models import FINAL, FULL, STEPS, TOGETHER, left_out_rows, step_rows
from experiments.paper.rows import JSON, Row
from experiments.paper.sections import robustness
from experiments.paper.stacked import predict, resized
from jaxseg.inference.masks import THRESHOLD, Prediction
from jaxseg.inference.threshold import GRID, best_of_grid
from jaxseg.metrics import confusion, scores

NAME = "generalise"


def run(of: study.Study) -> None:
    """Trains what is not trained, and writes the section."""
    began = time.perf_counter()
    steps = {"the paper's recipe": FULL}
    for row, step in zip(step_rows()[1:], STEPS.values(), strict=True):
        steps[row.title + " (not in the preset)" * (not step.items() <= FINAL.changes.items())] = row
    left_out = {"the six together": step_rows()[TOGETHER]}
    for row in left_out_rows().values():
        left_out[row.title + " (the preset)" * (row == FINAL)] = row
    results = {row.name: of.row(row) for row in (*steps.values(), *left_out.values())}
    tables = [
        training_table(of, steps, results, "Training: Dice per image unless pooled"),
        training_table(of, left_out, results, "The first six steps without one of them: Dice per image unless pooled"),
    ]
    for row, title in ((FULL, "the paper's recipe"), (FINAL, "the preset")):
        if (of.folder(row) / "maps.npz").exists():
            tables.append(prediction_table(of, row, title))
    of.section(
        NAME,
        title="From PH2 to other cameras",
        about=(
            "Steps from the paper's recipe to the preset generalise, each on top of those before it. They are to be "
            "judged by the first two columns: validation images as they are, and spoilt by every artefact at every "
            "severity. The external set shows what it came to."
        ),
        tables=tables,
        missing=rows.missing(list(results.values())),
        seconds=time.perf_counter() - began,
    )


def training_table(of: study.Study, models: Mapping[str, Row], results: Mapping[str, JSON], caption: str) -> JSON:
    """Returns a line per row: plain and spoilt validation images, then the external set; results are by row's name."""
    lines, pooled = [], {"dice": "Dice", "jaccard": "Jaccard", "sensitivity": "sensitivity"}
    for title, row in models.items():
        result = results[row.name]
        if "missing" in result:
            lines.append([title, "not run", *["-"] * 5])
            continue
        spoilt = robustness.measure(of, row, "validation")
        line = [title, rows.cell(result, "validation", "per_image", "dice")]
        line += [rows.shown(robustness.over_all(spoilt)) if spoilt else "not run"]
        line += [rows.cell(result, "external", "per_image", "dice")]
        lines.append([*line, *(rows.cell(result, "external", "pooled", name) for name in pooled)])
    head = ["Step", "Validation", "Validation, artefacts", "External"]
    head += [f"External, pooled: {title}" for title in pooled.values()]
    return {"caption": caption, "head": head, "rows": lines}


def prediction_table(of: study.Study, row: Row, title: str) -> JSON:
    """Returns what better predictions add to a row, which cost no training."""
    lines = []
    for way, found in ways(of, row):
        each = [rows.score(masks, truth) for masks, truth in found]
        cells = [rows.shown([one["per_image"]["dice"] for one in each])]
        cells += [rows.shown([one["pooled"][n] for one in each]) for n in ("dice", "jaccard", "sensitivity")]
        lines.append([way, *cells])
    head = ["Prediction", "External", *(f"External, pooled: {n}" for n in ("Dice", "Jaccard", "sensitivity"))]
    return {"caption": f"Prediction by the runs of {title}: Dice per image unless pooled", "head": head, "rows": lines}


def ways(of: study.Study, row: Row) -> Iterator[tuple[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """Yields titles, and the masks of every run with the truth, of better and better predictions."""
    config = of.config(row)
    _, validation = of.splits(config)
    truth = {
        name: resized(split, config)[1][..., 0]
        for name, split in (("external", of.external_set(config)), ("validation", validation))
    }
    maps = study.load_maps(of.folder(row) / "maps.npz")
    plain, clean = Prediction(), Prediction(largest_component=True, fill_holes=True)
    yield "as it is", [(found > THRESHOLD, truth["external"]) for found in maps["external"]]
    for title, prediction in (
        ("+ threshold chosen on validation", plain),
        ("+ largest component, holes filled", clean),
    ):
        yield (
            title,
            [
                (cut(external, with_best_threshold(own, truth["validation"], prediction)), truth["external"])
                for external, own in zip(maps["external"], maps["validation"], strict=True)
            ],
        )
    turned = turned_maps(of, row)
    for title, part in (("+ the runs as an ensemble", maps), ("+ test-time augmentation", turned)):
        if not part:
            continue
        prediction = with_best_threshold(part["validation"].mean(axis=0), truth["validation"], clean)
        yield title, [(cut(part["external"].mean(axis=0), prediction), truth["external"])]


def turned_maps(of: study.Study, row: Row) -> dict[str, np.ndarray]:
    """Returns a row's maps with test-time augmentation, kept in its folder; none where only to report."""
    path = of.folder(row) / "maps_tta.npz"
    if of.report and not path.exists():
        return {}
    if not path.exists():
        config = of.config(row)
        steps, variables = of.restore(row, tta=True)
        sets = {"external": of.external_set(config), "validation": of.splits(config)[1]}
        study.save_maps(path, {name: predict(steps, variables, resized(s, config)[0]) for name, s in sets.items()})
    return study.load_maps(path)


def cut(maps: np.ndarray, prediction: Prediction) -> np.ndarray:
    """Makes masks bool [N, S, S] of probabilities [N, S, S]."""
    return np.stack([prediction.mask(probability) for probability in maps])


def with_best_threshold(maps: np.ndarray, truth: np.ndarray, prediction: Prediction) -> Prediction:
    """Returns the prediction with the threshold of the highest mean Dice; of equals, that nearest to 0.5."""
    tried = [dataclasses.replace(prediction, threshold=threshold) for threshold in GRID]
    return tried[best_of_grid([np.mean(scores(confusion(cut(maps, one), truth))["dice"]) for one in tried])]


if __name__ == "__main__":
    study.main(run, __doc__)
