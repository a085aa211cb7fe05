"""The rows that train on drawn images: shares of every batch, drawn images alone, and few images of PH2 beside them."""

import math
from collections.abc import Mapping
from typing import Any

from experiments.paper.models import FINAL, PHOTOGRAPHS
from experiments.paper.rows import Row
from experiments.paper.study import Study
from jaxseg.config import Config

SMALL: dict[str, Any] = {
    **PHOTOGRAPHS.changes,
    "model.encoder": "none",
    "model.unet_channels": (12, 24, 48, 96, 128),
    "model.dropout": 0.1,
    "loss.name": "bce+dice",
    "optim.learning_rate": 2e-3,
}
"""The recipe of the model inside the package: a plain U-Net of 0.8 million weights, with the preset's augmentation."""

LOW_RATE = 2e-4
"""Learning rate of PH2 after drawn images: a tenth of the rate before."""

BESIDE = 0.5
"""Share of drawn images in every batch beside few images."""

KINDS = ("alone", "beside drawn images", "after drawn images")
"""How a number of PH2 images is trained on, as columns of the table of few images."""


def share_row(study: Study, share: float) -> Row:
    """Returns the row of the preset with another share of drawn images, of as many steps as it has without them.

    Args:
      study: the study.
      share: share of every batch.
    """
    # A pass over the training images takes 1 / (1 - share) as many steps.
    changes = {"data.synthetic_share": share, "train.epochs": math.ceil(epochs_of(study) * (1 - share))}
    return Row(f"drawn_share_{100 * share:.0f}", f"PH2, {share:.0%} drawn", PHOTOGRAPHS.changes | changes)


def longer_row(study: Study) -> Row:
    """Returns the row of photographs alone in as many steps as the preset has, twice those of `share_row`."""
    longer = {"train.epochs": 2 * epochs_of(study)}
    return Row("generalise_longer", "PH2, none drawn, twice the steps", PHOTOGRAPHS.changes | longer)


def alone_row(study: Study, seen: int) -> Row:
    """Returns the row of the small network on drawn images alone.

    Args:
      study: the study.
      seen: number of drawn images that a run sees in all.
    """
    return _small(study, f"drawn_alone_{seen}", f"small: {seen:,} drawn images alone", _alone(study, seen))


def pretrained_alone_row(study: Study, seen: int) -> Row:
    """Returns the row of the preset's network on drawn images alone.

    Args:
      study: the study.
      seen: number of drawn images that a run sees in all.
    """
    title = f"{seen:,} drawn images alone"
    return Row(f"drawn_alone_pretrained_{seen}", title, PHOTOGRAPHS.changes | _alone(study, seen))


def _alone(study: Study, seen: int) -> dict[str, Any]:
    return {"data.name": "synthetic", "data.synthetic_share": 1.0, "data.synthetic_train": seen // epochs_of(study)}


def few_row(study: Study, count: int, kind: str) -> Row:
    """Returns the row of a number of PH2 images.

    Args:
      study: the study.
      count: training images.
      kind: one of `KINDS`.
    """
    name, title, epochs = f"drawn_few_{count}", f"small: {count} PH2 images {kind}", study.scale.drawn.few_epochs
    few: dict[str, Any] = {"train_images": count, "keep": count == max(study.scale.drawn.few)}
    if kind == "alone":
        return _small(study, f"{name}_alone", title, {"train.epochs": epochs}, **few)
    if kind == "beside drawn images":
        changes = {"train.epochs": math.ceil(epochs * (1 - BESIDE)), "data.synthetic_share": BESIDE}
        return _small(study, f"{name}_beside", title, changes, **few)
    parent = alone_row(study, study.scale.drawn.seen[0])
    return _small(study, f"{name}_after", title, {"optim.learning_rate": LOW_RATE}, parent=parent, **few)


def _small(study: Study, name: str, title: str, changes: Mapping[str, Any], **how: Any) -> Row:
    return Row(name, title, {**SMALL, **study.scale.drawn.network, **changes}, pretrained=False, **how)


def epochs_of(study: Study) -> int:
    """Returns how many epochs rows have that change nothing about it."""
    return study.scale.settings.get("train.epochs", Config().train.epochs)


def models(study: Study) -> dict[str, Row]:
    """Returns the rows of the tables of whole sets by title, those that tell most first."""
    sizes = study.scale.drawn
    most = max(sizes.few)
    first, *other_shares = (share_row(study, share) for share in sizes.shares)
    alone, *other_alone = (alone_row(study, seen) for seen in sizes.seen)
    pretrained_alone = [pretrained_alone_row(study, seen) for seen in sizes.seen_pretrained]
    small = [few_row(study, most, kind) for kind in KINDS]
    ordered = [alone, PHOTOGRAPHS, FINAL, longer_row(study), small[2], first, *small[:2], *other_alone]
    ordered += [*pretrained_alone, *other_shares]
    own = {PHOTOGRAPHS.name: "PH2, none drawn", FINAL.name: f"PH2, {BESIDE:.0%} drawn, twice the steps (the preset)"}
    return {own.get(row.name, row.title): row for row in ordered}
