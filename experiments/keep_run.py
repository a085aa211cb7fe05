"""Keeps measured results as small JSON files, and makes README's results table of them.

    python -m experiments.keep_run add ph2_resnet50 --workdir runs/ph2 --evaluation runs/ph2/evaluation/isic2016-train \
        --command "python -m jaxseg.train --workdir runs/ph2 --data ph2 ..."
    python -m experiments.keep_run table

`add` copies the numbers of a finished run, and of evaluations of it, into `experiments/results/NAME.json`; `table`
writes all of them between README's `<!-- results -->` marks. Nobody types a number.
"""

import argparse
import json
import os
import platform
from pathlib import Path

from experiments.shared.origin import RESULTS
from experiments.shared.tables import row, write_between

PAPER = {"dice": 0.938, "jaccard": 0.884, "sensitivity": 0.921, "specificity": 0.980}
"""The paper's full model on the 379 ISIC 2016 test images (4.3 and 4.5); pooled, see README."""


def collect(name: str, workdir: Path, evaluations: list[Path], command: str) -> dict:
    """Returns a result file's content from a run's own files."""
    config = json.loads((workdir / "config.json").read_text())
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in evaluations]
    return {
        "kind": "run",
        "name": name,
        "command": command,
        "commit": config["commit"],
        "started": config["started"],
        "versions": config["versions"],
        "hardware": {**config["device"], "machine": platform.machine(), "cores": os.cpu_count()},
        "seed": config["seed"],
        "settings": config["config"],
        "training": json.loads((workdir / "summary.json").read_text()),
        "evaluations": [{name: part for name, part in m.items() if name != "model"} for m in metrics],
    }


def table(results: list[dict]) -> str:
    """Returns the Markdown table: the paper's row, then a row per run and set. All but "per image" is pooled."""
    head = ("Model", "Scored on", "Images", "Dice per image", *(s.capitalize() for s in PAPER), "Run")
    paper = (f"{value:.3f}" for value in PAPER.values())
    lines = [
        row(*head),
        row(*["---"] * len(head)),
        row(
            "the paper's: resnet50v2, ImageNet, focal",
            "ISIC 2016 test",
            "379",
            "not given",
            *paper,
            "paper, 4.3 and 4.5",
        ),
    ]
    for result in results:
        settings, training, name = result["settings"], result["training"], result["name"]
        model = (
            f"{settings['model']['encoder']}, {Path(settings['model']['pretrained']).name}, {settings['loss']['name']}"
        )
        device = result["hardware"]
        where = f"{device['cores']} CPU cores" if device["kind"] == "cpu" else f"{device['count']} x {device['kind']}"
        time = f"{training['epochs']} epochs, {training['seconds'] / 60:.0f} min on {where}"
        best = training["best"]
        pooled = (f"{best[f'val_{score}_pooled']:.3f}" for score in PAPER)
        where = f"{training['dataset']} validation, {settings['data']['image_size']} px"
        run = f"[{name}](experiments/results/{name}.json): {time}"
        lines.append(row(model, where, str(training["validation_images"]), f"{best['val_dice']:.3f}", *pooled, run))
        for evaluation in result["evaluations"]:
            about, native = evaluation["data"], evaluation["native"]
            pooled = (f"{native['pooled'][score]:.3f}" for score in PAPER)
            dice = f"{native['per_image']['dice']:.3f} ± {native['per_image_sd']['dice']:.3f}"
            where = f"{about['dataset']} {about['split']}, native"
            lines.append(row(model, where, str(about["images"]), dice, *pooled, f"the same{options(evaluation)}"))
    return "\n".join(lines)


def options(evaluation: dict) -> str:
    """Returns how masks were made, where not as by default."""
    prediction = evaluation.get("prediction")  # not in files of before there were any options
    if prediction is None:
        return ""
    others = [Path(member["workdir"]).name for member in prediction["ensemble"][1:]]
    chosen = prediction["threshold_chosen_on"]
    parts = [f"ensemble with {', '.join(others)}"] * bool(others)
    parts += ["test-time augmentation"] * prediction["test_time_augmentation"]
    parts += [f"threshold {prediction['threshold']:g}"] * (prediction["threshold"] != 0.5 or chosen is not None)
    parts += [f"chosen on {chosen['dataset']} {chosen['split']}"] if chosen else []
    parts += ["largest component"] * prediction["largest_component"] + ["holes filled"] * prediction["fill_holes"]
    return "".join(f"; {part}" for part in parts)


def write_table() -> None:
    """Writes README's table of all runs."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    write_between("results", table([result for result in results if result.get("kind") == "run"]))


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command_name", required=True)
    add = commands.add_parser("add", help="keep the numbers of a run")
    add.add_argument("name")
    add.add_argument("--workdir", type=Path, required=True)
    add.add_argument("--evaluation", type=Path, action="append", default=[], help="folder of an evaluation")
    add.add_argument("--command", required=True, help="what was typed to train")
    commands.add_parser("table", help="write README's table")
    args = parser.parse_args()
    if args.command_name == "add":
        content = collect(args.name, args.workdir, args.evaluation, args.command)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{args.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    else:
        write_table()


if __name__ == "__main__":
    main()
