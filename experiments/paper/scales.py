"""How large the paper's experiments are: `smoke` (does it run?), `cpu` (hours) and `full` (the paper's settings)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

Changes = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class DrawnSizes:
    """The sizes of the experiments with drawn images.

    Attributes:
      network: changes to the plain U-Net of the rows without ImageNet weights.
      shares: shares of drawn images in every batch, beside those of the training set; the first is trained first.
      seen: numbers of drawn images that networks see which see no others; the first is the parent of other rows.
      seen_pretrained: the same of networks that start with ImageNet weights.
      few: numbers of training images beside drawn ones.
      few_epochs: epochs of rows with these alone; with as many steps as the first of `seen`, the rows compare.
      validation: number of drawn images that are scored.
    """

    network: Changes
    shares: tuple[float, ...]
    seen: tuple[int, ...]
    seen_pretrained: tuple[int, ...]
    few: tuple[int, ...]
    few_epochs: int
    validation: int


@dataclasses.dataclass(frozen=True)
class Scale:
    """The sizes of all experiments.

    Attributes:
      name: name on the command line.
      about: a sentence for the page.
      settings: changes to the preset `paper` that all rows share.
      random_start: further changes of rows without pretrained weights.
      plain: further changes of the plain U-Net.
      encoder: encoder of the ResNet rows, unless the command line names another.
      train: training data set.
      external: data set and split that is scored and never trained on.
      in_domain: data set of the in-domain row, which trains on its folds, and that row's changes.
      seeds: runs of a row.
      folds: folds of cross-validation.
      low_data: numbers of training images of the rows with few images.
      low_data_settings: changes of those rows, and further changes of those that start with ImageNet weights.
      test_images: images of the external set that artefacts are drawn on.
      severities: severities of the artefacts.
      widened: names of the changes in `sections.widened` that have a row of their own beside that of all.
      drawn: sizes of the experiments with drawn images.
    """

    name: str
    about: str
    settings: Changes
    random_start: Changes
    plain: Changes
    encoder: str
    train: str
    external: tuple[str, str]
    in_domain: tuple[str, Changes]
    seeds: int
    folds: int
    low_data: tuple[int, ...]
    low_data_settings: tuple[Changes, Changes]
    test_images: int
    severities: tuple[int, ...]
    widened: tuple[str, ...]
    drawn: DrawnSizes


_SYNTHETIC = {"data.synthetic_train": 20, "data.synthetic_eval": 9}

SMOKE = Scale(
    name="smoke",
    about="A trial of the scripts: generated images, a tiny plain network in place of the ResNets.",
    settings={
        **_SYNTHETIC,
        "data.image_size": 32,
        "data.workers": 2,
        "loss.name": "focal",
        "model.encoder": "none",
        "model.pretrained": "none",
        "model.unet_channels": (4, 8),
        "model.decoder_bn_momentum": 0.3,
        "optim.learning_rate": 1e-2,
        "train.batch_size": 4,
        "train.epochs": 2,
        "train.devices": 1,
    },
    random_start={},
    plain={},
    encoder="none",
    train="synthetic",
    external=("synthetic", "test"),
    in_domain=("synthetic", {"data.synthetic_train": 24}),
    seeds=2,
    folds=5,
    low_data=(4, 8),
    low_data_settings=({}, {}),
    test_images=4,
    severities=(1, 5),
    widened=(),
    drawn=DrawnSizes(
        # Loss and dropout of the other rows, with which they share their compiled programs.
        network={"model.unet_channels": (4, 8), "model.dropout": 0.3, "loss.name": "focal"},
        shares=(0.5,),
        seen=(16,),
        seen_pretrained=(16,),
        few=(8,),
        few_epochs=1,
        validation=4,
    ),
)

CPU = Scale(
    name="cpu",
    about=(
        "Hours on two CPU cores: 96 pixels instead of 224 and 10 epochs instead of at most 50, on the real images. "
        "Rows from random weights have 10 times the learning rate, without which 100 steps achieve nothing, and the "
        "plain U-Net has a quarter of the channels. Few images: 2 epochs in batches of 8, with the higher rate for all "
        "parts except a pretrained encoder. In its own domain: 2 epochs."
    ),
    settings={"data.image_size": 96, "train.epochs": 10},
    # With Keras' 0.99 the encoder's running averages lag far behind in 100 steps.
    random_start={"optim.learning_rate": 1e-3, "model.encoder_bn_momentum": 0.9},
    plain={"model.unet_channels": (16, 32, 64, 128, 256)},
    encoder="resnet50v2",
    train="ph2",
    external=("isic2016", "test"),
    in_domain=("isic2016", {"train.epochs": 2}),
    seeds=3,
    folds=5,
    low_data=(10, 20, 40, 80, 160),
    # 40 small steps. The decoder has the same rate whatever the encoder starts from.
    low_data_settings=(
        {
            "train.epochs": 2,
            "train.batch_size": 8,
            "optim.learning_rate": 1e-3,
            "model.encoder_bn_momentum": 0.9,
        },
        {"optim.encoder_rate": 0.1},
    ),
    test_images=50,
    severities=(1, 3, 5),
    widened=("paste", "amplitudes", "convolution", "camera"),
    drawn=DrawnSizes(
        network={},
        shares=(0.5, 0.25, 0.75),
        seen=(4_000, 16_000, 960),
        seen_pretrained=(4_000, 16_000),
        few=(160, 10, 40, 20, 80, 5),
        few_epochs=25,
        validation=100,
    ),
)

FULL = Scale(
    name="full",
    about="The paper's settings: 224 pixels, batch 16, at most 50 epochs with early stopping.",
    settings={},
    random_start={},
    plain={},
    encoder="resnet50v2",
    train="ph2",
    external=("isic2016", "test"),
    in_domain=("isic2016", {}),
    seeds=3,
    folds=5,
    low_data=(10, 20, 40, 80, 160),
    low_data_settings=({}, {}),
    test_images=187,  # of the 746 external ones, every fourth: seven minutes a run
    severities=(1, 3, 5),
    widened=("paste", "amplitudes", "convolution", "camera"),
    drawn=DrawnSizes(
        network={},
        shares=(0.5, 0.25, 0.75),
        seen=(16_000, 64_000, 4_000),
        seen_pretrained=(16_000,),
        few=(160, 10, 40, 20, 80, 5),
        few_epochs=100,
        validation=400,
    ),
)

SCALES = {scale.name: scale for scale in (SMOKE, CPU, FULL)}
"""All scales by name."""
