"""Rows of the study: settings to train with, scores, and lines of tables."""

import dataclasses
import statistics
from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np

from experiments.paper.scales import Changes
from experiments.shared.origin import JSON
from jaxseg.data import Examples
from jaxseg.data.folds import folds
from jaxseg.metrics import COUNTS, SCORES, confusion, scores
from jaxseg.runs.progress import Progress

PAPER: dict[str, dict[str, float]] = {
    "unet_augmented": {"dice": 0.882, "sensitivity": 0.863},
    "resnet_unaugmented": {"dice": 0.929, "sensitivity": 0.906},
    "resnet_augmented": {"dice": 0.938, "jaccard": 0.884, "sensitivity": 0.921, "specificity": 0.980},
}
"""The paper's numbers by row (4.3 and 4.5), on the 379 ISIC 2016 test images; pooled, see RESULTS.md."""

POOLED = ("dice", "jaccard", "sensitivity", "specificity")
"""The pooled scores that tables show."""

CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_dice")
"""Values that a row keeps of every epoch."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Runs that are trained together, and a line of a table.

    Attributes:
      name: name of its folder.
      title: name in tables.
      changes: changes to the scale's settings.
      pretrained: whether the encoder starts with ImageNet weights.
      folds: whether the runs are folds of a cross-validation instead of seeds.
      train_images: number of training images, chosen differently for every seed; 0: all.
      keep: whether the runs' workdirs are kept.
      parent: row whose runs' best weights the runs start with, each with those of its own seed; None: none.
      teacher: row whose runs together label half of the external set, which these runs learn from too; the other half
        tests them. None: they learn from no such image.
    """

    name: str
    title: str
    changes: Changes = dataclasses.field(default_factory=dict)
    pretrained: bool = True
    folds: bool = False
    train_images: int = 0
    keep: bool = True
    parent: "Row | None" = None
    teacher: "Row | None" = None


def few(examples: Examples, count: int, seed: int) -> Examples:
    """Returns a choice of images, stratified by group and repeated until an epoch is as long as with all images.

    Args:
      examples: images to choose from.
      count: number of images to choose; 0: all.
      seed: seed of the choice.
    """
    if not count or count >= len(examples):
        return examples
    # As many folds as images are the order in which images are dealt, group after group.
    order = np.concatenate(folds(examples.names, examples.groups, len(examples), seed))
    chosen = np.sort(order[np.arange(count) * len(examples) // count])
    return examples.select(np.resize(chosen, len(examples)), f"{count} of {examples.split}")


def score(masks: np.ndarray, truth: np.ndarray) -> JSON:
    """Scores masks against the truth.

    Args:
      masks: bool or {0, 1} [N, S, S].
      truth: bool or {0, 1} [N, S, S].

    Returns:
      "images", means over images under "per_image", their standard deviation under "per_image_sd", "pooled", and every
      image's "dice".
    """
    counts = confusion(masks, truth)
    by_image = {name: np.asarray(value, np.float64) for name, value in scores(counts).items()}
    pooled = scores({name: int(counts[name].sum()) for name in COUNTS})
    spread = (lambda v: float(v.std(ddof=1))) if len(truth) > 1 else (lambda v: 0.0)
    return {
        "images": len(truth),
        "per_image": {name: float(by_image[name].mean()) for name in SCORES},
        "per_image_sd": {name: spread(by_image[name]) for name in SCORES},
        "pooled": {name: float(pooled[name]) for name in SCORES},
        "dice": [round(float(value), 4) for value in by_image["dice"]],
    }


def validation_of(at_best: Progress) -> JSON:
    """Returns a run's validation scores at its best epoch, as `score` names them."""
    line = at_best.history[-1]
    return {
        "per_image": {name: line[f"val_{name}"] for name in SCORES},
        "pooled": {name: line[f"val_{name}_pooled"] for name in SCORES},
    }


def member_result(member: Any, progress: Progress, at_best: Progress) -> JSON:
    """Returns what a row keeps of one run's training.

    Args:
      member: the run.
      progress: its progress at the end.
      at_best: its progress after its best epoch.
    """
    return {
        "seed": member.seed,
        "fold": member.fold,
        "parent": "/".join(member.parent.parts[-2:]) if member.parent else None,
        "train_images": len(set(member.train.names)),
        "validation_images": len(member.validation),
        "fingerprints": [member.train.fingerprint(), member.validation.fingerprint()],
        "epochs": progress.epoch,
        "best_epoch": at_best.epoch,
        "stopped": "early" if progress.early_stop.should_stop else "epochs",
        "curves": {name: [round(line[name], 5) for line in progress.history] for name in CURVES},
    }


def left_out(row: Row, why: str) -> JSON:
    """Returns the result of a row that could not be run.

    Args:
      row: the row.
      why: the reason.
    """
    return {"name": row.name, "title": row.title, "missing": why}


def values(result: JSON, test: str, how: str, name: str) -> list[float]:
    """Returns a score of each run.

    Args:
      result: result of a row.
      test: "validation" or "external".
      how: "pooled" or "per_image".
      name: name of the score.
    """
    return [run[how][name] for run in result["tests"].get(test, [])]


def mean_sd(numbers: Sequence[float]) -> tuple[float, float]:
    """Returns mean and sample standard deviation, 0 for one number."""
    return statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0


def cell(result: JSON, test: str, how: str, name: str) -> str:
    """Returns a score as tables show it: mean and standard deviation over the runs, or a dash.

    Args:
      result: result of a row.
      test: "validation" or "external".
      how: "pooled" or "per_image".
      name: name of the score.
    """
    numbers = values(result, test, how, name)
    return shown(numbers) if numbers else "-"


def shown(numbers: Sequence[float]) -> str:
    """Returns mean and standard deviation as "0.912 ± 0.004", and a single number as "0.912"."""
    mean, sd = mean_sd(numbers)
    return f"{mean:.3f} ± {sd:.3f}" if len(numbers) > 1 else f"{mean:.3f}"


def partly(text: str, count: int, result: JSON) -> str:
    """Returns the text of a title or cell, which says where it is of fewer runs than the row has.

    Args:
      text: the text.
      count: number of runs that it is of.
      result: the row's result.
    """
    whole = len(result["members"])
    return text if count == whole else f"{text} ({count} of {whole} runs)"


def compared(results: Sequence[JSON]) -> JSON:
    """Returns the paper's table of 4.5: every number that it gives, our number, and the difference."""
    lines = []
    for result in results:
        for name, theirs in PAPER[result["name"]].items():
            ours, difference = "not run", "-"
            if "external" in result.get("tests", {}):  # not of a row that was trained on the external set
                numbers = values(result, "external", "pooled", name)
                ours, difference = shown(numbers), f"{mean_sd(numbers)[0] - theirs:+.3f}"
            lines.append([result["title"], name, ours, f"{theirs:.3f}", difference])
    head = ["Model", "Score, pooled", "Ours", "Paper", "Difference"]
    return {"caption": "Ours beside the paper's (4.5)", "head": head, "rows": lines}


def tables(results: Sequence[JSON]) -> list[JSON]:
    """Returns a table of scores on the rows' validation images, and one of those on the external set.

    Args:
      results: results of `Study.row`; a row that could not be run has a line that says so.
    """
    names = {name: f"{name.capitalize()}, pooled" for name in POOLED}
    head = ["Model", "Runs", "Dice per image", *names.values()]
    both = []
    for test, caption in (("validation", "Validation images"), ("external", "External set")):
        lines = []
        for result in results:
            if "missing" in result:
                lines.append([result["title"], "not run", *["-"] * (len(head) - 2)])
            elif test in result["tests"]:
                scores = [cell(result, test, "pooled", name) for name in names]
                lines.append([result["title"], runs(result), cell(result, test, "per_image", "dice"), *scores])
        if lines:
            both.append(
                {"caption": f"{caption}: mean and standard deviation over the runs", "head": head, "rows": lines}
            )
    return both


def runs(result: JSON) -> str:
    """Returns how many seeds or folds a row has, in words."""
    return counted(len(result["members"]), folds=result["members"][0]["fold"] is not None)


def counted(count: int, *, folds: bool) -> str:
    """Returns a number of seeds or folds in words.

    Args:
      count: the number.
      folds: whether they are folds.
    """
    return f"{count} {'fold' if folds else 'seed'}{'s' if count > 1 else ''}"


def done(results: Sequence[JSON]) -> list[JSON]:
    """Returns the results of rows that could be run."""
    return [result for result in results if "missing" not in result]


def missing(results: Sequence[JSON]) -> list[str]:
    """Returns a sentence for every row that could not be run."""
    return [f"{result['title']}: {result['missing']}" for result in results if "missing" in result]


def unmeasured(trained: Iterable[str], measured: Container[str]) -> list[str]:
    """Returns a sentence for every row that was trained and lacks what a section measures beyond its scores.

    Args:
      trained: titles of the rows that were trained.
      measured: titles of those that were measured.
    """
    return [f"{title}: trained, not measured" for title in trained if title not in measured]
