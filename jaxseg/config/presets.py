"""Named settings: `paper` (the default), `demo`, `generalise`."""

from collections.abc import Callable

from jaxseg.config.sections import Config
from jaxseg.errors import UserError, suggestion


def paper() -> Config:
    """Returns the paper's full model: ResNet50V2-U-Net, focal loss, augmentation, 224 px, batch 16, 50 epochs."""
    return Config()


def demo() -> Config:
    """Returns the paper's network and recipe shrunk to minutes on two CPU cores: small drawn images, no ImageNet."""
    return Config().updated(
        {
            "data.name": "synthetic",
            "data.image_size": 96,
            "data.synthetic_train": 160,
            "data.synthetic_eval": 40,
            "model.pretrained": "none",
            # With Keras' 0.99, half of this short run would pass before the initial statistics are forgotten.
            "model.encoder_bn_momentum": 0.9,
            "optim.learning_rate": 1e-3,
            # At this rate, from random weights, the validation loss is noisy; a few steps at a lower rate settle it.
            "optim.plateau_patience": 2,
            "optim.plateau_factor": 0.3,
            "train.batch_size": 8,
            "train.epochs": 12,
        }
    )


def generalise() -> Config:
    """Returns the paper's network with a recipe for images from other cameras than those of its training images."""
    return Config().updated(
        {
            # Skin and lesions of more kinds than a few hundred photographs show; an epoch has twice as many steps.
            "data.synthetic_share": 0.5,
            "augment.brightness": 0.2,
            "augment.contrast": 0.3,
            "augment.saturation": 0.4,
            "augment.gamma": 0.3,
            "augment.colour_cast": 0.15,
            "augment.illumination": 0.3,
            "augment.artefacts": 0.15,
            "optim.ema": 0.97,
            # The decoder starts from random weights and learns ten times as fast; batch norm has to keep up with it.
            "model.encoder_bn_momentum": 0.9,
            "optim.learning_rate": 1e-3,
            "optim.encoder_rate": 0.1,
        }
    )


PRESETS: dict[str, Callable[[], Config]] = {"paper": paper, "generalise": generalise, "demo": demo}
"""Named starting points for `--config`."""


def preset(name: str) -> Config:
    """Returns the preset of a name.

    Raises:
      UserError: there is no such preset; the message names the nearest and lists all.
    """
    if name not in PRESETS:
        raise UserError(
            f"--config {name!r}: no such preset{suggestion(name, PRESETS)} (there are: {', '.join(PRESETS)})"
        )
    return PRESETS[name]()
