"""Compares evaluations of the same images: differences, intervals and tests, as Markdown and CSV."""

import csv
import dataclasses
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.errors import UserError
from jaxseg.evaluation.bootstrap import LEVEL, REPLICATES
from jaxseg.evaluation.records import PerImage, read_per_image
from jaxseg.evaluation.significance import Difference
from jaxseg.runs.workdir import METRICS, PER_IMAGE, belongs_to
from jaxseg.system.files import read_json

REPORT, TABLE = "compare.md", "compare.csv"
"""Files that `jaxseg.compare` writes."""

_HEAD = f"| {100 * LEVEL:g} % interval | p |"
"""End of the head of each table in the report."""

_COLUMNS = ("first_run", "second_run", "score", "kind", "first", "second", "difference", "low", "high", "p")

_DATA = {"dataset", "split", "images", "synthetic", "fingerprint", "trained_on"}
"""Keys that "data" in `metrics.json` must have for a comparison."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation as `evaluate` wrote it.

    Attributes:
      folder: its folder.
      metrics: content of `metrics.json`.
      images: content of `per_image.csv`.
    """

    folder: Path
    metrics: dict[str, Any]
    images: PerImage

    @property
    def about(self) -> str:
        """The data set, the split and the number of images."""
        data = self.metrics["data"]
        return f"{data['dataset']} {data['split']}, {data['images']} images"


def find(runs: Sequence[Path], dataset: str | None = None, split: str | None = None) -> list[Path]:
    """Returns the folder of each run's evaluation.

    Args:
      runs: folders of runs, which hold evaluations, or of evaluations, which say what images are meant.
      dataset: the evaluations' data set; None for any.
      split: the evaluations' split; None for any.

    Returns:
      One folder per run, in the same order.

    Raises:
      UserError: a run was not evaluated, or the runs share no such evaluation, or several.
    """
    given = [run for run in runs if _is_evaluation(run)]
    by_run = {run: _evaluations(run) for run in runs if run not in given}
    if not by_run:
        if dataset or split:
            raise UserError(f"{runs[0]} is an evaluation itself: leave out --data and --split, which choose a run's")
        return list(runs)
    shared = _shared(by_run, dataset, split)
    if len(shared) > 1 and given:
        shared = _shared(by_run, dataset, split, _read_metrics(given[0])) or shared
    if not shared:
        if alike := _of_same_images(by_run, given, dataset, split):
            return [alike.get(run, run) for run in runs]
        there = "; ".join(f"{run} has {', '.join(folders)}" for run, folders in by_run.items())
        asked = " as asked for" if dataset or split else ""
        raise UserError(f"no evaluation{asked} is shared: {there}; evaluate all runs on the same set")
    if len(shared) > 1:
        raise UserError(
            f"several evaluations are shared: {', '.join(shared)}; choose one with --data and --split, or give the "
            f"folders themselves, as {next(iter(by_run))}/evaluation/{shared[0]}"
        )
    return [by_run[run][shared[0]] if run in by_run else run for run in runs]


def _is_evaluation(folder: Path) -> bool:
    return (folder / PER_IMAGE).exists() and (folder / METRICS).exists()


def _evaluations(run: Path) -> dict[str, Path]:
    """Returns the evaluations of a run by the names of their folders, sorted."""
    if not run.is_dir():
        raise UserError(f"{run}: no such folder")
    found = {path.parent.name: path.parent for path in sorted(run.glob(f"evaluation/*/{METRICS}"))}
    found = {name: folder for name, folder in found.items() if _is_evaluation(folder)}
    if not found:
        raise UserError(f"{run}: holds no evaluation; make one first: python -m jaxseg.evaluate --workdir {run}")
    return found


def _shared(by_run: dict[Path, dict[str, Path]], *wanted: Any) -> list[str]:
    """Returns the names of the evaluations that every run has and whose data are as wanted, sorted."""
    fitting = ({name for name, f in folders.items() if _fits(f, *wanted)} for folders in by_run.values())
    return sorted(set.intersection(*fitting))


def _of_same_images(
    by_run: dict[Path, dict[str, Path]], given: Sequence[Path], dataset: str | None, split: str | None
) -> dict[Path, Path] | None:
    """Returns an evaluation of each run, all of the same images though their sets are called otherwise.

    Returns:
      The folders by run; None where there is no such choice, or more than one.
    """
    first = next(iter(by_run.values()))
    starts = given[:1] or [folder for folder in first.values() if _fits(folder, dataset, split)]
    choices = []
    for start in starts:
        like = _read_metrics(start)
        alike = {
            run: [folder for folder in folders.values() if _fits(folder, None, None, like)]
            for run, folders in by_run.items()
        }
        if all(len(folders) == 1 for folders in alike.values()):
            choices.append({run: folders[0] for run, folders in alike.items()})
    return choices[0] if len(choices) == 1 else None


def _fits(folder: Path, dataset: str | None, split: str | None, like: dict[str, Any] | None = None) -> bool:
    """Tells whether an evaluation's data are called as wanted, and are the images of another's metrics."""
    metrics = _read_metrics(folder)
    data = metrics["data"]
    # A folder's name is recorded as its whole path.
    named_so = dataset is None or data["dataset"] in (dataset, str(Path(dataset).expanduser().resolve()))
    return named_so and split in (None, data["split"]) and (like is None or _of_the_same(like, metrics))


def _of_the_same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Tells whether two metrics are of the same images: by content, or by fingerprint where an older one has none."""
    identities = [metrics.get("identity") for metrics in (first, second)]
    if all(isinstance(identity, dict) for identity in identities):
        of_first, of_second = identities
        return any(of_first.get(k) is not None and of_first.get(k) == of_second.get(k) for k in ("pixels", "files"))
    return first["data"]["fingerprint"] == second["data"]["fingerprint"]


def _read_metrics(folder: Path) -> dict[str, Any]:
    """Reads `metrics.json` and checks that it describes its data.

    Raises:
      UserError: the file cannot be read, or `evaluate` did not write it.
    """
    metrics = read_json(folder / METRICS)
    if not isinstance(data := metrics.get("data"), dict) or not data.keys() >= _DATA:
        raise UserError(f"{folder / METRICS}: not what evaluate writes; evaluate again")
    return metrics


def load(folder: Path) -> Evaluation:
    """Reads an evaluation.

    Raises:
      UserError: a file is missing, damaged, changed since, or written by an older jaxseg.
    """
    metrics = _read_metrics(folder)
    if "prediction" not in metrics:
        raise UserError(f"{folder / METRICS}: an older jaxseg wrote it; evaluate again")
    images = read_per_image(folder)
    if not belongs_to(folder, metrics):
        raise UserError(
            f"{folder / PER_IMAGE}: is not as evaluate wrote it with {METRICS}, so whose scores its lines hold is not "
            "certain; evaluate again"
        )
    return Evaluation(folder, metrics, images)


def check_same_images(evaluations: Sequence[Evaluation]) -> None:
    """Checks that all evaluations are of the same images in the same order.

    Compares the content of images and masks; for evaluations of an older jaxseg the data's fingerprint and the names.

    Raises:
      UserError: two evaluations are of different images, or list them in another order.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        if first.images.names != other.images.names and sorted(first.images.names) == sorted(other.images.names):
            raise UserError(
                f"{first.folder / PER_IMAGE} and {other.folder / PER_IMAGE} list the same images in another order, so "
                "one was changed since; evaluate again"
            )
        # Rows belong together by their place: images that were only renamed may be called otherwise.
        by_content = "identity" in first.metrics and "identity" in other.metrics
        same_rows = (
            len(first.images.names) == len(other.images.names)
            if by_content
            else (first.images.names == other.images.names)
        )
        if not same_rows or not _of_the_same(first.metrics, other.metrics):
            prints = [e.metrics["data"]["fingerprint"] for e in (first, other)]
            raise UserError(
                f"{first.folder} ({first.about}, fingerprint {prints[0]}) and {other.folder} ({other.about}, "
                f"fingerprint {prints[1]}) are not of the same images; evaluate both runs on the same set"
            )


def markdown(evaluations: Sequence[Evaluation], compared: Sequence[Sequence[Difference]]) -> str:
    """Returns the report: what is compared, a table for each run but the first, and how to read the tables.

    Args:
      evaluations: all runs, the first being the one that others are compared with.
      compared: lines of each run but the first.
    """
    first, letters = evaluations[0], [chr(ord("A") + i) for i in range(len(evaluations))]
    lines = [f"# {first.about}", ""]
    if first.metrics["data"]["synthetic"]:
        lines += ["**SYNTHETIC DATA: no result on real lesions.**", ""]
    folders = [e.folder.resolve() for e in evaluations]
    for i, (letter, evaluation) in enumerate(zip(letters, evaluations, strict=True)):
        same = folders.index(folders[i])
        twice = f", **the same evaluation as {letters[same]}**" if same < i else ""
        lines.append(f"- {letter}: {_described(evaluation)}{twice}")
    for letter, tests in zip(letters[1:], compared, strict=True):
        lines += ["", f"| Score | A | {letter} | {letter} - A {_HEAD}"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
        lines += [_row(line) for line in tests]
    lines += ["", _explanation(len(compared))]
    return "\n".join(lines) + "\n"


def _described(evaluation: Evaluation) -> str:
    """Returns an evaluation's folder, how its masks were made, and a warning if it is no honest test."""
    prediction = evaluation.metrics["prediction"]
    members = [f"{m['workdir']} step {m['step']}" for m in prediction["ensemble"]]
    options = {
        "test_time_augmentation": "test-time augmentation",
        "largest_component": "only the largest component",
        "fill_holes": "holes filled",
    }
    parts = [f"`{evaluation.folder}`: {' + '.join(members)}", f"threshold {prediction['threshold']:g}"]
    parts += [words for name, words in options.items() if prediction[name]]
    return ", ".join([*parts, *(f"**{doubt}**" for doubt in _doubts(evaluation.metrics))])


def _doubts(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yields what makes an evaluation no honest test, or may."""
    seen, identity = metrics["data"]["trained_on"], metrics.get("identity", {})
    if seen is None:
        yield "it cannot be told whether some of these images were TRAINED ON"
    elif seen:
        yield f"{seen} of these images were TRAINED ON: not an honest test"
    if copies := identity.get("copies"):
        yield f"{copies} of these images LOOK LIKE TRAINING IMAGES: not an honest test"
    if validated_on := identity.get("validated_on"):
        yield f"{validated_on} of these images chose the epoch whose weights are kept: the scores flatter a little"
    if chosen := (metrics["prediction"]["threshold_chosen_on"] or {}).get("scored_images"):
        yield f"threshold CHOSEN ON {chosen} of these images: not an honest test"


def _row(line: Difference) -> str:
    name = line.score.replace("_", " ") + (", pooled" if line.kind == "pooled" else "")
    # Distances are in pixels, all else is at most 1.
    digits = 2 if line.score == "hausdorff95" else 4
    interval = f"[{line.low:+.{digits}f}, {line.high:+.{digits}f}]"
    numbers = f"{line.first:.{digits}f} | {line.second:.{digits}f} | {line.difference:+.{digits}f} | {interval}"
    p = "" if line.p is None else "< 0.0001" if line.p < 1e-4 else f"{line.p:.4f}"
    return f"| {name} | {numbers} | {p} |"


def _explanation(comparisons: int) -> str:
    corrected = f"corrected by Holm for the {comparisons} runs compared with A, " if comparisons > 1 else ""
    return (
        "Means over images at their own resolution, and pooled scores of summed pixel counts. Hausdorff distances "
        f"(pixels; relative: share of the image's diagonal) are better when lower, all others when higher. Interval: "
        f"paired bootstrap, {REPLICATES:,} draws of images. p: Wilcoxon's signed-rank test of the images' differences, "
        f"two-sided, {corrected}not corrected for the number of scores."
    )


def check_may_replace(out: Path, evaluations: Sequence[Evaluation]) -> None:
    """Checks that a folder holds no files that the report would replace, other than a report of the same evaluations.

    Args:
      out: the folder.
      evaluations: what is compared, the first being the one that others are compared with.

    Raises:
      UserError: it holds such a file, or is a file itself.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; give a folder")
    for name, mark in ((REPORT, _HEAD), (TABLE, ",".join(_COLUMNS))):
        path = out / name
        if path.exists() and mark.encode() not in path.read_bytes():
            raise UserError(f"{path}: is not by jaxseg.compare, which would replace it; give another --out")
    if not (out / REPORT).exists():
        return
    lines = (out / REPORT).read_text(encoding="utf-8").splitlines()
    compared = [found[1] for line in lines if (found := re.match(r"- .: `([^`]*)`", line))]
    if [Path(folder).resolve() for folder in compared] != [evaluation.folder.resolve() for evaluation in evaluations]:
        raise UserError(f"{out / REPORT}: compares other evaluations, and would be replaced; give another --out")


def table_csv(evaluations: Sequence[Evaluation], compared: Sequence[Sequence[Difference]]) -> str:
    """Returns all comparisons as one table, a line per run and score.

    Args:
      evaluations: all runs, the first being the one that others are compared with.
      compared: lines of each run but the first.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for other, tests in zip(evaluations[1:], compared, strict=True):
        for line in tests:
            table.writerow([evaluations[0].folder, other.folder, *(getattr(line, name) for name in _COLUMNS[2:])])
    return text.getvalue()
