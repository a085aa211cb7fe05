"""Settings from the command line and from files: near misses, JSON, YAML, a run's own settings, `--print-config`."""

import json
import os
import shutil
import threading

import pytest

from jaxseg import cli, train
from jaxseg.config import Config, demo
from jaxseg.config.settings_file import read, read_chosen
from jaxseg.errors import UserError
from jaxseg.runs.workdir import read_config
from tests.helpers.answers import answer


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--lr", "--optim.learning-rate"),
        ("--optim.lr", "--optim.learning-rate"),
        ("--learning-rate", "--optim.learning-rate"),
        ("--learning_rat", "--optim.learning-rate"),
        ("--epochs", "--train.epochs"),
        ("--num_epochs=5", "--train.epochs"),
        ("--batch-size", "--train.batch-size"),
        ("--image-size", "--data.image-size"),
        ("--img_size", "--data.image-size"),
        ("--seed", "--train.seed"),
        ("--num-workers", "--data.workers"),
        ("--pretrained", "--model.pretrained"),
        ("--backbone", "--model.encoder"),
        ("--gpus", "--train.devices"),
        ("--output-dir", "--workdir"),
        ("--optim.learning-rat", "--optim.learning-rate"),
    ],
)
def test_a_flag_of_another_tool_suggests_the_setting(flag, meant, capsys):
    """If broken, who types `--lr` is asked whether he meant `--help`, and has to read through 60 flags."""
    with pytest.raises(SystemExit) as left:
        train.main(["--workdir", "w", flag, "1"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert f"unknown argument {flag.split('=')[0].replace('_', '-')!r}; did you mean {meant!r}?" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "flag", "meant"),
    [
        ("evaluate", "--output", "--out"),
        ("evaluate", "--model", "--workdir"),
        ("predict", "--out", "--output"),
        ("predict", "--images", "--input"),
    ],
)
def test_a_flag_of_one_command_suggests_that_of_another(command, flag, meant):
    """If broken, the commands' different words for the same thing cost a look at `--help`."""
    assert f"did you mean '{meant}'?" in answer(command, ["--workdir", "w", flag, "x"]).error


def test_what_is_near_nothing_suggests_nothing(capsys):
    """If broken, nonsense is answered with a suggestion that misleads."""
    with pytest.raises(SystemExit):
        train.main(["--workdir", "w", "--zzz", "1"])
    assert "unknown argument '--zzz'; see --help" in capsys.readouterr().err


def settings_from(*argv: str) -> Config:
    parser = cli.Parser("train", "", "")
    cli.add_settings(parser)
    return cli.config_from(parser.parse_args(argv))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", '{"optim": {"learning_rate": 1e-3}, "data.image_size": 64}'),
        ("c.json", '{"optim.learning-rate": 0.001, "data": {"image-size": 64}}'),
        # YAML takes 1e-3 for text, because it has no point.
        ("c.yaml", "optim:\n  learning_rate: 1e-3\ndata:\n  image_size: 64\n"),
        ("c.YML", "optim.learning-rate: 1e-3\ndata.image-size: 64\n"),
        ("c.txt", '{"optim": {"learning_rate": 0.001}, "data": {"image_size": 64}}'),
    ],
)
def test_settings_come_from_a_file(name, content, tmp_path):
    """If broken, an experiment cannot be kept as a file, or a file's settings are read otherwise than flags."""
    (tmp_path / name).write_text(content)
    wanted = Config().updated({"optim.learning_rate": 1e-3, "data.image_size": 64})
    assert settings_from("--config", str(tmp_path / name)) == wanted
    with_flag = settings_from("--config", str(tmp_path / name), "--data.image-size", "96")
    assert with_flag == wanted.updated({"data.image_size": 96}), "flags go before the file"


def test_a_preset_goes_before_a_file_of_its_name(tmp_path, monkeypatch):
    """If broken, `--config demo` means something else in a folder that holds an entry called demo."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("{}")
    assert settings_from("--config", "demo") == demo()
    assert settings_from("--config", "./demo") == Config()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.json", '{"optim": ', r"is not JSON \(.*mend the file"),
        ("c.json", "[1]", "holds no settings by name"),
        ("c.json", "", "is not JSON"),
        ("c.json", '{"optm": {}}', "unknown section 'optm'; did you mean 'optim'"),
        ("c.json", '{"optim": {"learning_rat": 1}}', r"unknown setting .*did you mean 'optim\.learning_rate'"),
        ("c.json", '{"optim": 3}', "must be an object of names and values"),
        ("c.json", '{"optim": {"learning_rate": 1}, "optim.learning-rate": 2}', "given twice"),
        ("c.json", '{"optim": {"learning_rate": "fast"}}', "must be a number"),
        ("c.json", '{"optim": {"learning_rate": NaN}}', "must be at least"),
        ("c.json", '{"schema_version": 99, "config": {}}', "schema_version 99 .*update jaxseg"),
        ("c.json", '{"schema_version": 1, "config": 3}', "is int: must be an object"),
        ("c.yaml", "optim: [1", r"is not YAML \(.*mend the file"),
        ("c.yaml", "optim:\n  learning_rate: fast\n", "must be a number"),
        ("c.yaml", "optim:\n  learning_rate: 0.1\n  learning_rate: 0.2\n", "learning_rate is given twice; keep one"),
        ("c.yaml", "train:\n  epochs: 3\ndata: {}\ntrain:\n  seed: 1\n", "train is given twice; keep one"),
        ("c.json", '{"optim": {"ema": 0.1, "ema": 0.2}}', "ema is given twice; keep one"),
        ("c.yaml", "train:\n  epochs: 010\n", "010 is no plain number"),
        ("c.yaml", "train:\n  epochs: 1:30\n", "1:30 is no plain number"),
        ("c.json", '{"schema_version": 1}', "config is NoneType"),
        ("c.yaml", "model:\n  pretrained: no\n", r"model\.pretrained is false, .*put the word in quotes"),
        ("c.yaml", "data:\n  mask_lesion: #ff0000\n", r"data\.mask_lesion has no value \(in YAML # begins a comment"),
        ("c.yaml", "train:\ndata: {folds: 5}\n", "train holds no settings; give some, or leave the line out"),
        ("c.yaml", "config: demo\ntrain: {epochs: 3}\n", "config names a preset, which a file cannot start from"),
        ("c.yaml", "paper: {train: {epochs: 3}}\n", "paper names a preset"),
        ("c.yaml", "model: {unet_channels: '4,8'}\n", r"must be a list of whole numbers, as \[256, 128\], not text"),
        ("c.toml", "[train]\nepochs = 3\n", r"is not JSON .*mend the file, or name it \.yaml if it is YAML"),
        ("c.yaml", "optim:\n  lr: 0.1\n", r"unknown setting 'optim\.lr'; did you mean 'optim\.learning_rate'\?"),
        ("c.yaml", "a: &a [1]\nb: *a\n", "aliases, as .name, are not taken"),
        ("c.yaml", "!!python/object/apply:os.mkdir [executed]", "is not YAML"),
        ("c.yaml", "a: " + "[" * 100_000, "is not YAML"),
        ("c.yaml", "a: {[1]: 2}\n", "is not YAML .*a name that is a list"),
        ("c.yaml", '!!int ""', "is not YAML .*tag that does not fit"),
        ("c.yaml", 'train: {epochs: !!bool "x"}\n', "is not YAML .*tag that does not fit"),
    ],
)
def test_a_bad_settings_file_is_one_line(name, content, said, tmp_path, monkeypatch):
    """If broken, a slip in a settings file is a traceback, is taken for a default, or executes what the file says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"--config {name}: .*{said}") as error:
        settings_from("--config", name)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("chosen", ["gone.yaml", "gone/demo", "gone.json"])
def test_a_missing_settings_file_is_one_line(chosen):
    """If broken, a mistyped path is answered as a mistyped preset, or is a traceback."""
    with pytest.raises(UserError, match=f"--config {chosen}: cannot be read"):
        settings_from("--config", chosen)


def test_a_runs_own_settings_start_another(tiny_run, tmp_path):
    """If broken, nobody can train a finished run again with one setting changed without copying all others by hand."""
    assert read(tiny_run / "config.json") == read(tiny_run) == read_config(tiny_run)


def test_print_config_trains_nothing(tiny_run, tmp_path, capsys):
    """If broken, what a run would be is known only once it runs; or the print-out cannot be given back."""
    flags = ["--config", str(tiny_run / "config.json"), "--optim.learning-rate", "0.5"]
    assert train.main(["--workdir", str(tmp_path / "new"), *flags, "--print-config"]) == 0
    printed = capsys.readouterr().out
    wanted = read_config(tiny_run).updated({"optim.learning_rate": 0.5})
    assert json.loads(printed) == wanted.to_dict()
    assert not (tmp_path / "new").exists()
    (tmp_path / "c.json").write_text(printed)
    assert settings_from("--config", str(tmp_path / "c.json")) == wanted


def test_print_config_resolves_what_the_folder_and_auto_settle(tiny_run, tmp_path, capsys, monkeypatch):
    """If broken, the print-out is not what would be trained: `auto` stays open, a run's own settings are not shown."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))  # nothing is prepared there
    assert train.main(["--workdir", str(tmp_path / "new"), "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["name"] == "synthetic"
    assert train.main(["--workdir", str(tiny_run), "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out) == read_config(tiny_run).to_dict()


def test_a_run_with_another_setting_says_how_to_start_a_new_one(tiny_run):
    """If broken, who wants another learning rate is told only that it cannot be."""
    said = answer("train", ["--workdir", tiny_run, "--optim.learning-rate", "1e-5"]).error
    assert "holds a run with optim.learning_rate = 0.01, not 1e-05" in said
    assert f"give --config {tiny_run / 'config.json'} and another --workdir" in said


@pytest.fixture
def stopped_early(tiny_run, tmp_path):
    """Returns the folder of a run of 4 epochs whose second epoch is its best, with a patience of one epoch."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    values = json.loads((run / "config.json").read_text())
    values["config"]["optim"]["early_stop_patience"] = 1
    (run / "config.json").write_text(json.dumps(values))
    for progress in run.glob("checkpoints/*/**/*"):
        if progress.is_file() and b'"early_stop"' in progress.read_bytes():
            content = json.loads(progress.read_text())
            content["early_stop"] |= {"wait": 1, "should_stop": True}
            progress.write_text(json.dumps(content))
    return run


def test_more_epochs_after_early_stopping_say_what_to_do(stopped_early):
    """If broken, `--train.epochs 60` ends at once with exit code 0, nothing is trained, and nobody says why."""
    assert answer("train", ["--workdir", stopped_early]).code == 0
    got = answer("train", ["--workdir", stopped_early, "--train.epochs", "4"])
    assert got.code == 2
    assert "stopped early after epoch 2, 1 epochs after its best" in got.error
    patience = got.error.split("--optim.early-stop-patience ")[1].split()[0]
    flags = ["--workdir", stopped_early, "--train.epochs", "4", "--optim.early-stop-patience", patience]
    assert answer("train", flags).code == 0
    assert json.loads((stopped_early / "summary.json").read_text())["epochs"] == 4


def test_a_name_in_two_spellings_is_given_twice(tmp_path):
    """If broken, of learning-rate and learning_rate in one section the last counts, in silence."""
    (tmp_path / "s.yaml").write_text("optim:\n  learning-rate: 0.001\n  learning_rate: 0.01\n")
    with pytest.raises(UserError, match=r"optim.learning_rate is given twice; keep one of the two"):
        read(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 77}, "seed is 77, and 0 in config.train, which is the one that is read"),
        ({"optim.learning_rate": 5}, "optim.learning_rate stands beside config, where it is not read"),
    ],
)
def test_settings_beside_those_of_a_record_are_refused(tiny_run, tmp_path, change, said):
    """If broken, who changes the seed that a run's config.json shows first gets a run of the old seed."""
    values = json.loads((tiny_run / "config.json").read_text())
    (tmp_path / "s.json").write_text(json.dumps(values))
    read(tmp_path / "s.json")
    (tmp_path / "s.json").write_text(json.dumps(values | change))
    with pytest.raises(UserError) as error:
        read(tmp_path / "s.json")
    assert said in str(error.value)


def test_a_file_means_what_flags_mean_beside_init_from(tmp_path, capsys):
    """If broken, the image size in a file is replaced by that of the model that the run starts with, in silence."""
    file, call = tmp_path / "s.json", ["--workdir", str(tmp_path / "w"), "--data", "synthetic", "--print-config"]
    file.write_text('{"data": {"image_size": 224}, "model": {"init_from": "builtin"}}')
    train.main([*call, "--config", str(file)])
    assert json.loads(capsys.readouterr().out)["data"]["image_size"] == 224
    file.write_text('{"data": {"image_size": 224}}')
    train.main([*call, "--config", str(file), "--init-from", "builtin"])
    assert json.loads(capsys.readouterr().out)["data"]["image_size"] == 224
    file.write_text('{"model": {"init_from": "builtin", "encoder": "resnet50v2"}}')
    with pytest.raises(UserError, match=r"model.encoder = 'resnet50v2': builtin has 'none'"):
        train.main([*call, "--config", str(file)])


def test_of_a_record_nobody_has_chosen_each_setting(tiny_run, tmp_path):
    """If broken, the settings of a fine-tuned run are all told to have no effect, or keep another's network out."""
    values = json.loads((tiny_run / "config.json").read_text())
    path = tmp_path / "s.json"
    path.write_text(json.dumps(values))
    assert read_chosen(path)[1] == frozenset()
    values["config"]["model"]["init_from"] = "builtin"
    for content in (values, values["config"]):  # the latter as --print-config writes it
        path.write_text(json.dumps(content))
        assert read_chosen(path)[1] == {"data.image_size"}


def test_a_record_of_a_fine_tuned_run_makes_the_same_run(tmp_path, capsys):
    """If broken, a run with a fine-tuned run's settings is trained at its parent's image size, in silence."""
    call = ["--data", "synthetic", "--print-config"]
    flags = ["--init-from", "builtin", "--data.image-size", "224"]
    train.main(["--workdir", str(tmp_path / "a"), *call, *flags])
    first = capsys.readouterr().out
    (tmp_path / "s.json").write_text(first)
    train.main(["--workdir", str(tmp_path / "b"), "--print-config", "--config", str(tmp_path / "s.json")])
    got = capsys.readouterr()
    assert json.loads(got.out) == json.loads(first)
    assert "without effect" not in got.err


def test_the_preset_for_own_work_may_start_with_the_model_inside(tmp_path, capsys):
    """If broken, README's two recommendations for own work, generalise and --init-from builtin, exclude each other."""
    call = ["--workdir", str(tmp_path / "a"), "--data", "synthetic", "--config", "generalise", "--init-from", "builtin"]
    train.main([*call, "--print-config"])
    got = capsys.readouterr()
    assert json.loads(got.out)["optim"]["encoder_rate"] == 1
    assert "optim.encoder_rate is left out: the network of builtin has no encoder" in got.err
    with pytest.raises(UserError, match="has no encoder"):
        train.main([*call, "--print-config", "--optim.encoder-rate", "0.1"])


def test_settings_may_come_through_a_pipe(tmp_path, capsys):
    """If broken, `--config <(...)` is read a second time, when nothing is left in it."""
    os.mkfifo(tmp_path / "s.json")
    writer = threading.Thread(target=(tmp_path / "s.json").write_text, args=('{"train": {"epochs": 7}}',))
    writer.start()
    train.main(["--workdir", str(tmp_path / "w"), "--config", str(tmp_path / "s.json"), "--print-config"])
    writer.join()
    assert json.loads(capsys.readouterr().out)["train"]["epochs"] == 7
