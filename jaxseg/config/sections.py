"""The settings of a run: one frozen dataclass per concern, `Config` for all, JSON in and out.

Every field carries its help text, unit and allowed values (`jaxseg.config.fields`). Defaults are the paper's (Table 1).
Where the paper is silent or contradicts itself, this is chosen:

- Input of 224 or 256 pixels: 224; `data.image_size`.
- Focal loss or cross-entropy: focal, equation 2 as printed (alpha weights all pixels); `loss.name bce` and
  `loss.class_balanced` are the other readings.
- Accuracy printed as (TP + FP) / all: (TP + TN) / all.
- Softmax over one class: one logit per pixel, sigmoid.
- Ranges of shear and zoom: 10 degrees either way and 0.8 to 1.2; beyond the border image and mask are mirrored.
- Batch-norm momentum: encoder 0.99 as in Keras, decoder 0.9. With ten steps per epoch, 0.99 leaves the running averages
  of a fresh decoder far behind, and validation looks bad although the weights are good.
- Split of PH2: committed, 160 training and 40 validation images, stratified by diagnosis.
- "Clustering (local pixel coherence)" is named once and never described: left out.
- The abstract's Dice of 96 % and Jaccard of 97 % are impossible, as J = D / (2 - D) <= D; the body's 0.938 and 0.884
  satisfy that formula and are therefore pooled over all pixels.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from jaxseg.config.datasets import help_of_names
from jaxseg.config.fields import Section, setting
from jaxseg.config.near_misses import nearest_setting
from jaxseg.errors import UserError, shown, suggestion

SCHEMA_VERSION = 1
"""Version of the JSON layout of a `Config`; raised when an old `config.json` needs translating."""

LESION_PATTERN = r"(?P<colour>#[0-9a-fA-F]{6})|(?P<low>\d+(?:\.\d+)?)(?:-(?P<high>\d+(?:\.\d+)?))?"
"""What `data.mask_lesion` may be: a colour, a value or a range of values."""


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """What is trained and validated on."""

    name: str = setting(
        "auto",
        f"{help_of_names()}, a folder with images/ and masks/ (pictures, or COCO or labelme JSON; or train/ and "
        "validation/ with both in each), or auto (PH2 where prepared, else synthetic); a known name goes before a "
        "folder: ./ph2 is the folder",
    )
    data_dir: str = setting(
        "", "folder of the prepared TFDS data sets; empty: TFDS' own (~/tensorflow_datasets)", resumable=True
    )
    image_size: int = setting(
        224, "side of the square network input, pixels, a multiple of 32", minimum=32, maximum=4096
    )
    folds: int = setting(
        0,
        "cross-validation folds, at least 2; 0: the set's own validation images, or one fifth held out",
        minimum=0,
    )
    fold: int = setting(0, "which fold validates, from 0; needs data.folds", minimum=0)
    groups: str = setting(
        "",
        "CSV file of two columns, image and group (lesion or patient): images of a group stay on one side of every "
        "split and fold; empty: none",
    )
    mask_lesion: str = setting(
        "",
        "what is lesion in the masks of a folder: a value or palette index (128), a range (128-255) or a colour "
        "(#ff0000); empty: the bright one of two levels",
    )
    mask_invert: bool = setting(False, "swap lesion and skin in the masks of a folder")
    mask_orientation: str = setting(
        "auto",
        "masks of a folder whose EXIF orientation is not their image's: image turns them as the image, own as their "
        "own tag says, auto decides where the sizes tell",
        choices=("auto", "image", "own"),
    )
    keep_split: bool = setting(
        False,
        "resume although images were added, removed or edited since the run began: with its own training and "
        "validation images, as far as they are there",
        resumable=True,
    )
    synthetic_train: int = setting(160, "training images of the synthetic set", minimum=1, maximum=1_000_000)
    synthetic_eval: int = setting(
        40, "images in each of the synthetic set's validation and test splits", minimum=1, maximum=1_000_000
    )
    synthetic_share: float = setting(
        0.0,
        "share of every batch that is drawn on the device, never the same twice, beside the training images; 1 (for "
        "the synthetic set alone): all of it",
        minimum=0,
        maximum=1,
    )
    workers: int = setting(4, "threads that decode and resize images", minimum=0, maximum=512, resumable=True)
    cache_mib: int = setting(
        4096, "memory that may hold decoded, resized images between epochs, MiB", minimum=0, resumable=True
    )

    @property
    def decides_masks(self) -> bool:
        """Whether the user has said what is lesion in the masks of a folder."""
        return bool(self.mask_lesion) or self.mask_invert

    def __post_init__(self):
        super().__post_init__()
        if self.image_size % 32:
            near = round(self.image_size / 32) * 32
            raise UserError(f"data.image_size = {self.image_size}: must be a multiple of 32, as {near}")
        lowest, dash, highest = self.mask_lesion.partition("-")
        if self.mask_lesion and not re.fullmatch(LESION_PATTERN, self.mask_lesion):
            raise UserError(
                f"data.mask_lesion = {shown(self.mask_lesion)}: must be a value (128), a range (128-255) or a "
                "colour (#ff0000)"
            )
        if dash and float(lowest) > float(highest):
            raise UserError(f"data.mask_lesion = {self.mask_lesion}: write the range as {highest}-{lowest}")
        if self.folds == 1 or (self.folds and self.fold >= self.folds):
            raise UserError(
                f"data.fold = {self.fold} of data.folds = {self.folds}: folds must be 0 or at least 2, fold below folds"
            )


@dataclasses.dataclass(frozen=True)
class AugmentConfig(Section):
    """Random changes of training images: geometry (paper, 3.3.1); all else is off by default."""

    enabled: bool = setting(True, "augment training images")
    rotation: float = setting(30.0, "largest rotation either way, degrees", minimum=0, maximum=180)
    shear: float = setting(10.0, "largest shear angle either way, degrees", minimum=0, maximum=60)
    zoom_min: float = setting(0.8, "smallest magnification, a factor", minimum=0.05, maximum=20)
    zoom_max: float = setting(1.2, "largest magnification, a factor", minimum=0.05, maximum=20)
    flip_horizontal: bool = setting(True, "mirror left to right, half of the time")
    flip_vertical: bool = setting(True, "mirror top to bottom, half of the time")
    translation: float = setting(0.0, "largest shift either way, a share of each side", minimum=0, maximum=0.5)
    brightness: float = setting(0.0, "brightness times 1 - this to 1 + this", minimum=0, maximum=0.95)
    contrast: float = setting(
        0.0, "distance of each pixel from the image's mean grey times 1 - this to 1 + this", minimum=0, maximum=0.95
    )
    saturation: float = setting(
        0.0, "distance from the pixel's grey times 1 - this to 1 + this", minimum=0, maximum=0.95
    )
    gamma: float = setting(
        0.0, "values in [0, 1] to the power of 1 / (1 + this) to 1 + this, log-uniform", minimum=0, maximum=4
    )
    colour_cast: float = setting(
        0.0, "each channel times 1 / (1 + this) to 1 + this, log-uniform", minimum=0, maximum=4
    )
    illumination: float = setting(
        0.0, "light that rises linearly across the image, at most from 1 - this to 1 + this", minimum=0, maximum=0.95
    )
    artefacts: float = setting(
        0.0,
        "probability of each of ruler, hair, sticker, gel bubbles, blur and dark corners, at any severity; the mask is "
        "0 under stickers and dark corners",
        minimum=0,
        maximum=1,
    )
    paste: float = setting(
        0.0,
        "probability of taking the lesion out and pasting it again smaller, somewhere else on its own skin; lesions of "
        "more than half of the image stay",
        minimum=0,
        maximum=1,
    )
    amplitudes: float = setting(
        0.0,
        "probability of mixing the amplitudes of the image's Fourier transform with those of another training image",
        minimum=0,
        maximum=1,
    )
    convolution: float = setting(
        0.0, "probability of mixing the image with its convolution with a random kernel", minimum=0, maximum=1
    )
    camera: float = setting(
        0.0,
        "probability of each of down-and-up-scaling, sensor noise, sharpening and JPEG, at random strength",
        minimum=0,
        maximum=1,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.zoom_min > self.zoom_max:
            raise UserError(
                f"augment.zoom_min = {self.zoom_min:g}: must not exceed augment.zoom_max = {self.zoom_max:g}"
            )


ENCODER_TITLES = {"resnet50v2": "ResNet50V2", "resnet50": "ResNet50"}
"""Titles of the encoders by the name that `--model.encoder` takes; `jaxseg.models.resnet` has their networks."""


def network_title(encoder: str) -> str:
    """Returns what reports call the network with an encoder, or without one ("none"), as "ResNet50-U-Net"."""
    return "plain U-Net" if encoder == "none" else f"{ENCODER_TITLES.get(encoder, encoder)}-U-Net"


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The network (paper, 3.1 to 3.3.2)."""

    encoder: str = setting(
        "resnet50v2",
        "resnet50v2 (the paper's), resnet50 (v1), or none: the plain U-Net baseline",
        choices=(*ENCODER_TITLES, "none"),
    )
    pretrained: str = setting("imagenet", "encoder weights: imagenet (Keras' cache or download), none, or a file")
    init_from: str = setting(
        "",
        "folder of a run whose weights, encoder and decoder, the new run starts with, or builtin (the packaged model); "
        "its network, and its image size unless given, are taken over; empty: none",
    )
    decoder_channels: tuple[int, ...] = setting(
        (256, 128, 64, 32, 16), "channels of the five decoder stages, deepest first", minimum=1, maximum=8192
    )
    unet_channels: tuple[int, ...] = setting(
        (64, 128, 256, 512, 1024), "channels of the plain U-Net's scales, finest first", minimum=1, maximum=8192
    )
    dropout: float = setting(
        0.3, "share of values that dropout sets to 0 between a stage's two convolutions", minimum=0, maximum=0.95
    )
    encoder_bn_momentum: float = setting(
        0.99, "share of the old running statistics kept per step, encoder", minimum=0, maximum=1
    )
    decoder_bn_momentum: float = setting(
        0.9, "share of the old running statistics kept per step, decoder", minimum=0, maximum=1
    )
    colour_constancy: str = setting(
        "none",
        "colour correction of each image before the network: none, or shades_of_gray, which removes a colour cast; on "
        "images of other cameras it cost 0.014 Dice (pooled; experiments/results/RESULTS.md)",
        choices=("none", "shades_of_gray"),
    )
    dtype: str = setting(
        "float32", "compute type; parameters, statistics and loss stay float32", choices=("float32", "bfloat16")
    )

    def __post_init__(self):
        super().__post_init__()
        if len(self.decoder_channels) != 5:
            raise UserError(
                f"model.decoder_channels = {self.decoder_channels}: needs 5 numbers, one per factor of 2 in size"
            )
        if not 2 <= len(self.unet_channels) <= 6:
            raise UserError(f"model.unet_channels = {self.unet_channels}: needs 2 to 6 numbers, one per scale")


LOSSES = ("focal", "bce", "dice", "tversky", "focal_tversky", "lovasz_hinge", "focal+dice", "bce+dice")
"""Names that `loss.name` takes; `jaxseg.losses.create_loss` makes each. A plus sign joins the terms of a sum."""


@dataclasses.dataclass(frozen=True)
class LossConfig(Section):
    """The training loss (paper, 3.3.3)."""

    name: str = setting(
        "focal",
        "focal (the paper's equation 2), bce (binary cross-entropy), or a loss of whole masks: dice, tversky, "
        "focal_tversky, lovasz_hinge; a + adds two",
        choices=LOSSES,
    )
    alpha: float = setting(0.8, "weight of the focal loss", minimum=0, maximum=100)
    gamma: float = setting(2.0, "exponent of the focal loss; 0: alpha times cross-entropy", minimum=0, maximum=20)
    tversky_alpha: float = setting(
        0.3, "weight of false positives in tversky and focal_tversky", minimum=0, maximum=100
    )
    tversky_beta: float = setting(0.7, "weight of false negatives in tversky and focal_tversky", minimum=0, maximum=100)
    tversky_gamma: float = setting(
        4 / 3, "focal_tversky is the Tversky loss to the power of 1 / this", minimum=0.1, maximum=20
    )
    class_balanced: bool = setting(
        False, "weight lesion pixels by alpha and skin by 1 - alpha, instead of all by alpha"
    )


@dataclasses.dataclass(frozen=True)
class OptimConfig(Section):
    """Adam, reduce-on-plateau, early stopping, averaging (paper, Table 1; Keras' defaults where it is silent)."""

    learning_rate: float = setting(1e-4, "initial learning rate", minimum=1e-12, maximum=10)
    adam_epsilon: float = setting(1e-7, "Adam's epsilon (Keras' default)", minimum=1e-16, maximum=1)
    plateau_factor: float = setting(
        0.2, "factor on the learning rate at a plateau of the validation loss", minimum=0, maximum=0.99
    )
    plateau_patience: int = setting(5, "epochs without improvement before the reduction", minimum=1)
    plateau_min_delta: float = setting(
        1e-4, "minimum decrease of the validation loss that counts as an improvement", minimum=0, maximum=1e6
    )
    min_learning_rate: float = setting(1e-6, "minimum learning rate", minimum=0, maximum=10)
    early_stop_patience: int = setting(
        10,
        "epochs without improvement before training stops; may be raised later to train a run on",
        minimum=1,
        resumable=True,
    )
    encoder_rate: float = setting(
        1.0,
        "factor on the encoder's learning rate; 0 freezes its weights, but not its batch statistics",
        minimum=0,
        maximum=1,
    )
    ema: float = setting(
        0.0,
        "decay per step of a moving average of weights and batch statistics; validation, the best checkpoint and all "
        "inference use the average; 0: none",
        minimum=0,
        maximum=0.99999,
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig(Section):
    """Length, batch, seed and devices of a run."""

    epochs: int = setting(
        50,
        "maximum number of epochs; may be raised later to continue a run",
        minimum=1,
        maximum=1_000_000,
        resumable=True,
    )
    batch_size: int = setting(16, "images per step, over all devices together", minimum=1)
    seed: int = setting(0, "seed of weights, image order, augmentation and dropout", minimum=0, maximum=2**31 - 1)
    devices: int = setting(
        0,
        "local devices to use; 0: all, or as many CPU cores as divide the batch",
        minimum=0,
        resumable=True,
    )
    log_every_steps: int = setting(
        10, "fetch the loss every this many steps; each fetch waits for the device", minimum=1, resumable=True
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()

    @property
    def drawn_per_step(self) -> int:
        """Number of images in each batch that are drawn on the device (`data.synthetic_share`)."""
        return round(self.data.synthetic_share * self.train.batch_size)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Returns the settings as nested dicts of JSON types."""
        return {
            section.name: {
                k: list(v) if isinstance(v, tuple) else v for k, v in vars(getattr(self, section.name)).items()
            }
            for section in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> "Config":
        """Builds a config from nested dicts; what is absent keeps its default.

        Raises:
          UserError: an unknown section or setting, or a value that the setting does not allow.
        """
        sections = [field.name for field in dataclasses.fields(cls)]
        changes = {}
        for section, fields in _object("the configuration", values).items():
            if section not in sections:
                raise UserError(f"unknown section {shown(section)}{suggestion(str(section), sections)}")
            changes |= {f"{section}.{name}": value for name, value in _object(section, fields).items()}
        return cls().updated(changes)

    def updated(self, changes: Mapping[str, Any]) -> "Config":
        """Returns a copy with settings changed by dotted name, for example `{"optim.learning_rate": 1e-3}`.

        Raises:
          UserError: an unknown name, with the nearest known one, or a value that the setting does not allow.
        """
        sections: dict[str, dict[str, Any]] = {}
        known = dict(self.settings())
        for dotted, value in changes.items():
            if dotted not in known:
                raise UserError(f"unknown setting {shown(dotted)}{nearest_setting(dotted, list(known))}")
            section, name = dotted.split(".")
            sections.setdefault(section, {})[name] = value
        return dataclasses.replace(self, **{s: dataclasses.replace(getattr(self, s), **v) for s, v in sections.items()})

    @classmethod
    def settings(cls) -> Iterable[tuple[str, dataclasses.Field]]:
        """Yields the dotted name and the dataclass field of every setting, in order of declaration."""
        for section in dataclasses.fields(cls):
            for field in dataclasses.fields(section.type):
                yield f"{section.name}.{field.name}", field

    def get(self, dotted: str) -> Any:
        """Returns the value of the setting with a dotted name."""
        section, name = dotted.split(".")
        return getattr(getattr(self, section), name)


def _object(name: str, values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise UserError(f"{name} is {type(values).__name__}: must be an object of names and values")
    return values
