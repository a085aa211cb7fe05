"""Bad input to train, port_weights and prepare: what is made, and what is answered."""

import os
import pickle
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from jaxseg.config import SCHEMA_VERSION
from tests.helpers.bad_files import Evil, archive, data_set, edit, hdf5, isic_zip, ph2, remove
from tests.helpers.bad_runs import Make


def train(*flags: object) -> Make:
    """Returns the arguments of a training with some flags, of the tiny run's settings otherwise."""

    def make(place: Path, run: Path) -> list:
        base = ["--workdir", place / "out", "--config", "demo", "--data.image-size", "32", "--model.encoder", "none"]
        base += ["--model.unet-channels", "4,8", "--data.synthetic-train", "12", "--train.devices", "1"]
        return [*base, *(flag(place) if callable(flag) else flag for flag in flags)]

    return make


def train_in(change: Callable[[Path], object], *flags: object) -> Make:
    """Returns what copies a run, spoils the copy, and trains in it."""

    def make(place: Path, run: Path) -> list:
        shutil.copytree(run, place / "run")
        change(place / "run")
        return ["--workdir", place / "run", *flags]

    return make


def pickled(place: Path) -> Path:
    """Writes a pickle that would leave a folder behind if it were read as one."""
    (place / "w.h5").write_bytes(pickle.dumps(Evil(place / "executed")))
    return place / "w.h5"


TRAIN = {
    "rate negative": (train("--optim.learning-rate", "-1"), r"optim\.learning_rate = -1\.0: must be at least 1e-12"),
    "rate NaN": (train("--optim.learning-rate", "nan"), r"optim\.learning_rate = nan"),
    "rate infinite": (train("--optim.learning-rate", "1e999"), r"optim\.learning_rate = inf"),
    "epochs huge": (train("--train.epochs", "9" * 40), "over 30 digits: must be at least 1 and at most 1,000,000"),
    "epochs a word": (train("--train.epochs", "ten"), "'ten' is not a whole number"),
    "epochs endless": (train("--train.epochs", "1" * 5000), "is not a whole number"),
    "batch 0": (train("--train.batch-size", "0"), r"train\.batch_size = 0: must be at least 1"),
    "batch of too many": (train("--train.batch-size", "64"), "more than the 12 training images; use 12 or fewer"),
    "batch on devices": (
        train("--train.devices", "4", "--train.batch-size", "6"),
        r"train\.batch_size = 6.*(4 devices|multiple of 4)",
    ),
    "devices that are not there": (train("--train.devices", "999"), r"train\.devices = 999.*4"),
    "size no multiple of 32": (train("--data.image-size", "100"), "must be a multiple of 32, as 96"),
    "channels in millions": (train("--model.unet-channels", "4,1000000"), "must be at least 1 and at most 8,192"),
    "channels a word": (train("--model.unet-channels", "a,b"), "is not a list of whole numbers, as 256,128,64"),
    "images in billions": (train("--data.synthetic-train", "9999999999"), "at most 1,000,000"),
    "loss misspelt": (train("--loss.name", "focl"), r"did you mean 'focal'\?"),
    "flag misspelt": (train("--optim.learning-rat", "1"), r"did you mean '--optim.learning-rate'\?"),
    "flag neither true nor false": (train("--augment.enabled", "maybe"), "'maybe' is neither true nor false"),
    "preset misspelt": (lambda place, run: ["--workdir", place / "out", "--config", "papr"], "did you mean 'paper'"),
    "fold outside": (train("--data.folds", "3", "--data.fold", "3"), "fold below folds"),
    "weights missing": (
        train("--model.encoder", "resnet50", "--model.pretrained", "gone.h5"),
        r"model\.pretrained = 'gone\.h5': no such file; must be imagenet, none, or a \.h5 or \.npz file",
    ),
    "weights' name misspelt": (
        train("--model.encoder", "resnet50", "--model.pretrained", "imagnet"),
        "did you mean 'imagenet'",
    ),
    "weights a pickle": (
        train("--model.encoder", "resnet50", "--model.pretrained", pickled),
        r"w\.h5: not an HDF5 file",
    ),
    "weights for a plain U-Net": (train("--model.pretrained", "w.h5"), "has no encoder that takes weights; use"),
    "rate for a plain U-Net's encoder": (
        train("--optim.encoder-rate", "0"),
        "has no encoder; use --optim.encoder-rate 1",
    ),
    "average that never moves": (
        train("--optim.ema", "1"),
        r"optim\.ema = 1\.0: must be at least 0 and at most 0\.99999",
    ),
    "set of one image": (train("--data", lambda p: data_set(p / "set", 1)), "1 images are too few for 5 folds"),
    "set of 10,000 images without masks": (
        train("--data", lambda p: ten_thousand(p / "set")),
        r"no mask in .* \(and 9998 more images\)",
    ),
    "workdir among the images": (
        train("--data", lambda p: data_set(p / "set"), "--workdir", lambda p: p / "set/images"),
        r"images: lies among the images of .*/set, which would hold the results for more of them",
    ),
    "workdir of no user": (train("--workdir", "~nobody-of-this-name/run"), "there is no user of that name"),
    "workdir a file": (
        lambda place, run: ["--workdir", (place / "f").write_text("mine") and place / "f", "--config", "demo"],
        "f: cannot be written to .*give another --workdir",
    ),
    "workdir of an endless name": (lambda place, run: ["--workdir", "x" * 5000], "File name too long"),
    "workdir of other settings": (train_in(lambda run: None, "--train.seed", "7"), "holds a run with train.seed = 0"),
    "workdir of a newer jaxseg": (
        train_in(lambda run: edit(run, schema_version=SCHEMA_VERSION + 1)),
        "newer jaxseg.*: update jaxseg",
    ),
    "workdir without settings": (
        train_in(lambda run: remove(run / "config.json"), "--config", "demo"),
        r"run: holds metrics\.jsonl but no config\.json.*another --workdir",
    ),
    "workdir of checkpoints alone": (
        train_in(lambda run: [remove(p) for p in run.iterdir() if p.name != "checkpoints"], "--config", "demo"),
        r"run: holds checkpoints/3 but no config\.json.*another --workdir",
    ),
    "workdir with files of the user's": (
        lambda place, run: ["--workdir", (place / "summary.json").write_text("mine") and place, "--config", "demo"],
        r"holds summary\.json but no config\.json.*another --workdir",
    ),
}


def ten_thousand(folder: Path) -> Path:
    """Writes a set of ten thousand images of which one has a mask."""
    data_set(folder, 1)
    for i in range(1, 10_000):
        os.link(folder / "images/im0.png", folder / f"images/im{i}.png")
    return folder


def port(make: Callable[[Path], Path], *flags: object) -> Make:
    """Returns what ports a weight file that is made in the case's folder."""
    return lambda place, run: ["--source", make(place), "--output", place / "out.npz", *flags]


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    return lambda place: ((place / name).write_bytes(content), place / name)[1]


def pickled_array(place: Path) -> Path:
    np.savez(place / "w.npz", **{"params/conv1_conv/kernel": np.array([Evil(place / "executed")], object)})
    return place / "w.npz"


def torch_file(place: Path) -> Path:
    """Writes a file as PyTorch's: a zip archive with a pickle in it."""
    with zipfile.ZipFile(place / "w.pth", "w") as target:
        target.writestr("archive/data.pkl", pickle.dumps(Evil(place / "executed")))
    return place / "w.pth"


def linked(link: object) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        with h5py.File(hdf5(place / "w.h5"), "r+") as file:
            file["conv1_conv/kernel:0"] = link
        return place / "w.h5"

    return make


KERNEL = {"conv1_conv__kernel:0": np.full((7, 7, 3, 64), np.nan, np.float32)}

PORT = {
    "missing": (port(lambda p: p / "gone.h5"), r"gone\.h5: no such file; give a Keras \.h5 or a ported \.npz"),
    "zero bytes": (port(written("w.h5", b"")), r"w\.h5: the file is empty"),
    "text": (port(written("w.h5", b"<html>404</html>")), r"w\.h5: not an HDF5 file"),
    "truncated": (
        port(lambda p: written("c.h5", hdf5(p / "w.h5", **KERNEL).read_bytes()[:5000])(p)),
        r"c\.h5: damaged or cut short",
    ),
    "pickle": (port(pickled), r"w\.h5: not an HDF5 file"),
    "pickle in .npz": (port(pickled_array), r"w\.npz: damaged, or not a ported weight file"),
    "PyTorch's": (port(torch_file), r"w\.pth: not weights of resnet50v2: .* is missing"),
    "of another network": (
        port(lambda p: hdf5(p / "w.h5", dense__kernel=np.ones(3))),
        "not weights of resnet50v2: .* is",
    ),
    "no weights": (port(lambda p: hdf5(p / "w.h5")), "not weights of resnet50v2: conv1_conv/kernel is missing"),
    "NaN inside": (port(lambda p: hdf5(p / "w.h5", **KERNEL)), "conv1_conv/kernel has values that are not finite"),
    "link outside": (port(linked(h5py.ExternalLink("/etc/passwd", "x"))), "is a link to somewhere else"),
    "link inside": (port(linked(h5py.SoftLink("/"))), "is a link to somewhere else"),
    "Keras' archive": (port(written("w.keras", b"PK")), r"\.keras archives are not taken; in Keras"),
    "a folder": (port(lambda p: (p / "run").mkdir() or p / "run"), r"no config\.json in it, so no run"),
    "a run without encoder": (lambda place, run: ["--source", run, "--output", place / "o.npz"], "plain U-Net"),
    "an endless name": (port(lambda p: "x" * 5000), "File name too long"),
    "encoder misspelt": (port(lambda p: p / "w.h5", "--encoder", "resnet50v"), "did you mean 'resnet50v2'"),
    "output there": (
        lambda place, run: ["--source", place, "--output", (place / "o").write_text("mine") and place / "o"],
        "exists; give another name, or --force",
    ),
    "output nowhere": (
        lambda place, run: ["--source", place, "--output", place / "no/o"],
        "there is no folder .*make it",
    ),
    "output a folder": (lambda place, run: ["--source", place, "--output", place], "is a folder; give a file name"),
}


def prepare(make: Callable[[Path], object], name: str = "isic2016") -> Make:
    """Returns what prepares from a source that is made in the case's folder."""
    return lambda place, run: [name, "--source", make(place), "--data-dir", place / "tfds"]


PREPARE = {
    "missing": (prepare(lambda p: p / "gone"), "gone: no such folder or archive"),
    "empty": (prepare(lambda p: (p / "in").mkdir() or p / "in"), "no images of isic2016 in there; get ISBI2016"),
    "an endless name": (prepare(lambda p: "x" * 5000), "File name too long"),
    "PH2's own archive": (
        prepare(written("PH2Dataset.rar", b"Rar!\x1a\x07\x00"), "ph2"),
        r"not a zip archive; unpack it \(`unrar x`",
    ),
    "text named .zip": (prepare(written("i.zip", b"404")), r"i\.zip: not a sound zip archive .*; fetch it again"),
    "zip truncated": (
        prepare(lambda p: written("c.zip", archive(p / "i.zip", "a.jpg").read_bytes()[:60])(p)),
        r"c\.zip: not a sound zip archive",
    ),
    "zip that climbs out": (prepare(lambda p: archive(p / "i.zip", "../../evil.jpg")), "a link or lies outside"),
    "zip of absolute paths": (prepare(lambda p: archive(p / "i.zip", "/tmp/evil.jpg")), "a link or lies outside"),
    "zip of links": (prepare(lambda p: archive(p / "i.zip", "a.jpg", stat.S_IFLNK | 0o777)), "a link or lies outside"),
    "zip bomb": (prepare(lambda p: archive(p / "i.zip", "a.jpg", size=2**31)), "unpacks to 2,147,483,648 bytes"),
    "zip with a password": (prepare(lambda p: isic_zip(p, flags=1)), "cannot be unpacked .*; unpack the archive"),
    "zip damaged inside": (prepare(lambda p: isic_zip(p, size=3)), "damaged .*; fetch the archive again"),
    "set unknown": (
        prepare(lambda p: p, "isic2O16"),
        "cannot be prepared: must be one of ph2, isic2016.*; did you mean 'isic2016",
    ),
    "place a file": (
        lambda p, run: ["ph2", "--source", p, "--data-dir", (p / "f").write_text("mine") and p / "f"],
        "f: cannot be written to .*; choose a folder by --data-dir",
    ),
    "place on the web": (
        lambda p, run: ["ph2", "--source", p, "--data-dir", "gs://x"],
        "must be a file or folder on this machine",
    ),
    "PH2 without its table": (prepare(lambda p: ph2(p), "ph2"), r"PH2_dataset\.txt is missing"),
    "PH2 with another table": (prepare(lambda p: ph2(p, "a b c"), "ph2"), "no line with the columns Name and"),
    "PH2 with a diagnosis 7": (
        prepare(lambda p: ph2(p, "Name\tClinical Diagnosis\nIMD003\t7"), "ph2"),
        "diagnosis of IMD003 is '7', not 0, 1 or 2",
    ),
}
