"""Settings: checks, JSON, and the command line made from them."""

import subprocess
import sys

import pytest

from jaxseg import cli, config
from jaxseg.config import PRESETS, Config, preset
from jaxseg.errors import UserError


def test_defaults_are_the_papers():
    """If broken, "the paper's model" is trained with hyperparameters that differ from the paper's Table 1."""
    config = preset("paper")
    assert config == Config()
    assert (config.data.image_size, config.train.batch_size, config.train.epochs) == (224, 16, 50)
    assert (config.loss.name, config.loss.alpha, config.loss.gamma, config.model.dropout) == ("focal", 0.8, 2.0, 0.3)
    optim = config.optim
    assert (optim.learning_rate, optim.plateau_factor, optim.plateau_patience) == (1e-4, 0.2, 5)
    assert (optim.min_learning_rate, optim.early_stop_patience, optim.adam_epsilon) == (1e-6, 10, 1e-7)
    assert (config.model.encoder, config.model.decoder_channels) == ("resnet50v2", (256, 128, 64, 32, 16))


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name):
    """If broken, a run cannot be resumed or evaluated from its own config.json."""
    assert Config.from_dict(preset(name).to_dict()) == preset(name)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("optim.learning_rat", 1.0, "did you mean 'optim.learning_rate'"),
        ("optim.learning_rate", -1.0, "at least 1e-12"),
        ("optim.learning_rate", float("nan"), "optim.learning_rate = nan"),
        ("optim.learning_rate", 10**400, "optim.learning_rate = inf"),
        ("train.batch_size", 0, "train.batch_size = 0: must be at least 1"),
        ("train.epochs", 10**40, "a number of over 30 digits: must be at least 1 and at most 1,000,000"),
        ("data.name", "", "data.name is empty"),
        ("data.name", "a\0b", "NUL"),
        ("train.epochs", 1.5, "a whole number"),
        ("train.epochs", True, "a whole number"),
        ("loss.name", "focl", "did you mean 'focal'"),
        (
            "loss.name",
            "dice+focal",
            "must be one of focal, bce, dice, tversky, focal_tversky, lovasz_hinge, focal+dice",
        ),
        ("loss.tversky_alpha", -1.0, "loss.tversky_alpha = -1.0: must be at least 0"),
        ("loss.tversky_gamma", 0.0, "loss.tversky_gamma = 0.0: must be at least 0.1"),
        ("data.image_size", 100, "multiple of 32, as 96"),
        ("data.folds", 1, "folds must be 0 or at least 2"),
        ("augment.zoom_min", 1.5, "must not exceed"),
        ("augment.translation", 0.6, "at least 0 and at most 0.5"),
        ("augment.brightness", 1, "at most 0.95"),
        ("augment.contrast", -0.1, "at least 0"),
        ("augment.saturation", 2.0, "at most 0.95"),
        ("augment.gamma", 5, "at most 4"),
        ("augment.colour_cast", -1, "at least 0"),
        ("augment.illumination", 1.0, "at most 0.95"),
        ("augment.artefacts", 1.5, "augment.artefacts = 1.5: must be at least 0 and at most 1"),
        ("model.colour_constancy", "shades_of_grey", "did you mean 'shades_of_gray'"),
        ("model.decoder_channels", (16, 8), "needs 5 numbers"),
        ("model.unet_channels", (), "give at least one number"),
        ("nonsense", 1, "unknown setting"),
    ],
)
def test_wrong_values_are_refused_by_name(name, value, said):
    """If broken, a mistyped or impossible setting is accepted silently, or fails an hour later without its name."""
    with pytest.raises(UserError) as error:
        Config().updated({name: value})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [[], {"data": 3}, {"dta": {}}, {"data": {"nam": 1}}, None])
def test_json_of_another_form_is_refused(values):
    """If broken, an edited config.json ends in a traceback."""
    with pytest.raises(UserError, match=r"must be an object|did you mean '"):
        Config.from_dict(values)


def parse(*flags: str) -> Config:
    parser = cli.Parser("train", "Trains.", "")
    cli.add_settings(parser)
    return cli.config_from(parser.parse_args(flags))


def test_every_setting_has_a_flag_and_help():
    """If broken, a setting exists that no flag sets, or whose meaning --help does not say."""
    parser = cli.Parser("train", "Trains.", "")
    cli.add_settings(parser)
    text = " ".join(parser.format_help().split())
    for name, field in Config.settings():
        assert f"--{name.replace('_', '-')}" in text
        assert field.metadata["help"].split("%")[0][:30] in text


def test_flags_set_settings():
    """If broken, a flag is ignored, or changes the wrong setting."""
    config = parse("--config", "demo", "--data", "ph2", "--augment.enabled", "false", "--model.unet_channels=8,16")
    assert config == preset("demo").updated(
        {"data.name": "ph2", "augment.enabled": False, "model.unet_channels": (8, 16)}
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--optim.learning-rat", "1"], "did you mean '--optim.learning-rate'"),
        (["--train.epochs", "many"], "'many' is not a whole number"),
        (["--augment.enabled", "maybe"], "'maybe' is neither true nor false"),
        (["--train.epochs"], "expected one argument"),
        (["stray"], "'stray'"),
    ],
)
def test_typing_mistakes_end_with_one_line_and_exit_code_2(flags, said, capsys):
    """If broken, a typing mistake shows a traceback or a page of usage, or starts a run."""
    with pytest.raises(SystemExit) as exit:
        parse(*flags)
    lines = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2
    assert len(lines) == 1
    assert said in lines[0]


def test_unknown_preset_offers_the_nearest():
    """If broken, a misspelt preset trains the default one."""
    with pytest.raises(UserError, match="did you mean 'paper'"):
        parse("--config", "papr")


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "export", "compare", "port_weights", "prepare"])
def test_help_needs_no_jax(command):
    """If broken, --help takes seconds, because a command imports JAX before it parses its arguments."""
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_module('jaxseg.{command}', run_name='__main__')"
    )
    code += "\nexcept SystemExit as e: sys.exit(e.code or ('jax' in sys.modules) * 3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python -m jaxseg.{command}" in done.stdout


def test_face_has_every_public_name_of_the_old_module():
    """If broken, code written for the module that `jaxseg.config` was ends in an ImportError."""
    sections = {"DataConfig", "AugmentConfig", "ModelConfig", "LossConfig", "OptimConfig", "TrainConfig", "Config"}
    others = {"PRESETS", "SCHEMA_VERSION", "Section", "setting", "paper", "demo", "generalise", "preset"}
    assert sections | others <= set(config.__all__)
    assert all(hasattr(config, name) for name in config.__all__)


def test_import_is_cheap():
    """If broken, `import jaxseg` starts JAX."""
    code = "import sys, jaxseg; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
