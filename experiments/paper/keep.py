"""Keeps a study's numbers and charts under `experiments/results/`, and writes the tables of them into RESULTS.md.

    python -m experiments.paper.keep runs/paper             (keeps a study: a second)
    python -m experiments.paper.keep --scale cpu            (writes the text again from the kept numbers)
    python -m experiments.paper.keep runs/paper --only drawn    (keeps one section by itself)
    python -m experiments.paper.keep --scale full --into runs/full    (brings kept rows to a new study)

The text goes between the marks `<!-- paper_SCALE -->` of `experiments/results/RESULTS.md`, the numbers into
`paper_SCALE.json`. With `--only` both are named after the section, and what is kept of the whole study stays. Pictures
of patients' skin stay in the study. No number is typed by hand. At scale `cpu` expect a pooled Dice of 0.82 for the
full model on the external set.

A study goes on on another machine, where its weights are not: `--into` writes the kept rows into the new study's
folder, which shows them, trains what they lack (`--in-turn --runs 3` adds runs to a row of one), and is kept in turn.
"""

import argparse
import itertools
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.paper.measured import all_of_row
from experiments.paper.rows import POOLED, cell, runs
from experiments.paper.scales import SCALES
from experiments.paper.study import ROW_FILE
from experiments.shared.origin import JSON, RESULTS, hardware, names_alone
from experiments.shared.tables import PAGE, markdown, write_between
from jaxseg.system.files import write_json

TABLES = (
    ("three_models", "Ours beside"),
    ("native", ""),
    ("in_domain", "Validation images, at their own size"),
    ("generalise", ""),
    ("gap", ""),
    ("remaining", ""),
    ("thresholds", ""),
    ("hard_cases", ""),
    ("low_data", ""),
    ("robustness", "Dice per image, mean over all"),
    ("stacked_speed", ""),
)
"""Sections whose tables RESULTS.md shows, and how the captions of these tables begin."""


ALONE = ("widened", "drawn", "drawn_few", "both_ways", "self_training")
"""Sections that can be kept by themselves; each names its rows."""


def collect(study: Path, only: str | None = None) -> JSON:
    """Returns what is kept of a study: its rows by name, and its sections.

    Args:
      study: the study's folder.
      only: name of a section; it and its rows alone are kept. None: all.

    Raises:
      SystemExit: no row of the study, or of the section, is done.
    """
    rows = [json.loads(path.read_text()) for path in sorted(study.glob("rows/*/row.json"))]
    sections = [json.loads(path.read_text()) for path in sorted(study.glob("sections/*/section.json"))]
    if only:
        sections = [section for section in sections if section["name"] == only]
        rows = [row for row in rows if any(row["name"] in section["rows"] for section in sections)]
    if not rows:
        what = f"no row of the section {only}" if only else "no row in it"
        raise SystemExit(f"keep: error: {study}: {what} is done; run python -m experiments.paper first")
    for row in rows:
        row["measured"] = all_of_row(study / "rows" / row["name"])
        for test in row["tests"].values():
            for run in test:
                run.pop("dice", None)  # per image: a tenth of a megabyte in all
    content = {
        "kind": only or "paper",
        "scale": rows[0]["scale"],
        "rows": {row["name"]: row for row in rows},
        "sections": {section["name"]: section for section in sections},
    }
    return names_alone(content)


def lost(before: JSON, after: JSON) -> list[str]:
    """Returns what would be lost of kept numbers, in words: sections, rows, runs of rows, and what is measured of them.

    Args:
      before: what is kept, as `collect` returns it.
      after: what would replace it.
    """
    result = [f"section {name}" for name in before["sections"] if name not in after["sections"]]
    for name, old in before["rows"].items():
        new = after["rows"].get(name)
        if new is None:
            result.append(f"row {name}")
        elif len(new["members"]) < len(old["members"]):
            result.append(f"{len(old['members']) - len(new['members'])} runs of row {name}")
        elif gone := [part for part, was in old.get("measured", {}).items() if _fewer(new["measured"].get(part), was)]:
            result.append(f"{', '.join(gone)} of row {name}")
    return result


def _fewer(now: Any, before: Any) -> bool:
    """Returns whether what is measured of a row's runs lacks a run's entry that it had."""
    if not isinstance(before, list):  # of several runs together
        return now is None
    return any(was and not is_now for was, is_now in itertools.zip_longest(before, now or []))


def bring(kept: JSON, study: Path) -> None:
    """Writes the kept rows and sections into a study's folder, without weights and pictures.

    Args:
      kept: rows and sections, as `collect` returns them.
      study: the folder; rows and sections that it has stay as they are.
    """
    for name, section in kept["sections"].items():
        if not (path := study / "sections" / name / "section.json").exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, section)
    for name, row in kept["rows"].items():
        folder = study / "rows" / name
        if folder.exists():
            print(f"keep: {folder} is there already", file=sys.stderr)
            continue
        folder.mkdir(parents=True)
        row = dict(row)
        for part, content in row.pop("measured", {}).items():
            write_json(folder / f"{part}.json", content)
        write_json(folder / ROW_FILE, row)


def rows_table(kept: JSON) -> str:
    """Returns a line per row: scores on the external set, and Dice on the rows' own validation images."""
    head = ["Model", "Runs", "Validation: Dice per image", "External: Dice per image"]
    head += [f"{name.capitalize()}, pooled" for name in POOLED] + ["Best epochs", "Minutes", "Commit"]
    lines = []
    for row in kept["rows"].values():
        if row["name"].startswith(("low_data", "drawn")):
            continue
        best = sorted(member["best_epoch"] for member in row["members"])
        lines.append(
            [
                f"generalise {row['title']}" if row["name"].startswith("generalise") else row["title"],
                runs(row),
                cell(row, "validation", "per_image", "dice"),
                cell(row, "external", "per_image", "dice"),
                *(cell(row, "external", "pooled", name) for name in POOLED),
                ", ".join(map(str, best)),
                f"{row['seconds'] / 60:.0f}",
                ", ".join(sorted({run.get("commit", row["commit"])[:7] for run in row["members"]})),
            ]
        )
    return markdown(head, lines)


def report(kept: JSON, name: str, charts: Sequence[Path]) -> str:
    """Returns the Markdown text of a study; links are relative to the folder of results.

    Args:
      kept: rows and sections, as `collect` returns them.
      name: name of the result file.
      charts: kept pictures.
    """
    first = next(iter(kept["rows"].values()))
    external = first["data"]["external"]
    trained = [run for row in kept["rows"].values() for run in (row, *row["members"]) if "hardware" in run]
    machines = sorted({f"{hardware(run)} ({run['hardware']['cpu']})" for run in trained})
    versions = ", ".join(f"{package} {version}" for package, version in first["versions"].items())
    alone = kept["sections"].get(kept["kind"])  # a section that is kept by itself
    shown = [(kept["kind"], "")] if alone else TABLES
    parts = [
        f"External set: {external['dataset']} {external['split']}, {external['images']} images, scored by rows that "
        f"were trained on none of them. Scores are {first['metric']}; mean ± standard deviation over the runs. Each "
        f"row took {' or '.join(machines)}; {versions}; the first one's command: `{first['command']}`. All numbers are "
        f"in [{name}.json]({name}.json).",
        alone["about"] if alone else rows_table(kept),
    ]
    for section, caption in shown:
        for table in kept["sections"].get(section, {}).get("tables", []):
            if table["caption"].startswith(caption):
                title = kept["sections"][section]["title"]
                parts += [f"{title}. {table['caption']}:", markdown(table["head"], table["rows"])]
    # The table of few images shows by itself what was not run.
    told = [section for part, section in kept["sections"].items() if part != "low_data"]
    # A row that was trained may still lack what one section measures.
    if missing := {
        f"- {text} ({section['title']})" if "not measured" in text else f"- {text}"
        for section in told
        for text in section["missing"]
    }:
        parts.append("\n".join(["Not run:", "", *sorted(missing)]))
    parts += [f"![{path.stem}]({path.name})" for path in charts]
    return "\n\n".join(parts)


def charts_of(kept: JSON, name: str) -> dict[str, Path]:
    """Returns where a study's charts are kept, by their path below the study's `sections/`.

    Args:
      kept: rows and sections, as `collect` returns them.
      name: name of the result file.
    """
    return {
        f"{section['name']}/{figure['file']}": RESULTS / f"{name}_{section['name']}_{figure['file']}"
        for section in kept["sections"].values()
        for figure in section["figures"]
        if figure.get("chart")
    }


def main() -> None:
    """Parses the command line.

    Raises:
      SystemExit: the study has no row, or lacks a chart or some of what is kept; nothing is written.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?", help="folder of python -m experiments.paper")
    parser.add_argument("--scale", choices=SCALES, help="instead of a study: the scale whose kept numbers to show")
    parser.add_argument("--only", choices=ALONE, help="keep this section by itself")
    parser.add_argument("--into", type=Path, metavar="DIR", help="with --scale: bring its kept rows to this study")
    parser.add_argument("--replace", action="store_true", help="keep a study that lacks some of what is kept")
    args = parser.parse_args()
    if (args.study is None) == (args.scale is None):
        parser.error("give a study's folder, or --scale")
    if args.into and not args.scale:
        parser.error("--into brings kept rows: give their --scale too")
    if args.study:
        kept = collect(args.study, args.only)
        name = f"{kept['kind']}_{kept['scale']}"
        RESULTS.mkdir(exist_ok=True)
        place = RESULTS / f"{name}.json"
        gone = lost(json.loads(place.read_text()), kept) if place.exists() and not args.replace else []
        if gone:
            raise SystemExit(
                f"keep: error: {args.study} lacks what {place.name} keeps: {'; '.join(gone)}; bring it there by "
                f"--scale {kept['scale']} --into before training, or give --replace"
            )
        charts = {args.study / "sections" / chart: path for chart, path in charts_of(kept, name).items()}
        if undrawn := sorted({drawn.parent.name for drawn in charts if not drawn.exists()}):
            raise SystemExit(
                f"keep: error: {args.study} lacks charts of {', '.join(undrawn)}; draw them with its command and "
                f"--report --only {' '.join(undrawn)}"
            )
        place.write_text(json.dumps(kept, separators=(",", ":")) + "\n")
        for drawn, path in charts.items():
            shutil.copyfile(drawn, path)
    else:
        name = f"{args.only or 'paper'}_{args.scale}"
        kept = json.loads((RESULTS / f"{name}.json").read_text())
        if args.into:
            bring(kept, args.into)
            return
    write_between(name, report(kept, name, list(charts_of(kept, name).values())), PAGE)


if __name__ == "__main__":
    main()
