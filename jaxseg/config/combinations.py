"""Settings that do not go together, for runs that begin: refused, or told where one of them has no effect.

Not checked by `Config` itself, which reads the settings of old runs, too.
"""

import logging
from collections.abc import Callable, Collection

from jaxseg.config.datasets import AUTO, DATA_SETS
from jaxseg.config.sections import AugmentConfig, Config, LossConfig
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
    """Refuses settings that make another experiment than they seem to, and warns of those that are not read.

    Args:
      config: all settings, as they will be used.
      given: names of the settings that the user gave.

    Raises:
      UserError: `data.fold` without `data.folds`, of which each would be the same split; or a loss that teaches
        nothing, or rewards errors.
    """
    _check_loss(config.loss)
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


def _check_loss(loss: LossConfig) -> None:
    balanced = "focal" in loss.name.split("+") and loss.class_balanced
    # In a sum the other term may teach what a weight of 0 leaves out.
    if balanced and (loss.alpha > 1 or (loss.name == "focal" and loss.alpha in (0, 1))):
        raise UserError(
            f"loss.alpha = {loss.alpha:g}: with loss.class_balanced skin weighs 1 - alpha, so errors would cost "
            "nothing or be rewarded; give a number between 0 and 1"
        )
    if loss.name == "focal" and not loss.alpha:
        raise UserError("loss.alpha = 0: the loss is 0 whatever is predicted; give a number above 0")
    if loss.name in ("tversky", "focal_tversky") and not loss.tversky_alpha + loss.tversky_beta:
        raise UserError(
            "loss.tversky_alpha = loss.tversky_beta = 0: the loss is 0 whatever is predicted; give one above 0"
        )
