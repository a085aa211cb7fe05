"""Settings that a user gave and that nothing reads, because another setting decides: refused or told, never ignored."""

import logging
from collections.abc import Callable, Collection

from jaxseg.config.datasets import AUTO, DATA_SETS
from jaxseg.config.sections import AugmentConfig, Config
from jaxseg.errors import UserError

_log = logging.getLogger(__name__)


def _terms(config: Config) -> list[str]:
    return config.loss.name.split("+")


_RULES: tuple[tuple[tuple[str, ...], Callable[[Config], bool], str], ...] = (
    (
        ("loss.alpha", "loss.gamma", "loss.class_balanced"),
        lambda config: "focal" in _terms(config),
        "are of the focal loss",
    ),
    (
        ("loss.tversky_alpha", "loss.tversky_beta"),
        lambda config: not {"tversky", "focal_tversky"}.isdisjoint(_terms(config)),
        "are of the losses tversky and focal_tversky",
    ),
    (("loss.tversky_gamma",), lambda config: "focal_tversky" in _terms(config), "is of the loss focal_tversky"),
    (
        ("model.decoder_channels",),
        lambda config: config.model.encoder != "none",
        "are of the networks with an encoder; the plain U-Net has --model.unet-channels",
    ),
    (("model.unet_channels",), lambda config: config.model.encoder == "none", "are of the plain U-Net"),
    (
        tuple(f"augment.{name}" for name in AugmentConfig.__dataclass_fields__ if name != "enabled"),
        lambda config: config.augment.enabled,
        "change nothing with --augment.enabled false",
    ),
    (
        ("data.mask_lesion", "data.mask_invert", "data.mask_orientation"),
        lambda config: config.data.name not in (AUTO, *DATA_SETS),
        "are for the masks of a folder; those of a known data set are known",
    ),
    (
        ("data.synthetic_train", "data.synthetic_eval"),
        lambda config: config.data.name in (AUTO, "synthetic"),
        "are of the synthetic set",
    ),
    (
        ("optim.min_learning_rate", "optim.plateau_factor", "optim.plateau_patience"),
        lambda config: config.optim.min_learning_rate < config.optim.learning_rate,
        "change nothing where --optim.min-learning-rate is not below --optim.learning-rate",
    ),
)
"""Settings, when they are read, and what to say where they are not."""


def check(config: Config, given: Collection[str]) -> None:
    """Warns of settings that were given and are not read, and refuses a fold without folds.

    Args:
      config: all settings, as they will be used.
      given: names of the settings that the user gave.

    Raises:
      UserError: `data.fold` without `data.folds`: every fold would be the same split.
    """
    if config.data.fold and not config.data.folds:
        raise UserError(
            f"data.fold = {config.data.fold}: there are no folds, so each would be the same split; give "
            f"--data.folds too, as --data.folds {max(5, config.data.fold + 1)}"
        )
    told = [
        f"{', '.join(names)} {why}"
        for settings, are_read, why in _RULES
        if not are_read(config) and (names := [f"--{name.replace('_', '-')}" for name in settings if name in given])
    ]
    if told:
        _log.warning("settings without effect: %s", "; ".join(told))
