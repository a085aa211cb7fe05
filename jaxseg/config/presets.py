"""Named settings: `paper` (the default), `demo`, `generalise`."""

from collections.abc import Callable

from jaxseg.config.sections import Config
from jaxseg.errors import UserError, suggestion


def paper() -> Config:
    """The paper's full model: ResNet50V2-U-Net, focal loss, augmentation, 224 px, batch 16, 50 epochs (Table 1)."""
    return Config()


def demo() -> Config:
    """The same network and recipe shrunk to minutes on two CPU cores: small synthetic images, no ImageNet weights."""
    return Config().updated(
        {
            "data.name": "synthetic",
            "data.image_size": 96,
            "data.synthetic_train": 160,
            "data.synthetic_eval": 40,
            "model.pretrained": "none",
            # Keras' 0.99 would take half of this short run to forget the initial statistics.
            "model.encoder_bn_momentum": 0.9,
            "optim.learning_rate": 1e-3,
            # From random weights at that rate validation jumps about; a few steps at a lower one settle it.
            "optim.plateau_patience": 2,
            "optim.plateau_factor": 0.3,
            "train.batch_size": 8,
            "train.epochs": 12,
        }
    )


def generalise() -> Config:
    """The paper's network, trained for images of other cameras than its training images'."""
    return Config().updated(
        {
            "augment.brightness": 0.2,
            "augment.contrast": 0.3,
            "augment.saturation": 0.4,
            "augment.gamma": 0.3,
            "augment.colour_cast": 0.15,
            "augment.illumination": 0.3,
            "augment.artefacts": 0.15,
            "optim.ema": 0.97,
            # What is learned anew, the decoder, learns ten times as fast, and batch norm keeps up with it.
            "model.encoder_bn_momentum": 0.9,
            "optim.learning_rate": 1e-3,
            "optim.encoder_rate": 0.1,
        }
    )


PRESETS: dict[str, Callable[[], Config]] = {"paper": paper, "generalise": generalise, "demo": demo}
"""Named starting points for `--config`."""


def preset(name: str) -> Config:
    """Returns a preset by name.

    Raises:
      UserError: no such preset; names the nearest and all.
    """
    if name not in PRESETS:
        raise UserError(
            f"--config {name!r}: no such preset{suggestion(name, PRESETS)} (there are: {', '.join(PRESETS)})"
        )
    return PRESETS[name]()
