"""Bad input to the commands that use a trained run, evaluate and predict: what is made, and what is answered."""

import shutil
from collections.abc import Callable
from pathlib import Path

from jaxseg.config import SCHEMA_VERSION
from tests.helpers.answers import answer
from tests.helpers.bad_files import RGB, data_set, edited_run, encoded, ph2, remove

Make = Callable[[Path, Path], list]
"""Makes a case's files in a folder, given the folder of a trained run; returns the command's arguments."""


def with_set(change: Callable[[Path], object]) -> Make:
    """Returns what makes a data set, changes it, and evaluates on it."""

    def make(place: Path, run: Path) -> list:
        folder = data_set(place / "set")
        change(folder)
        return ["--workdir", run, "--data", folder, "--out", place / "out"]

    return make


EVALUATE = {
    "mask missing": (with_set(lambda f: (f / "masks/im2.png").unlink()), r"im2\.png: no mask in .*; name it im2\.png"),
    "mask doubled": (
        with_set(lambda f: shutil.copy(f / "masks/im2.png", f / "masks/im2_mask.png")),
        r"im2.*: im2\.png has also the mask .*; keep one",
    ),
    "image doubled": (
        with_set(lambda f: shutil.copy(f / "images/im2.png", f / "images/im2.jpg")),
        r"there is also im2\.jpg; keep one",
    ),
    "image truncated": (
        with_set(lambda f: (f / "images/im2.png").write_bytes(encoded(RGB)[:500])),
        r"im2\.png: cannot be decoded .*fetch it again",
    ),
    "image a dead link": (
        with_set(lambda f: ((f / "images/im2.png").unlink(), (f / "images/im2.png").symlink_to(f / "gone"))),
        r"images/im2\.png: a link to a file that is not there",
    ),
    "no images/": (with_set(lambda f: (f / "images").rename(f / "photos")), r"has no folder images/ in it; .*holds"),
    "no masks/": (with_set(lambda f: (f / "masks").rename(f / "truth")), r"has no folder masks/ in it; .*holds"),
    "images/ empty": (
        with_set(lambda f: [p.unlink() for p in (f / "images").iterdir()]),
        r"no images in there .*\.jpg",
    ),
    "set a file": (
        lambda place, run: ["--workdir", run, "--data", (place / "x.zip").write_bytes(b"PK") and place / "x.zip"],
        r"x\.zip: neither a known data set .* nor a folder .*unpack an archive first",
    ),
    "set missing": (lambda place, run: ["--workdir", run, "--data", place / "gone"], r"gone: neither a known data set"),
    "set misspelt": (lambda place, run: ["--workdir", run, "--data", "isic2061"], r"did you mean 'isic2016'\?"),
    "set empty text": (lambda place, run: ["--workdir", run, "--data", ""], "data.name is empty"),
    "set of endless name": (lambda place, run: ["--workdir", run, "--data", "x" * 5000], "File name too long"),
    "set not prepared": (
        lambda place, run: ["--workdir", run, "--data", "ph2", "--data-dir", place],
        r"ph2 is not prepared in .*; run: python -m jaxseg\.prepare ph2",
    ),
    "set on the web": (
        lambda place, run: ["--workdir", run, "--data", "ph2", "--data-dir", "gs://bucket"],
        "must be a file or folder on this machine: copy",
    ),
    "split misspelt": (lambda place, run: ["--workdir", run, "--split", "tset"], r"did you mean 'test'\?"),
    "split of too few": (
        lambda place, run: ["--workdir", run, "--data", data_set(place / "set", 1), "--split", "validation"],
        "1 images are too few for 5 folds",
    ),
    "out among the images": (
        lambda place, run: ["--workdir", run, "--data", data_set(place / "s"), "--out", place / "s/images/of today"],
        r"of today: lies among the images of .*; give a folder of its own",
    ),
    "out among the masks of a side": (
        lambda place, run: [
            *("--workdir", run, "--data", data_set(place / "s/train").parent, "--split", "train"),
            *("--out", data_set(place / "s/validation") / "masks"),
        ],
        r"masks: lies among the masks of .*/s, which",
    ),
    "out a file": (
        lambda place, run: ["--workdir", run, "--out", (place / "o").write_text("mine") and place / "o"],
        "o: cannot be written to .*; make it writable, or give another --out",
    ),
}


def damaged_ph2(change: Callable[[Path], object]) -> Make:
    """Returns what prepares PH2, of one image, damages the prepared set, and evaluates on it."""

    def make(place: Path, run: Path) -> list:
        source = ph2(place, "Name\tClinical Diagnosis\nIMD003\t0")
        assert answer("prepare", ["ph2", "--source", source, "--data-dir", place / "tfds"]).code == 0
        change(place / "tfds" / "ph2" / "1.0.0")
        return ["--workdir", run, "--data", "ph2", "--split", "all", "--data-dir", place / "tfds"]

    return make


def cut(folder: Path, pattern: str) -> None:
    """Cuts the files of a pattern in half."""
    (path,) = folder.glob(pattern)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit_metadata(folder: Path) -> None:
    """Names a prepared image otherwise than its record does."""
    path = folder / "metadata.json"
    path.write_text(path.read_text().replace("IMD003", "IMD999"))


EVALUATE |= {
    f"prepared set, {name}": (
        damaged_ph2(change),
        r"damaged .*; prepare it(?: again)?: python -m jaxseg\.prepare ph2 .*--force",
    )
    for name, change in {
        "info cut": lambda f: cut(f, "dataset_info.json"),
        "metadata cut": lambda f: cut(f, "metadata.json"),
        "metadata gone": lambda f: (f / "metadata.json").unlink(),
        "records cut": lambda f: cut(f, "*train*.array_record*"),
        "records gone": lambda f: next(f.glob("*train*.array_record*")).unlink(),
        "records noise": lambda f: next(f.glob("*train*.array_record*")).write_bytes(bytes(range(256)) * 300),
        "names exchanged": edit_metadata,
    }.items()
}


def edited(change: Callable[[dict], object]) -> Make:
    """Returns what copies a run, changes its config.json, and segments a picture with it."""

    def make(place: Path, run: Path) -> list:
        return with_picture(place, edited_run(run, place / "run", change))

    return make


def spoilt(change: Callable[[Path], object]) -> Make:
    """Returns what copies a run, spoils the copy, and segments a picture with it."""

    def make(place: Path, run: Path) -> list:
        shutil.copytree(run, place / "run")
        change(place / "run")
        return with_picture(place, place / "run")

    return make


def with_picture(place: Path, run: Path) -> list:
    (place / "a.png").write_bytes(encoded(RGB))
    return ["--workdir", run, "--input", place / "a.png", "--output", place / "out"]


def config_text(text: str | bytes) -> Make:
    content = text.encode() if isinstance(text, str) else text
    return spoilt(lambda run: (run / "config.json").write_bytes(content))


def setting(name: str, value: object) -> Make:
    section, field = name.split(".")
    return edited(lambda values: values["config"].setdefault(section, {}).update({field: value}))


PREDICT = {
    "no such run": (
        lambda place, run: with_picture(place, place / "gone"),
        r"gone: no config\.json in it.*train first",
    ),
    "run a file": (lambda place, run: with_picture(place, place / "a.png"), r"no config\.json in it"),
    "run of an endless name": (lambda place, run: with_picture(place, Path("x" * 5000)), "File name too long"),
    "config empty": (config_text(""), r"config\.json: cannot be read"),
    "config cut": (config_text('{"schema_version": 1, "config"'), r"config\.json: cannot be read"),
    "config noise": (config_text(bytes(range(256))), r"config\.json: cannot be read"),
    "config a list": (config_text("[1, 2]"), r"config\.json: holds no JSON object"),
    "config nested without end": (config_text("[" * 100_000), r"config\.json: cannot be read"),
    "config a folder": (
        spoilt(lambda run: ((run / "config.json").unlink(), (run / "config.json").mkdir())),
        r"config\.json: cannot be read",
    ),
    "config of a newer jaxseg": (
        edited(lambda v: v.update(schema_version=SCHEMA_VERSION + 1)),
        rf"config\.json: schema_version {SCHEMA_VERSION + 1}.* newer jaxseg.*: update jaxseg",
    ),
    "config of no version": (edited(lambda v: v.pop("schema_version")), "schema_version None"),
    "config without settings": (edited(lambda v: v.pop("config")), r"config\.json: "),
    "setting unknown": (setting("data.image_sise", 32), r"unknown setting 'data\.image_sise'; did you mean"),
    "setting misplaced": (setting("date.image_size", 32), r"unknown section 'date'; did you mean"),
    "setting of a wrong type": (setting("data.image_size", "32"), r"data\.image_size = '32': must be a whole number"),
    "setting NaN": (setting("optim.learning_rate", float("nan")), r"optim\.learning_rate = nan: must be"),
    "setting huge": (setting("data.image_size", 10**30), "over 30 digits: must be at least 32 and at most 4,096"),
    "setting negative": (setting("train.batch_size", -4), r"train\.batch_size = -4: must be at least 1"),
    "setting an object": (setting("model.encoder", {"__class__": "os.system"}), r"model\.encoder = .*: must be text"),
    "no checkpoints": (spoilt(lambda run: remove(run / "checkpoints")), r"no checkpoints/ in it; train first"),
    "no checkpoint yet": (
        spoilt(lambda run: [remove(p) for p in (run / "checkpoints").iterdir()]),
        r"holds no checkpoint yet; let python -m jaxseg\.train finish an epoch",
    ),
    "input missing": (
        lambda place, run: ["--workdir", run, "--input", place / "gone", "--output", place / "out"],
        "gone: no such file or folder",
    ),
    "input of an endless name": (
        lambda place, run: ["--workdir", run, "--input", "x" * 5000, "--output", place / "out"],
        "File name too long",
    ),
    "input a device": (
        lambda place, run: ["--workdir", run, "--input", "/dev/zero", "--output", place / "out"],
        "/dev/zero: no such file or folder",
    ),
    "input a link to itself": (
        lambda place, run: [
            *("--workdir", run, "--input", (place / "l").symlink_to(place / "l") or place / "l"),
            *("--output", place / "out"),
        ],
        "l: no such file or folder|Too many levels of symbolic links",
    ),
    "input empty": (
        lambda place, run: [
            "--workdir",
            run,
            "--input",
            (place / "in").mkdir() or place / "in",
            "--output",
            place / "o",
        ],
        "no images in there .*png",
    ),
    "output the input": (
        lambda place, run: [
            "--workdir",
            run,
            "--input",
            data_set(place / "in") / "images",
            "--output",
            place / "in/images",
        ],
        "is the input folder; give another",
    ),
    "output a file": (
        lambda place, run: [
            *("--workdir", run, "--input", data_set(place / "in"), "--output"),
            (place / "o").write_text("mine") and place / "o",
        ],
        "o is a file; give a folder",
    ),
    "output below a file": (
        lambda place, run: [
            *("--workdir", run, "--input", data_set(place / "in"), "--output"),
            (place / "o").write_text("mine") and place / "o/masks",
        ],
        "o/masks: cannot be written to .Not a directory.; .* give another --output",
    ),
    "output there already": (
        lambda place, run: [
            *("--workdir", run, "--input", data_set(place / "in", 1) / "images", "--output"),
            (place / "im0_mask.png").write_text("corrected by hand") and place,
        ],
        r"im0_mask\.png: is there already; --overwrite replaces it",
    ),
    "threshold 2": (
        lambda place, run: [*with_picture(place, run), "--threshold", "2"],
        "'2' is neither auto nor a number between 0 and 1",
    ),
    "flag misspelt": (
        lambda place, run: [*with_picture(place, run), "--overly"],
        r"unknown argument '--overly'; did you mean '--overlay'\?",
    ),
    "flag missing": (lambda place, run: ["--workdir", run], "the following arguments are required: --input, --output"),
}
