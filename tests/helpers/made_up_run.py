"""The files of a run and its evaluations as `report.html` is made of, without training anything."""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.config import Config
from jaxseg.evaluation.records import NATIVE_SCORES, Scored, per_image_csv, score_tables
from jaxseg.metrics import COUNTS


def a_run(workdir: Path, data: str = "ph2") -> Path:
    """Writes the files of a finished run."""
    workdir.mkdir(parents=True)
    history = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "train_loss": 1 / epoch,
            "val_loss": 2 / epoch,
            "val_dice": 0.9 - 0.5 / epoch,
            "val_jaccard": 0.8 - 0.5 / epoch,
            "learning_rate": 1e-4,
        }
        for epoch in range(1, 6)
    ]
    config = {
        "config": Config().updated({"data.name": data, "train.seed": 4711}).to_dict(),
        "data": {
            "dataset": data,
            "synthetic": data == "synthetic",
            "train_images": 160,
            "validation_images": 40,
            "fingerprints": {"train": "aaaa1111", "validation": "bbbb2222"},
        },
        "device": {"platform": "gpu", "kind": "H100", "count": 8},
        "versions": {"jaxseg": "0.1.0", "jax": "0.10.2"},
        "commit": "0123456789ab",
        "started": "2026-11-24T07:26:26+00:00",
    }
    summary = {"best_epoch": 5, "best": {"val_dice": 0.8765}, "parameters": 30494657, "stopped": "epochs"}
    (workdir / "config.json").write_text(json.dumps(config))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    (workdir / "summary.json").write_text(json.dumps(summary | {"seconds": 4000.0, "images_per_second": 3.25}))
    return workdir


def an_evaluation(
    folder: Path, images: int = 9, name: str = "IM", group: str = "melanoma", age: int = 0, **data
) -> Path:
    """Writes the files of an evaluation with three cases, `age` seconds old."""
    (folder / "cases").mkdir(parents=True)
    rng = np.random.default_rng(images)
    scored = []
    for i in range(images):
        native = dict(zip(NATIVE_SCORES, rng.uniform(0.5, 1, len(NATIVE_SCORES)).tolist(), strict=True))
        counts = dict(zip(COUNTS, rng.integers(10, 99, 4).tolist(), strict=True))
        tally = np.stack([np.full(15, 100.0), np.linspace(2, 98, 15), np.linspace(1, 99, 15)])
        scored.append(Scored(i, native, counts, native, counts, tally))
    names, groups = [f"{name}{i}" for i in range(images)], [group if i % 2 else "" for i in range(images)]
    about = {"dataset": "isic2016", "split": "test", "images": images, "synthetic": False, "trained_on": 0}
    metrics = {
        "data": about | data,
        "model": {"step": 50},
        "threshold": 0.5,
        **score_tables(scored, groups, 224),
        "bootstrap": {"replicates": 10000, "level": 0.95, "seed": 0, "method": "percentiles"},
    }
    cases = []
    for i, kind in enumerate(("worst", "median", "best")):
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).save(folder / f"cases/{i}.jpg")
        about = {"kind": kind, "name": names[i], "group": groups[i], "scores": scored[i].native}
        cases.append(
            about | {"image": f"{i}.jpg", "width": 40, "height": 30, "truth": "M1,1 9,9 1,9Z", "prediction": ""}
        )
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "per_image.csv").write_text(per_image_csv(scored, names, groups))
    (folder / "cases.json").write_text(json.dumps({"cases": cases}))
    os.utime(folder / "metrics.json", (1e9 - age, 1e9 - age))
    return folder
