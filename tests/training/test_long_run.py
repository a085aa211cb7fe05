"""Sixty epochs: memory, open files and the disk stay as they are after the first few."""

import json
import platform
import statistics
import subprocess
import sys

import pytest

from tests.helpers.runs import flags

EPOCHS = 60

# Runs the command, and prints after some epochs what the process holds, after the others an empty line.
WATCHED = """
import contextlib, ctypes, gc, json, os, sys
from pathlib import Path
from jaxseg import cli, train
from jaxseg.training import writers
from jaxseg.training.hooks import Hook

class Watch(Hook):
    def on_start(self, run, progress):
        self.workdir = run.workdir

    def on_epoch(self, progress):
        if not (15 <= progress.epoch < 35 or progress.epoch > 40):
            print(flush=True)  # not measured
            return
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # memory that compiling took and freed would hide what epochs take and keep
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        saved = [path for path in (self.workdir / "checkpoints").iterdir() if path.name.isdigit()]
        files = []
        for folder, _, names in os.walk(self.workdir):  # while an asynchronous save renames and removes some
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    files.append(os.stat(os.path.join(folder, name)).st_size)
        print(json.dumps([pages, len(os.listdir("/proc/self/fd")), len(saved), sum(files), len(files)]), flush=True)

draw = writers.curves.plot_curves

def draw_some(history, *args, **kwargs):  # a drawing takes longer than the epoch
    if len(history) <= 10 or len(history) % 10 == 0:
        draw(history, *args, **kwargs)

writers.CURVES_EVERY_SECS, writers.curves.plot_curves = 0, draw_some
cli.run("train", lambda: train.main(sys.argv[1:], [Watch()]))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="counts memory and open files as Linux and glibc have it")
def test_sixty_epochs_hold_no_more_than_twenty(tiny, tmp_path):
    """If broken, a night's run dies of memory, of open files, or fills the disk."""
    config = tiny.updated({"train.epochs": EPOCHS, "optim.early_stop_patience": EPOCHS})
    command = [sys.executable, "-c", WATCHED, "--workdir", str(tmp_path / "run"), *flags(config)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == EPOCHS
    pages, handles, saved, size, files = zip(*map(json.loads, filter(None, lines)), strict=True)
    early, late = slice(None, 20), slice(-20, None)  # from epochs 15 and 41
    assert statistics.median(pages[late]) < 1.05 * statistics.median(pages[early])
    # An asynchronous save may be in progress.
    assert max(handles[late]) <= max(handles[early]) + 5
    assert max(saved) <= 4
    assert files[-1] <= 1.5 * max(files[early])
    # The history grows by a line per epoch, in each of three checkpoints, the log, TensorBoard's events and the page.
    assert size[-1] - max(size[early]) < EPOCHS * 10_000
