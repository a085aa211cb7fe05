"""Training called from Python, as in a notebook: hooks of the user, folders, and what is shown."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import train
from jaxseg.errors import UserError
from jaxseg.training.hooks import Hook


class Watching(Hook):
    """A user's hook, which computes with what it is given."""

    def __init__(self):
        self.losses, self.means = [], []

    def on_step(self, metrics):
        """Compares and scales on the device."""
        if (metrics["loss"] < 1e9).any():
            self.losses.append(float(metrics["loss"] * 2.0))

    def on_epoch(self, progress):
        """Makes new arrays."""
        self.means.append(float(jnp.mean(jnp.arange(3.0) + np.arange(3.0))))


def test_a_users_hook_may_compute(tiny, tmp_path):
    """If broken, ordinary JAX in a hook ends the training with a message about transfers."""
    watching = Watching()
    train.train_and_evaluate(tiny, tmp_path / "run", hooks=[watching])
    assert len(watching.losses) == 6
    assert watching.means == [2.0, 2.0]


def test_a_workdir_is_a_folder_of_the_user(tiny, tmp_path, monkeypatch):
    """If broken, a run lies in a folder called ~, or hides behind the name of the model inside the package."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    train.train_and_evaluate(tiny.updated({"train.epochs": 1}), "~/run")
    assert (tmp_path / "run" / "summary.json").exists()
    with pytest.raises(UserError, match=r"--workdir builtin: is the name of the model inside the package"):
        train.train_and_evaluate(tiny, "builtin")
    assert not (tmp_path / "builtin").exists()


def test_a_second_training_in_a_notebook_shows_its_lines(tiny, tmp_path):
    """If broken, libraries set up a log for their warnings, and no later training shows an epoch."""
    program = """
import sys
from jaxseg.config import Config
from jaxseg.train import train_and_evaluate
config = Config.from_dict(__import__("json").loads(sys.argv[1]))
for name in ("first", "second"):
    train_and_evaluate(config, f"{sys.argv[2]}/{name}")
"""
    settings = json.dumps(tiny.updated({"train.epochs": 1}).to_dict())
    done = subprocess.run([sys.executable, "-c", program, settings, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("look at ") == 2
