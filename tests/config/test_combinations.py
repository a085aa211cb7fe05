"""Settings that nothing reads are told, and those that would make another experiment are refused."""

import pytest

from jaxseg.config import Config
from jaxseg.config.combinations import check
from jaxseg.errors import UserError

CASES = {
    "alpha of another loss": ({"loss.name": "bce", "loss.alpha": 0.3}, "--loss.alpha are of the focal loss"),
    "Tversky's weights": ({"loss.tversky_beta": 0.3}, "--loss.tversky-beta are of the losses tversky"),
    "Tversky's exponent": ({"loss.name": "tversky", "loss.tversky_gamma": 2.0}, "--loss.tversky-gamma is of the loss"),
    "decoder of the plain U-Net": (
        {"model.encoder": "none", "model.decoder_channels": (5, 4, 3, 2, 1)},
        "--model.decoder-channels are of the networks with an encoder",
    ),
    "scales of the ResNet": ({"model.unet_channels": (4, 8)}, "--model.unet-channels are of the plain U-Net"),
    "no augmentation": (
        {"augment.enabled": False, "augment.rotation": 90.0, "augment.gamma": 0.5},
        "--augment.rotation, --augment.gamma change nothing with --augment.enabled false",
    ),
    "masks of a known set": (
        {"data.name": "synthetic", "data.mask_invert": True},
        "--data.mask-invert are for the masks of a folder",
    ),
    "drawn images of a folder": ({"data.name": "photos", "data.synthetic_train": 9}, "--data.synthetic-train are of"),
    "a rate below its minimum": (
        {"optim.min_learning_rate": 0.1, "optim.plateau_patience": 3},
        "--optim.min-learning-rate, --optim.plateau-patience change nothing where",
    ),
}


@pytest.mark.parametrize(("settings", "said"), CASES.values(), ids=CASES)
def test_a_setting_that_nothing_reads_is_told(settings, said, heard):
    """If broken, who tunes it compares runs that are the same, and never knows."""
    config = Config().updated(settings)
    check(config, settings)
    assert f"settings without effect: {said}" in heard.text
    heard.clear()
    check(config, [name for name in settings if name in ("loss.name", "data.name", "augment.enabled")])
    assert not heard.text


@pytest.mark.parametrize(
    "settings",
    [
        {"loss.name": "focal+dice", "loss.alpha": 0.3},
        {"loss.name": "focal_tversky", "loss.tversky_gamma": 2.0, "loss.tversky_alpha": 0.5},
        {"data.name": "photos", "data.mask_invert": True, "augment.rotation": 3.0},
        {"model.encoder": "none", "model.unet_channels": (4, 8), "data.synthetic_train": 9},
    ],
)
def test_a_setting_that_is_read_is_not_told(settings, heard):
    """If broken, warnings about sound settings teach users not to read them."""
    check(Config().updated(settings), settings)
    assert not heard.text


def test_a_fold_without_folds_is_refused():
    """If broken, five "folds" are the same split five times, and pass for cross-validation."""
    with pytest.raises(UserError, match=r"data.fold = 3: there are no folds, .* --data.folds 5"):
        check(Config().updated({"data.fold": 3}), ())
    check(Config().updated({"data.folds": 5, "data.fold": 3}), ())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss.class_balanced": True, "loss.alpha": 2.0}, "skin weighs 1 - alpha"),
        ({"loss.class_balanced": True, "loss.alpha": 1.0}, "skin weighs 1 - alpha"),
        ({"loss.alpha": 0.0}, "the loss is 0 whatever is predicted"),
        ({"loss.name": "tversky", "loss.tversky_alpha": 0.0, "loss.tversky_beta": 0.0}, "the loss is 0 whatever"),
    ],
)
def test_a_loss_that_cannot_teach_is_refused(settings, said):
    """If broken, a run "finishes" that learned nothing, or was rewarded for its errors."""
    config = Config().updated(settings)  # as an old run may have it
    with pytest.raises(UserError) as error:
        check(config, ())
    assert said in str(error.value)


def test_a_sum_may_leave_to_one_term_what_the_other_does(heard):
    """If broken, Dice and a focal loss of lesion pixels alone, which teach well together, are refused."""
    check(Config().updated({"loss.name": "focal+dice", "loss.class_balanced": True, "loss.alpha": 1.0}), ())
    check(Config().updated({"loss.name": "focal+dice", "loss.alpha": 0.0}), ())
    assert not heard.text
