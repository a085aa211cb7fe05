"""What a few of one's own images gain: PH2 from the model inside the package, from ImageNet, and from random weights.

    python -m experiments.fine_tuning --source PH2_FOLDER --out runs/fine_tuning [--pretrained resnet50_notop.h5]

FOLDER holds `images/` and `masks/` of PH2, named as PH2 names them. Of the 160 images of the committed training split,
the first 20, 40 and 80 in the order of a hash train; a fifth of each validates. The 40 images of the committed
validation split are scored and serve no other purpose. Each run takes about 300 steps of 8 images at 128 pixels, two
minutes on two cores of an AMD EPYC for the small network and five for ResNet50, which is trained where `--pretrained`
names Keras' ImageNet weights. Finished runs are not repeated.

Writes `experiments/results/fine_tuning.json` and the table in RESULTS.md. With 20 images expect a Dice of 0.92 from the
model inside, 0.90 from random weights, and 0.94 from ImageNet weights, whose network is far larger and slower.
"""

import argparse
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax

from experiments.shared.origin import JSON, RESULTS, origin, source
from experiments.shared.tables import markdown, write_between
from jaxseg import cli, evaluate
from jaxseg.config import Config, preset
from jaxseg.data.folds import committed_split
from jaxseg.errors import UserError
from jaxseg.runs.workdir import SUMMARY
from jaxseg.system import startup
from jaxseg.system.files import read_json, write_json
from jaxseg.training.loop import train_and_evaluate

COUNTS = (20, 40, 80)
"""Numbers of images, validation images included."""

STEPS, BATCH_SIZE = 300, 8

RESULT = "fine_tuning"

STARTS = {
    "builtin": ("the model inside the package", {"model.init_from": "builtin", "optim.learning_rate": 3e-4}),
    "imagenet": ("ResNet50, ImageNet weights", {"model.encoder": "resnet50"}),
    "random": ("the same small network, random weights", {"model.unet_channels": (12, 24, 48, 96, 128)}),
}
"""Where runs start: how tables call it, and its settings beside the common ones."""


def lay_out(source_folder: Path, out: Path, count: int) -> Path:
    """Copies some of PH2's training images into a folder of their own.

    Args:
      source_folder: folder with `images/` and `masks/`.
      out: folder that holds the experiment.
      count: number of images; 0 stands for the images to score.

    Returns:
      The data set's folder.

    Raises:
      UserError: an image or a mask is missing.
    """
    split = committed_split("ph2")
    order = sorted(split["train"], key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    folder = out / "data" / (f"ph2_{count}" if count else "ph2_scored")
    for name in order[:count] if count else split["validation"]:
        for kind, pattern in (("images", f"{name}.*"), ("masks", f"{name}_lesion.*")):
            found = sorted((source_folder / kind).glob(pattern))
            if len(found) != 1:
                raise UserError(f"--source {source_folder}: {len(found)} files {kind}/{pattern}, not one")
            (folder / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(found[0], folder / kind / found[0].name)
    return folder


def settings(start: str, count: int, data: Path, pretrained: str | None) -> Config:
    """Returns the settings of a run.

    Args:
      start: one of `STARTS`.
      count: number of images.
      data: the data set's folder.
      pretrained: file of ImageNet weights for "imagenet".
    """
    small = start != "imagenet"
    train_images = count - count // 5
    epochs = round(STEPS / (train_images // BATCH_SIZE))
    config = preset("generalise").updated(
        {
            "data.name": str(data),
            "data.image_size": 128,
            "data.synthetic_share": 0.0,  # what the images themselves teach
            "loss.name": "bce+dice",
            "model.encoder": "none",
            "model.pretrained": "none" if small else pretrained,
            "model.dropout": 0.1,
            # The small network has no encoder that starts better than its decoder.
            "optim.encoder_rate": 1.0 if small else 0.1,
            # Epochs of few images are short: patience is a quarter of the run, whatever its epochs.
            "optim.plateau_patience": max(epochs // 4, 1),
            "optim.early_stop_patience": epochs,
            "train.batch_size": BATCH_SIZE,
            "train.epochs": epochs,
        }
    )
    return config.updated(STARTS[start][1])


def score(run: Path, data: Path) -> JSON:
    """Scores a run at the images' own size.

    Args:
      run: the run's folder.
      data: folder of the images to score.

    Returns:
      Dice per image with its interval, Dice pooled, Jaccard per image.
    """
    out = run / "evaluation" / "scored"
    evaluate.main(["--workdir", str(run), "--data", str(data), "--out", str(out), "--overwrite"])
    native = read_json(out / "metrics.json")["native"]
    return {
        "dice": native["per_image"]["dice"],
        "dice_interval": native["per_image_interval"]["dice"],
        "dice_pooled": native["pooled"]["dice"],
        "jaccard": native["per_image"]["jaccard"],
    }


def table(result: JSON) -> str:
    """Returns the table of a result file as Markdown."""
    rows = [
        [
            STARTS[run["start"]][0],
            str(run["images"]),
            f"{run['dice']:.3f} [{run['dice_interval'][0]:.3f}, {run['dice_interval'][1]:.3f}]",
            f"{run['dice_pooled']:.3f}",
            f"{run['jaccard']:.3f}",
        ]
        for run in result["runs"]
    ]
    return markdown(["Start", "Images", "Dice per image", "Dice, pooled", "Jaccard per image"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, trains what is missing, scores, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, metavar="FOLDER", help="folder with images/ and masks/")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the experiment")
    parser.add_argument("--pretrained", metavar="FILE", help="Keras' ImageNet weights of ResNet50")
    args = parser.parse_args(argv)
    cli.start_logging()
    startup.tune()
    device = jax.devices()[0]
    about = origin(RESULT, {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()})
    starts = [start for start in STARTS if start != "imagenet" or args.pretrained]
    try:
        scored, runs = lay_out(args.source, args.out, 0), []
        for count in COUNTS:
            data = lay_out(args.source, args.out, count)
            for start in starts:
                run = args.out / f"{start}_{count}"
                if not (run / SUMMARY).exists():
                    train_and_evaluate(settings(start, count, data, args.pretrained), run)
                runs.append({"start": start, "images": count, **score(run, scored)})
                # After every run: what is there is kept, whenever the experiment is ended.
                result = {**about, "steps": STEPS, "batch_size": BATCH_SIZE, "scored_images": 40, "runs": runs}
                write_json(RESULTS / f"{RESULT}.json", result)
                write_between("fine-tuning", f"{table(result)}\n\n{source(result)}", RESULTS / "RESULTS.md")
    except UserError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
