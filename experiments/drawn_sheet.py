"""Draws a page of drawn images with the outlines of their masks: what `data.synthetic_share` trains on.

    python -m experiments.drawn_sheet --out drawn.png [--seed 0] [--rows 6] [--size 128] [--beside FOLDER]

Half a minute on two cores, most of it compiling. With `--beside`, as many rows of images of a folder follow, without
outlines: do the drawn ones look like yours? Expect all kinds of skin, light, lesions and artefacts, and green outlines
that lie just outside the lesions.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from skimage.segmentation import find_boundaries

from jaxseg.data.images import decode_image, resize_image
from jaxseg.data.listing import SUFFIXES
from jaxseg.errors import UserError
from jaxseg.synthetic import draw

_COLUMNS = 8
_GREEN = (0, 255, 0)


def sheet(seed: int, rows: int, size: int) -> np.ndarray:
    """Draws images with their outlines.

    Args:
      seed: seed of the drawing.
      rows: rows of eight images.
      size: side of each image, pixels.

    Returns:
      uint8 [rows * size, 8 * size, 3].
    """
    images, masks = jax.jit(lambda key: draw(key, rows * _COLUMNS, size, size))(jax.random.key(seed))
    images = np.array(images)
    for image, mask in zip(images, np.asarray(masks)[..., 0], strict=True):
        image[find_boundaries(mask, mode="inner")] = _GREEN
    return _tiled(images)


def _tiled(images: np.ndarray) -> np.ndarray:
    size = images.shape[1]
    return images.reshape(-1, _COLUMNS, size, size, 3).swapaxes(1, 2).reshape(-1, _COLUMNS * size, 3)


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="the page; replaced if it exists")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawing")
    parser.add_argument("--rows", type=int, default=6, help="rows of eight images")
    parser.add_argument("--size", type=int, default=128, help="side of each image, pixels")
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="images to show below")
    args = parser.parse_args(argv)
    parts = [sheet(args.seed, args.rows, args.size)]
    if args.beside:
        paths = sorted(path for path in args.beside.rglob("*") if path.suffix.lower() in SUFFIXES)
        count = min(args.rows, len(paths) // _COLUMNS) * _COLUMNS
        if not count:
            parser.exit(2, f"{parser.prog}: error: --beside {args.beside}: holds fewer than {_COLUMNS} images\n")
        try:
            chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, count).astype(int)]
            pictures = [resize_image(decode_image(path), (args.size, args.size)) for path in chosen]
        except UserError as error:
            parser.exit(2, f"{parser.prog}: error: {error}\n")
        parts.append(_tiled(np.stack(pictures)))
    Image.fromarray(np.concatenate(parts)).save(args.out)


if __name__ == "__main__":
    main()
