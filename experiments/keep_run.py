"""Keeps the numbers of finished runs as small JSON files, and writes the tables of them.

    python -m experiments.keep_run add ph2_resnet50 --workdir runs/ph2 --evaluation runs/ph2/evaluation/isic2016-train \
        --command "python -m jaxseg.train --workdir runs/ph2 --data ph2 ..."
    python -m experiments.keep_run table

`add` copies the numbers of a run and of its evaluations into `experiments/results/NAME.json`, with file names in place
of paths.
`table` writes the table of all runs into `experiments/results/RESULTS.md` and the short one into README. No number is
typed by hand. Both take less than a second; training a run takes what its line of the table says (on two CPU cores, 15
epochs at 224 pixels took 14 minutes).

README's table starts with the paper's Dice of 0.938. Expect 0.89 beside it for the preset `generalise` on images of
other cameras.
"""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from experiments.paper import rows
from experiments.paper.models import BARE, FINAL, FULL, PHOTOGRAPHS, UNET
from experiments.paper.sections.native import AS_IT_IS, CLEAN
from experiments.shared.origin import JSON, RESULTS, names_alone
from experiments.shared.tables import PAGE, README, markdown, write_between
from jaxseg.config.datasets import data_set

PAPER = rows.PAPER[FULL.name]
"""The paper's full model on the 379 ISIC 2016 test images (sections 4.3 and 4.5); pooled, see RESULTS.md."""

STUDY = "paper_full"
"""The result file of the study at the paper's settings."""

IN_README = {
    FULL.name: ("ResNet50, the paper's recipe", [AS_IT_IS]),
    BARE.name: ("ResNet50, the paper's recipe without augmentation", [AS_IT_IS]),
    UNET.name: ("plain U-Net, the paper's recipe", [AS_IT_IS]),
    PHOTOGRAPHS.name: ("ResNet50, `generalise` on photographs alone", [AS_IT_IS]),
    FINAL.name: ("ResNet50, `generalise`", [AS_IT_IS, CLEAN]),
}
"""Rows of that study that README shows, how it calls them, and with which ways to make masks."""

IN_DOMAIN = "in_domain_generalise"
"""Row of that study that is scored on what its folds held out."""

RUN_IN_README = "ph2_generalise_15epochs"
"""A single run that README shows as long as the study has not trained its row."""

HELD_OUT = "isic2016_test_319_generalise"
"""The result file of test images that were scored once, apart from all development."""


def collect(name: str, workdir: Path, evaluations: Sequence[Path], command: str) -> JSON:
    """Returns a result file's content from a run's own files.

    Args:
      name: name of the result.
      workdir: the run's folder.
      evaluations: folders of evaluations of the run.
      command: the training command as it was typed.
    """
    config = json.loads((workdir / "config.json").read_text())
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in evaluations]
    content = {
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
    return names_alone(content)


def described(data: JSON) -> str:
    """Returns a split in words, "ISIC 2016 test" for example."""
    return f"{data_set(data['dataset']).title or data['dataset']} {data['split']}"


def model_of(result: JSON) -> str:
    """Returns a run's network, weights and loss in words."""
    model, loss = result["settings"]["model"], result["settings"]["loss"]["name"]
    return f"{model['encoder']}, {Path(model['pretrained']).name}, {loss}"


def table(results: Sequence[JSON]) -> str:
    """Returns the Markdown table of all runs: the paper's line, then a line per run and scored set.

    Every column but "per image" is pooled.
    """
    paper = [f"{value:.3f}" for value in PAPER.values()]
    name = "the paper's: resnet50v2, ImageNet, focal"
    lines = [[name, "ISIC 2016 test", "379", "not given", *paper, "paper, 4.3 and 4.5"]]
    for result in results:
        training, model, device = result["training"], model_of(result), result["hardware"]
        where = f"{device['cores']} CPU cores" if device["kind"] == "cpu" else f"{device['count']} x {device['kind']}"
        run = f"[{result['name']}]({result['name']}.json): "
        run += f"{training['epochs']} epochs, {training['seconds'] / 60:.0f} min on {where}"
        best = training["best"]
        lines.append(
            [
                model,
                f"{data_set(training['dataset']).title} validation, {result['settings']['data']['image_size']} px",
                str(training["validation_images"]),
                f"{best['val_dice']:.3f}",
                *(f"{best[f'val_{score}_pooled']:.3f}" for score in PAPER),
                run,
            ]
        )
        for evaluation in result["evaluations"]:
            data, native = evaluation["data"], evaluation["native"]
            lines.append(
                [
                    model,
                    f"{described(data)}, native",
                    str(data["images"]),
                    f"{native['per_image']['dice']:.3f} ± {native['per_image_sd']['dice']:.3f}",
                    *(f"{native['pooled'][score]:.3f}" for score in PAPER),
                    "; ".join(["the same", *options(evaluation)]),
                ]
            )
    head = ["Model", "Scored on", "Images", "Dice per image", *(s.capitalize() for s in PAPER), "Run"]
    return markdown(head, lines)


def options(evaluation: JSON) -> list[str]:
    """Returns the prediction options of an evaluation that differ from the defaults, in words."""
    prediction = evaluation.get("prediction")  # missing in files that are older than the options
    if prediction is None:
        return []
    others = [Path(member["workdir"]).name for member in prediction["ensemble"][1:]]
    chosen, threshold = prediction["threshold_chosen_on"], f"threshold {prediction['threshold']:g}"
    parts = {
        f"ensemble with {', '.join(others)}": bool(others),
        "test-time augmentation": prediction["test_time_augmentation"],
        threshold: prediction["threshold"] != 0.5 and not chosen,
        f"{threshold} from {described(chosen)}" if chosen else "": bool(chosen),
        "largest component": prediction["largest_component"],
        "holes filled": prediction["fill_holes"],
    }
    return [words for words, used in parts.items() if used]


def _in_domain(row: JSON) -> list[list[str]]:
    """Returns README's line of what is scored on held-out folds of its own data set; none before it is."""
    runs = [run["validation"][AS_IT_IS]["native"] for run in row.get("measured", {}).get("native", []) if run]
    if not runs:
        return []
    first, title = row["members"][0], data_set(row["data"]["train"]).title
    images = sum(member["validation_images"] for member in row["members"])
    cells = [
        IN_README[PHOTOGRAPHS.name][0],
        f"{title} train, {first['train_images']} images",
        f"{title} train, held out",
    ]
    found = f"[{rows.counted(len(runs), folds=True)}](experiments/results/{STUDY}.json)"
    return [[*cells, str(images), *short_scores(runs), found]]


def short_table(study: JSON, run: JSON, held_out: JSON) -> str:
    """Returns README's Markdown table: the paper, our runs on the external set, and the held-out test images.

    Args:
      study: content of the file `STUDY`; of its rows, those are shown that are scored at the images' own size.
      run: content of the file `RUN_IN_README`.
      held_out: content of the file `HELD_OUT`.
    """
    trained = "PH2, 160 images"
    paper = ["ResNet50V2, the paper's numbers", trained, "ISIC 2016 test", "379", "not given"]
    lines = [[*paper, f"{PAPER['dice']:.3f}", f"{PAPER['jaccard']:.3f}", "not given", "the paper, 4.3 and 4.5"]]
    for name, (title, ways) in IN_README.items():
        row = study["rows"].get(name, {})
        for way in ways if "native" in row.get("measured", {}) else []:
            external, runs = row["data"]["external"], [run["external"][way] for run in row["measured"]["native"] if run]
            cells = [title if way == AS_IT_IS else f"{title}, {way}", trained, described(external)]
            cells += [str(external["images"]), *short_scores([run["native"] for run in runs])]
            lines.append([*cells, f"[{rows.counted(len(runs), folds=False)}](experiments/results/{STUDY}.json)"])
    lines += _in_domain(study["rows"].get(IN_DOMAIN, {}))
    for evaluation in run["evaluations"] if PHOTOGRAPHS.name not in study["rows"] else []:
        model, data = ", ".join([IN_README[PHOTOGRAPHS.name][0], *options(evaluation)]), evaluation["data"]
        cells = [model, trained, described(data), str(data["images"]), *short_scores([evaluation["native"]])]
        lines.append([*cells, f"[{run['training']['epochs']} epochs](experiments/results/{RUN_IN_README}.json)"])
    for changes, scores in held_out["evaluations"].items():
        model = IN_README[PHOTOGRAPHS.name][0] + ("" if changes == AS_IT_IS else f", {changes}")
        cells = [model, trained, "ISIC 2016 test", str(scores["images"]), *short_scores([scores])]
        lines.append([*cells, f"[scored once](experiments/results/{HELD_OUT}.json)"])
    head = ["Model", "Trained on", "Scored on", "Images", "Dice per image", "Dice, pooled", "Jaccard, pooled"]
    return markdown([*head, "Thresholded Jaccard", "Run"], lines)


def short_scores(runs: Sequence[JSON]) -> list[str]:
    """Returns the score cells of README's table: mean and standard deviation over runs."""
    each, pooled = [run["per_image"] for run in runs], [run["pooled"] for run in runs]
    names = ((each, "dice"), (pooled, "dice"), (pooled, "jaccard"), (each, "thresholded_jaccard"))
    return [rows.shown([run[name] for run in scores]) for scores, name in names]


def write_tables() -> None:
    """Writes the table of all runs into RESULTS.md, and the short one into README."""
    files = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    write_between("runs", table([result for result in files.values() if result.get("kind") == "run"]), PAGE)
    write_between("results", short_table(*(files[name] for name in (STUDY, RUN_IN_README, HELD_OUT))), README)


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command_name", required=True)
    add = commands.add_parser("add", help="keep the numbers of a run")
    add.add_argument("name", help="name of the result file")
    add.add_argument("--workdir", type=Path, required=True, help="the run's folder")
    add.add_argument("--evaluation", type=Path, action="append", default=[], help="folder of an evaluation")
    add.add_argument("--command", required=True, help="training command as it was typed")
    commands.add_parser("table", help="write the tables of RESULTS.md and README")
    args = parser.parse_args()
    if args.command_name == "add":
        content = collect(args.name, args.workdir, args.evaluation, args.command)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{args.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    else:
        write_tables()


if __name__ == "__main__":
    main()
