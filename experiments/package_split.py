"""Lays out ISIC 2016's training images for the model inside the package: what it learns from, and what it never sees.

    python -m experiments.package_split --source FOLDER --out DATA
    python -m jaxseg.train --config generalise --workdir runs/inside --data DATA/learn --data.image-size 128 \\
        --data.synthetic-share 0.5 --model.encoder none --model.pretrained none --model.unet-channels 12,24,48,96,128 \\
        --model.dropout 0.1 --loss.name bce+dice --optim.learning-rate 2e-3 --optim.encoder-rate 1 --optim.ema 0.99 \\
        --optim.plateau-patience 4 --optim.plateau-factor 0.3 --optim.early-stop-patience 14 --train.epochs 40
    python -m experiments.package_model --workdir runs/inside

FOLDER is the publisher's: `ISBI2016_ISIC_Part1_Training_Data` and `ISBI2016_ISIC_Part1_Training_GroundTruth`. The first
command takes seconds, the second 70 minutes on two cores of an AMD EPYC that do other work as well. Expect a
validation Dice of about 0.90 per image.

A hash of the name deals the images into ten parts: two are held out and scored once, one validates, seven train.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from jaxseg.data.folds import folds
from jaxseg.errors import UserError

PARTS = {"held_out": range(2), "learn/validation": range(2, 3), "learn/train": range(3, 10)}
"""Folders below `--out`, and which of the ten parts each holds."""


def split(source: Path, out: Path) -> dict[str, int]:
    """Copies images and masks into the folders of `PARTS`, each with `images/` and `masks/`.

    Args:
      source: the publisher's folder; images without a mask are left out.
      out: folder to make.

    Returns:
      How many images each part holds.

    Raises:
      UserError: `source` holds no pairs of image and mask, or `out` exists.
    """
    images = {path.stem: path for path in (source / "ISBI2016_ISIC_Part1_Training_Data").glob("*.jpg")}
    truth = (source / "ISBI2016_ISIC_Part1_Training_GroundTruth").glob("*_Segmentation.png")
    masks = {path.stem.removesuffix("_Segmentation"): path for path in truth}
    names = sorted(images.keys() & masks.keys())
    if not names:
        raise UserError(
            f"--source {source}: no images with masks in ISBI2016_ISIC_Part1_Training_Data and _GroundTruth"
        )
    if out.exists():
        raise UserError(f"--out {out}: exists; name a new folder")
    dealt = folds(names, [""] * len(names), 10)
    counts = {}
    for part, parts in PARTS.items():
        chosen = [names[i] for number in parts for i in dealt[number]]
        for kind, paths in (("images", images), ("masks", masks)):
            (out / part / kind).mkdir(parents=True)
            for name in chosen:
                shutil.copy(paths[name], out / part / kind / paths[name].name)
        counts[part] = len(chosen)
    return counts


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and copies the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="the publisher's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    args = parser.parse_args(argv)
    try:
        counts = split(args.source, args.out)
    except UserError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    for part, count in counts.items():
        print(f"{part}: {count} images")


if __name__ == "__main__":
    main()
