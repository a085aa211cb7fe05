"""Bad input of every kind to every command: an exit code, one line with cause and cure, and nothing lost.

The cases are tables in `bad_files.py`, `bad_runs.py` and `bad_jobs.py`. They run in this process, by the function that
each command's script calls; some run as commands, too.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import types

import pytest
from PIL import Image

from jaxseg import cli, evaluate, predict, prepare, train
from jaxseg.config import Config
from jaxseg.errors import UserError
from jaxseg.system.lock import held
from jaxseg.system.stray_errors import hush_checkpoint_reads
from tests.helpers.answers import answer, check
from tests.helpers.bad_files import BAD_IMAGES, BAD_MASKS, HARMLESS_IMAGES, HARMLESS_MASKS, RGB, data_set, encoded
from tests.helpers.bad_jobs import PORT, PREPARE, TRAIN
from tests.helpers.bad_runs import EVALUATE, PREDICT, Make


def table(command: str, cases: dict[str, tuple[Make, str]]):
    """Returns a decorator that runs a test once for each case of a command."""
    return pytest.mark.parametrize(
        ("command", "make", "said"),
        [(command, *case) for case in cases.values()],
        ids=[f"{command}: {n}" for n in cases],
    )


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_an_image_that_cannot_be_used_is_reported(name, tiny_run, tmp_path):
    """If broken, one bad file is a traceback, goes unnoticed, or stops those beside it."""
    file, content, said = BAD_IMAGES[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"bad {file}").write_bytes(content)
    (tmp_path / "in" / "good.png").write_bytes(encoded(RGB))
    got = answer("predict", ["--workdir", tiny_run, "--input", tmp_path / "in", "--output", tmp_path / "out"])
    assert (got.code, got.error) == (1, "")
    reports = [line for line in got.log if "not segmented: " in line]
    assert len(reports) == 1
    assert re.search(rf"not segmented: {tmp_path}/in/bad {file}: .*({said})", reports[0])
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["good_mask.png", "predictions.csv"]


@pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")  # as `images` has it, which pytest overrules
def test_images_of_every_harmless_kind_just_work(tiny_run, tmp_path):
    """If broken, a grey, CMYK, palette, 16-bit, animated or oddly named or shaped picture needs converting by hand."""
    folder = tmp_path / "some photos, été 病变"
    (folder / "sub folder").mkdir(parents=True)
    for name, content in HARMLESS_IMAGES.items():
        (folder / name).write_bytes(content)
    (folder / "sub folder" / "again.png").symlink_to(folder / "grey.jpg")
    (folder / "sub folder" / "loop").symlink_to(folder)
    (folder / "empty.txt").write_bytes(b"")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    got = answer("predict", ["--workdir", tiny_run, "--input", folder, "--output", tmp_path / "out", "--overlay"])
    assert got.code == 0, got
    for name, content in HARMLESS_IMAGES.items():
        masks = [tmp_path / "out" / f"{stem}_mask.png" for stem in (name, name.rsplit(".", 1)[0])]
        with (
            Image.open(next(mask for mask in masks if mask.exists())) as written,
            Image.open(io.BytesIO(content)) as image,
        ):
            size = image.size[::-1] if name == "turned.jpg" else image.size
            assert written.size == size, name
    assert (tmp_path / "out" / "sub folder" / "again_mask.png").exists()
    assert len(list((tmp_path / "out").rglob("*_mask.png"))) == len(HARMLESS_IMAGES) + 1


def test_masks_of_every_harmless_kind_just_work(tiny_run, tmp_path):
    """If broken, a folder with masks of a customary kind cannot be scored, or is scored wrongly."""
    folder = data_set(tmp_path / "set", 0)
    for name, (content, _) in HARMLESS_MASKS.items():
        (folder / "images" / f"{name}.png").write_bytes(encoded(RGB))
        (folder / "masks" / f"{name}{'.tif' if name == 'cmyk' else '.png'}").write_bytes(content)
    got = answer("evaluate", ["--workdir", tiny_run, "--data", folder, "--out", tmp_path / "out"])
    assert got.code == 0, got
    lines = (tmp_path / "out" / "per_image.csv").read_text().splitlines()
    columns = lines[0].split(",")
    for line in lines[1:]:
        row = dict(zip(columns, line.split(","), strict=True))
        assert int(row["tp"]) + int(row["fn"]) == HARMLESS_MASKS[row["name"]][1], row["name"]


@pytest.mark.parametrize("name", BAD_MASKS)
def test_a_mask_that_cannot_be_used_is_named(name, tiny_run, tmp_path):
    """If broken, a bad mask is scored as if it were one, or ends in a traceback."""
    content, said = BAD_MASKS[name]
    folder = data_set(tmp_path / "set")
    (folder / "masks" / "im3.png").write_bytes(content)
    argv = ["--workdir", tiny_run, "--data", folder, "--out", tmp_path / "out"]
    check("evaluate", argv, rf"im3\.png: .*({said})", tmp_path)


@table("evaluate", EVALUATE)
def test_evaluate_answers(command, make, said, tiny_run, tmp_path):
    """If broken, scoring a folder that is not as it should be is a traceback, or gives scores of something else."""
    check(command, make(tmp_path, tiny_run), said, tmp_path)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("evaluate", ["--workdir", "{run}", "--data", "{set}", "--out", "{run}/checkpoints"]),
        ("evaluate", ["--workdir", "{run}", "--data", "{set}", "--out", "{run}/checkpoints/new", "--overwrite"]),
        ("predict", ["--workdir", "{run}", "--input", "{set}", "--output", "{run}/checkpoints/masks"]),
        ("inspect", ["--data", "{set}", "--out", "{run}/checkpoints"]),
        ("export", ["--workdir", "{run}", "--output", "{run}/checkpoints/model.stablehlo"]),
        ("train", ["--data", "{set}", "--workdir", "{run}/checkpoints/run"]),
    ],
)
def test_nothing_is_written_among_checkpoints(command, flags, tiny_run, tmp_path):
    """If broken, results lie where the run reads its weights."""
    places = {"run": tiny_run, "set": data_set(tmp_path / "set")}
    before = sorted(tiny_run.rglob("*"))
    check(command, [flag.format(**places) for flag in flags], "lies among the checkpoints of .*own", tmp_path)
    assert sorted(tiny_run.rglob("*")) == before


def test_an_evaluation_does_not_replace_the_page_of_a_run(tiny_run, tmp_path):
    """If broken, `--overwrite` puts an evaluation's page in the place of the run's."""
    argv = ["--workdir", tiny_run, "--data", data_set(tmp_path / "set"), "--out", tiny_run, "--overwrite"]
    before = (tiny_run / "report.html").read_bytes()
    check("evaluate", argv, "is a run's folder, whose page this would replace", tmp_path)
    assert (tiny_run / "report.html").read_bytes() == before


@table("predict", PREDICT)
def test_predict_answers(command, make, said, tiny_run, tmp_path):
    """If broken, a run that is damaged, edited or of another version is a traceback, or a user's masks are replaced."""
    check(command, make(tmp_path, tiny_run), said, tmp_path)


@table("train", TRAIN)
def test_train_answers(command, make, said, tiny_run, tmp_path):
    """If broken, a slip costs an hour, a folder of the user's is written into, or a run goes on as another one."""
    check(command, make(tmp_path, tiny_run), said, tmp_path)


@table("port_weights", PORT)
def test_port_weights_answers(command, make, said, tiny_run, tmp_path):
    """If broken, a download that is not what it seems is taken, executed, or a traceback."""
    check(command, make(tmp_path, tiny_run), said, tmp_path)
    assert not (tmp_path / "executed").exists()


@table("prepare", PREPARE)
def test_prepare_answers(command, make, said, tiny_run, tmp_path):
    """If broken, an archive from somewhere writes, fills the memory or is a traceback; or half a set is left."""
    check(command, make(tmp_path, tiny_run), said, tmp_path, writes="tfds")
    assert not (tmp_path / "tfds").exists() or not list((tmp_path / "tfds").iterdir())


@pytest.mark.parametrize(
    ("command", "flag", "said"),
    [
        ("train", "--workdir", "run: is in use|run is in use: process {pid} on .* works in it; .* another --workdir"),
        ("evaluate", "--out", "run is in use: process {pid} on .* works in it; .* another --out"),
        ("predict", "--output", "run is in use: process {pid} on .* works in it; .* another --output"),
    ],
)
def test_a_folder_in_use_is_refused(command, flag, said, tiny_run, tmp_path):
    """If broken, two commands that were started at once write one another's files, or half of them."""
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "a.png").write_bytes(encoded(RGB))
    argv = {"train": [], "evaluate": ["--workdir", tiny_run], "predict": ["--workdir", tiny_run, "--input"]}[command]
    argv = [*argv, tmp_path / "a.png"] if command == "predict" else argv
    with held(tmp_path / "run"):
        check(command, [*argv, flag, tmp_path / "run"], said.format(pid=os.getpid()), tmp_path)


@pytest.mark.parametrize(
    ("command", "argv", "said"),
    [
        ("train", ["--train.batch-size", "0", "--workdir", "w"], "train.batch_size = 0: must be at least 1\n"),
        ("evaluate", ["--workdir", "gone"], "gone: no config.json in it, so no run; train first: "),
        (
            "predict",
            ["--workdir", "gone", "--input", "a.png", "--output", "o"],
            "gone: no config.json in it, so no run",
        ),
        ("prepare", ["ph2", "--source", "gone", "--data-dir", "d"], "--source gone: no such folder or archive\n"),
        ("port_weights", ["--source", "a.png", "--output", "w.npz"], "a.png: not an HDF5 file ("),
    ],
)
def test_as_a_command(command, argv, said, tmp_path):
    """If broken, what the function answers is not what a user sees: lines of libraries, another exit code."""
    (tmp_path / "a.png").write_bytes(encoded(RGB))
    done = subprocess.run(
        [sys.executable, "-m", f"jaxseg.{command}", *argv], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"python -m jaxseg.{command}: error: {said}")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] in (["a.png"], ["a.png", "d"], ["d", "a.png"])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PermissionError(13, "Permission denied", "a/b"), 2, "a/b: Permission denied; mend that, or give another path"),
        (OSError(28, "No space left on device", "a/b"), 1, "a/b: No space left on device; mend that"),
        (OSError(28, "No space left on device"), 1, "no space left on the disk; make room and give the same command"),
        (OSError(5, "Input/output error"), 1, "Input/output error; mend that and give the same command again"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes"),
            1,
            "out of memory; try a lower --train",
        ),
        (MemoryError(), 1, "out of memory; try a lower --train.batch-size"),
        (FileNotFoundError(2, "No such file or directory", "ours"), None, ""),
        (RuntimeError("a bug"), None, ""),
    ],
)
def test_what_the_system_refuses_is_no_bug_of_ours(error, code, said, capsys):
    """If broken, a full disk, a forbidden file or a small GPU is a traceback; or a bug of ours is hidden."""

    def main():
        raise error

    with pytest.raises(SystemExit if code else type(error)) as left:
        cli.run("train", main)
    if code:
        assert left.value.code == code
        assert capsys.readouterr().err.startswith(f"python -m jaxseg.train: error: {said}")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("predict", "out of memory; try a lower --batch-size; --skip-existing then goes on"),
        ("evaluate", "out of memory; try a lower --batch-size\n"),
        ("export", "out of memory; end other programs"),
    ],
)
def test_a_command_out_of_memory_names_its_own_flags(command, said, capsys):
    """If broken, predict advises settings of train, which it refuses when they are given."""

    def main():
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes")

    with pytest.raises(SystemExit) as left:
        cli.run(command, main)
    assert left.value.code == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "argv"),
    [
        (train.main, ["--workdir", ""]),
        (predict.main, ["--input", "", "--output", "out"]),
        (predict.main, ["--input", "in", "--output="]),
        (evaluate.main, ["--ensemble", "a", ""]),
        (prepare.main, ["ph2", "--source", ""]),
    ],
)
def test_an_empty_path_is_not_the_current_folder(main, argv, tmp_path, monkeypatch, capsys):
    """If broken, a shell variable that is not set scatters a run over the folder one happens to be in."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    assert "is empty (is a shell variable unset?); give a path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("main", "argv", "flag"),
    [
        (train.main, ["--workdir", "gs://bucket/run"], "--workdir"),
        (train.main, ["--workdir", "run", "--data", "s3://bucket/set"], "--data.name"),
        (predict.main, ["--input", "https://example.org/a.jpg", "--output", "out"], "--input"),
        (predict.main, ["--input", "in", "--output=gs://bucket/out"], "--output"),
        (prepare.main, ["ph2", "--source", "in", "--data-dir", "file:///sets"], "--data-dir"),
    ],
)
def test_an_address_is_no_folder_of_this_machine(main, argv, flag, tmp_path, monkeypatch, capsys):
    """If broken, a run that is meant for a bucket lands in a local folder called "gs:", and is lost with it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert f"{flag} " in told
    assert "is an address; must be a file or folder on this machine: copy it to a local disk" in told
    with pytest.raises(UserError, match="--workdir gs://bucket/run: is an address"):
        train.train_and_evaluate(Config(), "gs://bucket/run")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_utf8_is_one_line(capsys):
    """If broken, a file from an old archive ends a command in a traceback."""

    def main():
        "caf\udce9.png".encode()

    with pytest.raises(SystemExit) as left:
        cli.run("train", main)
    assert left.value.code == 2
    assert "caf\N{REPLACEMENT CHARACTER}.png: a name that is not UTF-8; rename" in capsys.readouterr().err


def test_no_word_of_a_file_steers_the_terminal(capsys):
    """If broken, a hostile file's name or content moves the cursor, sets the title, or fills the screen."""
    assert cli.printable_line("a\x1b[2Jb\nc\u202ed") == "a\N{REPLACEMENT CHARACTER}[2Jb c\N{REPLACEMENT CHARACTER}d"
    long = cli.printable_line("beginning" + "x" * 5000 + "end")
    assert len(long) < 900
    assert long.startswith("beginning")
    assert long.endswith("end")


def test_what_other_reads_of_a_damaged_checkpoint_say_is_not_printed(monkeypatch):
    """If broken, pages of tracebacks from threads bury the one line that tells which checkpoint is damaged."""
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    hush_checkpoint_reads()
    hush_checkpoint_reads()
    read = types.SimpleNamespace(cr_code=types.SimpleNamespace(co_filename="/site-packages/orbax/read.py"))
    for about in ((None, RuntimeError("Event loop is closed")), (read, Exception("damaged"))):
        sys.unraisablehook(types.SimpleNamespace(object=about[0], exc_value=about[1]))
    assert not printed
    other = types.SimpleNamespace(object=None, exc_value=RuntimeError("a bug"))
    sys.unraisablehook(other)
    assert printed == [other]
