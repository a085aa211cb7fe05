"""Keeps a study's numbers and charts under `experiments/results/`, and writes README's tables of them.

    python -m experiments.paper.keep runs/paper

Pictures of patients' skin stay in the study. Nobody types a number.
"""

import argparse
import json
import shutil
from pathlib import Path

from experiments.paper.rows import POOLED, cell, runs
from experiments.shared.origin import JSON, RESULTS, hardware
from experiments.shared.tables import markdown, write_between

TABLES = (
    ("three_models", "Ours beside"),
    ("generalise", ""),
    ("gap", ""),
    ("hard_cases", ""),
    ("low_data", ""),
    ("robustness", "Dice per image, mean over all"),
    ("stacked_speed", ""),
)
"""Sections whose tables README shows, and how their captions begin."""


def collect(study: Path) -> JSON:
    """Returns what is kept of a study: its rows by name, and its sections."""
    rows = [json.loads(path.read_text()) for path in sorted(study.glob("rows/*/row.json"))]
    sections = [json.loads(path.read_text()) for path in sorted(study.glob("sections/*/section.json"))]
    if not rows:
        raise SystemExit(f"keep: error: {study}: holds no row that is done; run python -m experiments.paper first")
    for row in rows:
        for test in row["tests"].values():
            for run in test:
                run.pop("dice", None)  # of every image: a tenth of a megabyte in all
    return {
        "kind": "paper",
        "scale": rows[0]["scale"],
        "rows": {row["name"]: row for row in rows},
        "sections": {section["name"]: section for section in sections},
    }


def rows_table(kept: JSON) -> str:
    """Returns a line per row: scores on the external set, and Dice on the rows' own validation images."""
    head = ["Model", "Runs", "Validation: Dice per image", "External: Dice per image"]
    head += [f"{name.capitalize()}, pooled" for name in POOLED] + ["Best epochs", "Minutes", "Commit"]
    lines = []
    for row in kept["rows"].values():
        if row["name"].startswith("low_data"):
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
                row["commit"][:7],
            ]
        )
    return markdown(head, lines)


def readme(kept: JSON, name: str, charts: list[Path]) -> str:
    """Returns what README shows."""
    first = next(iter(kept["rows"].values()))
    external, of = first["data"]["external"], first["hardware"]
    versions = ", ".join(f"{package} {version}" for package, version in first["versions"].items())
    parts = [
        f"External set: {external['dataset']} {external['split']}, {external['images']} images, of which none was "
        f"trained on. Scores are {first['metric']}; mean ± standard deviation over the runs. Each row "
        f"on {hardware(first)} ({of['cpu']}); {versions}; `{first['command']}`. All of it is in "
        f"[{name}.json](experiments/results/{name}.json).",
        rows_table(kept),
    ]
    for section, caption in TABLES:
        for table in kept["sections"].get(section, {}).get("tables", []):
            if table["caption"].startswith(caption):
                title = kept["sections"][section]["title"]
                parts += [f"{title}. {table['caption']}:", markdown(table["head"], table["rows"])]
    told = kept["sections"].items()  # of few images, the table says it
    missing = [f"- {text}" for part, section in told if part != "low_data" for text in section["missing"]]
    if missing:
        parts.append("\n".join(["Not run:", "", *sorted(set(missing))]))
    parts += [f"![{path.stem}](experiments/results/{path.name})" for path in charts]
    return "\n\n".join(parts)


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of python -m experiments.paper")
    study = parser.parse_args().study
    kept = collect(study)
    name = f"paper_{kept['scale']}"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n")
    charts = []
    for section in kept["sections"].values():
        for figure in section["figures"]:
            if figure.get("chart"):
                charts.append(RESULTS / f"{name}_{section['name']}_{figure['file']}")
                shutil.copyfile(study / "sections" / section["name"] / figure["file"], charts[-1])
    write_between("paper", readme(kept, name, charts))


if __name__ == "__main__":
    main()
