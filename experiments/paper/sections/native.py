"""At the images' own size, as `evaluate` scores: the rows beside the paper, the challenge's winner, and the experts.

    python -m experiments.paper.sections.native --out runs/paper --scale full --runs 1 --in-turn

Three minutes per run at scale `full` on two cores of an AMD EPYC, for 746 external images. Expect a Dice per image on
the external set of about 0.87 for the preset `generalise` as it is.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.paper import cuts, rows
from experiments.paper.command import main
from experiments.paper.measured import of_runs
from experiments.paper.models import BARE, FULL, NETWORKS, UNET
from experiments.paper.rows import Row
from experiments.paper.sections import encoders
from experiments.paper.study import Study
from experiments.shared.console import say
from experiments.shared.origin import JSON
from jaxseg import data
from jaxseg.evaluation.records import Scored, score_tables
from jaxseg.evaluation.scoring import score_images
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter
from jaxseg.inference.threshold import choose_threshold
from jaxseg.metrics import LEAST_JACCARD
from jaxseg.system.files import write_json

NAME = "native"

AS_IT_IS, CLEAN = "as it is", "threshold from validation, clean masks"
"""The two ways to make masks: cut at 0.5; and the threshold that is best on validation, largest component, holes
filled."""

OTHERS = (
    (
        "the paper's full model (4.5), ISIC 2016 test, 379 images",
        "-",
        "-",
        "0.938",
        "0.884",
        "Pooled, as its Dice and Jaccard fit the formula J = D / (2 - D): beside our pooled columns, on other images.",
    ),
    (
        "the challenge's winner, ISIC 2016 test, 379 images",
        "0.910",
        "0.843",
        "-",
        "-",
        "Trained on 900 images of the same cameras: beside the row in its own domain alone.",
    ),
    (
        "two experts with each other, ISIC archive",
        "0.78 (median 0.86)",
        "-",
        "-",
        "-",
        "Mean over pairs of masks of images that have several, often the hard ones: no ceiling for easy images.",
    ),
    (
        "two experts with each other, 64 ISIC 2016 test images",
        "0.893",
        "0.815",
        "-",
        "-",
        "The images were not drawn at random; of the challenge's kind, so the nearest to a ceiling of these columns.",
    ),
)
"""Numbers of others: title, Dice and Jaccard per image, Dice and Jaccard pooled, and what they compare with."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    return list(_titled(study).values())


def _titled(study: Study) -> dict[str, Row]:
    """Returns the rows by their titles in the section's tables, the dearest last."""
    models = {row.title: row for row in (FULL, BARE)} | NETWORKS
    scratch = {title: row for row, title in encoders.titled_rows(study) if row.name == "scratch_resnet50v2"}
    return models | scratch | {UNET.title: UNET}


def run(study: Study) -> None:
    """Scores what is not there yet, and writes the section."""
    began = time.perf_counter()
    models = _titled(study)
    results = [study.row(row) for row in models.values()]
    trained = [title for title, result in zip(models, results, strict=True) if "missing" not in result]
    measured = {title: found for title in trained if (found := measure(study, models[title]))}
    tables = [table(measured, test) for test in ("external", "validation")] if measured else []
    study.section(
        NAME,
        title="At the images' own size",
        paper="4.5",
        about=(
            "Scores as evaluate gives them: maps resized to each image's own size, compared with the original mask; "
            f"mean and standard deviation over the runs. Failed: Jaccard below {LEAST_JACCARD}. Area: found divided by "
            "true, median over images. Hausdorff 95 in percent of the image's diagonal."
        ),
        tables=[*tables, others()],
        missing=[
            *rows.missing(results),
            *rows.unmeasured(trained, measured),
        ],
        seconds=time.perf_counter() - began,
    )


def measure(study: Study, row: Row) -> JSON:
    """Scores a row's runs, each alone and together as an ensemble, and keeps the scores in the row's folder.

    Args:
      study: the study.
      row: a trained row; one of folds is scored on validation images alone, cut at 0.5, as nothing else is held out.

    Returns:
      By "validation" and "external", and by way of making masks: "runs", the scores of each that is scored, and
      "ensemble", those of several together with their number as "runs", or None. Empty where no run is scored.
    """
    runs = of_runs(study, row, "native", lambda workdirs: [_score(study, row, [one]) for one in workdirs])
    if not runs:
        return {}
    together = {} if row.folds else _ensemble(study, row)  # each fold has images that the others trained on
    return {
        test: {
            way: {
                "runs": [run[test][way] for run in runs],
                "ensemble": {"runs": together["runs"], **together[test][way]} if together else None,
            }
            for way in runs[0][test]
        }
        for test in runs[0]
    }


def tables_of_folds(study: Study, models: Sequence[Row]) -> list[JSON]:
    """Returns a table of rows of folds, each scored on the images that it held out; none if no run is scored.

    Args:
      study: the study.
      models: trained rows of folds.
    """
    measured = {row.title: found for row in models if (found := measure(study, row))}
    return [table(measured, "validation", folds=True)] if measured else []


def _ensemble(study: Study, row: Row) -> JSON:
    """Returns the scores of a row's runs together, and their number as "runs": of the most that were ever in one place.

    Empty if there were never two: an ensemble takes the weights, which runs from another machine do not bring.
    """
    path = study.folder(row) / "native_ensemble.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    here = study.workdirs_here(row)
    if len(here) > max(1, found.get("runs", 1)) and not study.report:
        found = {"runs": len(here), **_score(study, row, here)}
        write_json(path, found)
    return found


def _score(study: Study, row: Row, workdirs: Sequence[Path]) -> JSON:
    """Returns the scores of one run, or of several as an ensemble, by set and way of making masks."""
    say(f"native: {row.title}, {' + '.join(workdir.name for workdir in workdirs)}")
    segmenter = Segmenter.load(*workdirs)
    where = dataclasses.replace(segmenter.config.data, data_dir=study.data_dir)
    ways, sets = {AS_IT_IS: Prediction()}, {"validation": data.training_splits(where)[1]}
    if not row.folds:
        ways[CLEAN] = choose_threshold(segmenter, cuts.CLEAN, study.data_dir)
        sets["external"] = study.external_set(study.config(row))
    result = {}
    for test, examples in sets.items():
        scored = list(score_images(segmenter, list(ways.values()), examples, segmenter.config.data.workers))
        result[test] = {
            way: {
                "threshold": prediction.threshold,
                **numbers(of_way),
                "native": score_tables(of_way, examples.groups, segmenter.image_size)["native"],
            }
            for (way, prediction), of_way in zip(ways.items(), zip(*scored, strict=True), strict=True)
        }
    return result


def numbers(scored: Sequence[Scored]) -> JSON:
    """Returns what the usual tables of scores lack: "failed", a share of the images, and "area", found over true.

    Args:
      scored: the images; one without lesion has no area ratio.
    """
    areas = [
        (s.native_counts["tp"] + s.native_counts["fp"]) / true
        for s in scored
        if (true := s.native_counts["tp"] + s.native_counts["fn"])
    ]
    failed = [s.native["jaccard"] < LEAST_JACCARD for s in scored]
    return {"failed": float(np.mean(failed)), "area": float(np.median(areas)) if areas else 0.0}


def table(measured: dict[str, JSON], test: str, *, folds: bool = False) -> JSON:
    """Returns a table with a line per row and way of making masks, single runs and ensemble.

    Args:
      measured: scores by the row's title, as `measure` returns them.
      test: "validation" or "external".
      folds: whether the rows' runs are folds.
    """
    lines = []
    for title, found in measured.items():
        for way, of_way in found[test].items():
            lines.append([title, way, rows.counted(len(of_way["runs"]), folds=folds), *_cells(of_way["runs"])])
            if of_way["ensemble"]:
                lines.append([title, way, f"ensemble of {of_way['ensemble']['runs']}", *_cells([of_way["ensemble"]])])
    head = ["Model", "Masks", "Runs", "Dice", "Jaccard", "Thresholded Jaccard", "Failed", "Hausdorff 95", "Area"]
    captions = {"external": "External set", "validation": "Validation images"}
    return {
        "caption": f"{captions[test]}{', at their own size' if folds else ''}: per image unless pooled",
        "head": [*head, "Dice, pooled", "Jaccard, pooled"],
        "rows": lines,
    }


def _cells(runs: Sequence[JSON]) -> list[str]:
    """Returns the scores of a line; that of a single run has the bootstrap interval of its Dice."""
    each = {name: [run["native"]["per_image"][name] for run in runs] for name in runs[0]["native"]["per_image"]}
    dice = rows.shown(each["dice"])
    if len(runs) == 1:
        low, high = runs[0]["native"]["per_image_interval"]["dice"]
        dice += f" [{low:.3f}, {high:.3f}]"
    return [
        dice,
        rows.shown(each["jaccard"]),
        rows.shown(each["thresholded_jaccard"]),
        rows.shown([run["failed"] for run in runs]),
        rows.shown([100 * value for value in each["hausdorff95_relative"]]),
        rows.shown([run["area"] for run in runs]),
        *(rows.shown([run["native"]["pooled"][name] for run in runs]) for name in ("dice", "jaccard")),
    ]


def others() -> JSON:
    """Returns the table of what others reach, each with a sentence on what it can be compared with."""
    head = ["Whose", "Dice", "Jaccard", "Dice, pooled", "Jaccard, pooled", "What can be compared"]
    return {"caption": "Beside the paper and the field", "head": head, "rows": [list(line) for line in OTHERS]}


if __name__ == "__main__":
    main(run, __doc__)
