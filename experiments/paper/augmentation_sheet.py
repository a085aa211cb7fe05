"""Draws training images as augmentation shows them to the network, with their masks' outlines (the paper's Fig. 4).

    python -m experiments.paper.augmentation_sheet --config paper --data ph2 --out augmentation.png [--seed 1]

Five seconds on two cores of an AMD EPYC. Every setting of training is a flag: `--augment.rotation 90` shows the effect
of a wider rotation. Expect four rows: an image, then six augmented versions of it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxseg import cli, data
from jaxseg.augment import augment
from jaxseg.config import AugmentConfig, Config
from jaxseg.data import Examples
from jaxseg.data.images import resize_image, resize_mask
from jaxseg.errors import UserError
from jaxseg.report.figures import empty_figure, save_figure
from jaxseg.report.overlays import overlay

_PANEL_INCHES = 2.24  # 224 pixels: images of the paper's size are shown unscaled


def draw(config: Config, examples: Examples, path: Path, *, images: int = 4, draws: int = 6, seed: int = 0) -> None:
    """Draws a sheet with a row per image: the image, then augmented versions, all with the outline of their mask.

    Args:
      config: image size and augmentation.
      examples: images, from which some are picked at random; all of them if there are no more than `images`.
      path: PNG file; it is replaced in one step, and its folder is made.
      images: number of rows.
      draws: augmented versions of each image.
      seed: seed of the choice of images and of the augmentation.

    Raises:
      UserError: augmentation is switched off.
    """
    if not config.augment.enabled:
        raise UserError("augment.enabled = false: there is nothing to draw; leave it at true")
    pick_key, draw_key = jax.random.split(jax.random.key(seed))
    order = jax.random.permutation(pick_key, len(examples))[:images].tolist()
    size = (config.data.image_size,) * 2
    loaded = [examples.load(i) for i in order]
    pictures = np.stack([resize_image(example.image, size) for example in loaded])
    masks = np.stack([resize_mask(example.mask, size) for example in loaded])
    augmented = jax.jit(lambda i: augment(jax.random.fold_in(draw_key, i), pictures, masks, config.augment))
    columns = [(pictures, masks), *(jax.device_get(augmented(i)) for i in range(draws))]

    width, height = len(columns) * _PANEL_INCHES, len(order) * (_PANEL_INCHES + 0.2) + 0.6
    title = f"{Path(examples.dataset).name}, {examples.split} split: {_ranges(config.augment)}"
    figure = empty_figure(width, height, title, examples.dataset == "synthetic")
    grid = figure.subplots(len(order), len(columns), squeeze=False)
    for panels, (pictures_drawn, masks_drawn) in zip(grid.T, columns, strict=True):
        for axes, picture, mask in zip(panels, pictures_drawn, masks_drawn, strict=True):
            axes.imshow(overlay(picture, np.zeros(size, bool), mask[..., 0]))
            axes.set_axis_off()
    for axes, i in zip(grid[:, 0], order, strict=True):
        axes.set_title(examples.names[i], size=9, parse_math=False)
    save_figure(figure, path)


def _ranges(config: AugmentConfig) -> str:
    """Returns the random changes in words."""
    flips = {"left-right": config.flip_horizontal, "upside down": config.flip_vertical}
    mirrored = " and ".join(name for name, done in flips.items() if done)
    light = ("brightness", "contrast", "saturation", "gamma", "colour_cast", "illumination")
    parts = [
        f"rotation up to {config.rotation:g}°",
        f"shear up to {config.shear:g}°",
        f"zoom {config.zoom_min:g} to {config.zoom_max:g}",
        *([f"mirrored {mirrored}"] if mirrored else []),
        *([f"shifted up to {config.translation:.0%}"] if config.translation else []),
        *(["colour and light"] if any(getattr(config, name) for name in light) else []),
        *([f"each artefact on {config.artefacts:.0%}"] if config.artefacts else []),
        *([f"{config.paste:.0%} pasted smaller"] if config.paste else []),
        *([f"amplitudes mixed in {config.amplitudes:.0%}"] if config.amplitudes else []),
        *([f"random convolution of {config.convolution:.0%}"] if config.convolution else []),
        *([f"each change of the camera on {config.camera:.0%}"] if config.camera else []),
    ]
    return ", ".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and draws training images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.png", help="the picture; replaced if it exists"
    )
    parser.add_argument(
        "--seed", dest="train.seed", type=int, default=argparse.SUPPRESS, metavar="N", help="short for --train.seed"
    )
    cli.add_settings(parser)
    args = parser.parse_args(argv)
    try:
        config = cli.config_from(args)
        examples, _ = data.training_splits(config.data)
        draw(config, examples, args.out, seed=config.train.seed)
    except UserError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
