"""Files and folders that may not be read or written: told in one line, before the work and not after it.

Root may read all, so a child without that right runs the commands.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.answers import answer
from tests.helpers.bad_files import data_set
from tests.helpers.paths import ROOT

PERMISSIONS = {
    "image": ("predict", ["--input", "in", "--output", "out"], "in/images/im0.png", 0, ""),
    "folder of images": ("predict", ["--input", "in", "--output", "out"], "in/images", 0, "images: cannot be read"),
    "folder to write": (
        "predict",
        ["--input", "in", "--output", "place/out"],
        "place",
        0o555,
        "out: cannot be written to",
    ),
    "images of a set": ("evaluate", ["--data", "in", "--out", "out"], "in/images", 0, "images: cannot be read"),
    "image of a set": ("evaluate", ["--data", "in", "--out", "out"], "in/images/im0.png", 0, "im0.png: cannot be read"),
    "settings": ("evaluate", ["--out", "out"], "run/config.json", 0, "config.json: cannot be read"),
    "run, read-only": ("evaluate", [], "run", 0o555, "cannot be written to (Permission denied)"),
    "workdir, read-only": ("train", [], "run", 0o555, "run: cannot be written to (Permission denied)"),
    "place of the workdir": ("train", ["--config", "demo", "--workdir", "place/new"], "place", 0o555, "new: cannot be"),
    "weights": ("port_weights", ["--source", "w.h5", "--output", "w.npz"], "w.h5", 0, "w.h5: Permission denied"),
    "folder of weights": (
        "port_weights",
        ["--source", "w.h5", "--output", "place/w.npz"],
        "place",
        0o555,
        "cannot be written to",
    ),
    "source": ("prepare", ["isic2016", "--source", "in", "--data-dir", "out"], "in", 0, "in: cannot be read"),
    "place of the data": (
        "prepare",
        ["ph2", "--source", "in", "--data-dir", "place/d"],
        "place",
        0o555,
        "cannot be written",
    ),
}
"""What may not be read or written: command, arguments, path, its mode, and what is said."""


def test_what_may_not_be_read_or_written_is_told(tiny_run, tmp_path):
    """If broken, another user's file ends in a traceback, is left out in silence, or ends an hour's work."""
    command = [sys.executable, "-m", "tests.system.test_permissions", str(tiny_run), str(tmp_path)]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may read everything, and there is no setpriv to take that right away")
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for name, (_, _, _, _, said) in PERMISSIONS.items():
        code, error, log = answers[name]
        assert said in error, (name, error, log)
        assert code == (2 if said else 1), (name, error, log)
    (report,) = [line for line in answers["image"][2] if "not segmented: " in line]
    assert "images/im0.png: cannot be read (Permission denied); make it readable" in report


def run_permissions(run: Path, place: Path) -> dict[str, tuple]:
    """Runs the commands of `PERMISSIONS`, each in a folder of its own; returns what they answered."""
    answers = {}
    for number, (name, (command, argv, path, mode, _)) in enumerate(PERMISSIONS.items()):
        home = place / str(number)
        data_set(home / "in")
        shutil.copytree(run, home / "run")
        (home / "place").mkdir()
        (home / "w.h5").write_bytes(b"weights")
        (home / path).chmod(mode)
        os.chdir(home)
        if command in ("predict", "evaluate") or (command == "train" and "--workdir" not in argv):
            argv = ["--workdir", "run", *argv]
        got = answer(command, argv)
        answers[name] = dataclasses.astuple(got)
        (home / path).chmod(0o755)
    return answers


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run_permissions(Path(sys.argv[1]), Path(sys.argv[2]))))
