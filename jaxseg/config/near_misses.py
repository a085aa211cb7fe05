"""Suggestions for mistyped flags, and for the words that other tools have for our settings."""

import difflib
from collections.abc import Sequence

from jaxseg.errors import suggestion

SYNONYMS = {
    "arch": ("model.encoder",),
    "augment": ("augment.enabled",),
    "augmentation": ("augment.enabled",),
    "backbone": ("model.encoder",),
    "bs": ("train.batch-size", "batch-size"),
    "checkpoint": ("workdir",),
    "ckpt": ("workdir",),
    "dataset": ("data",),
    "early-stopping": ("optim.early-stop-patience",),
    "fine-tune": ("init-from",),
    "finetune": ("init-from",),
    "gpus": ("train.devices",),
    "height": ("data.image-size",),
    "images": ("input",),
    "img-size": ("data.image-size",),
    "imgsz": ("data.image-size",),
    "input-size": ("data.image-size",),
    "init": ("init-from",),
    "init-lr": ("optim.learning-rate",),
    "init-weights": ("init-from",),
    "k-folds": ("data.folds",),
    "loss": ("loss.name",),
    "lr": ("optim.learning-rate",),
    "max-epochs": ("train.epochs",),
    "model": ("workdir", "model.encoder"),
    "name": ("workdir", "data.name"),
    "num-epochs": ("train.epochs",),
    "num-workers": ("data.workers",),
    "out": ("out", "output", "workdir"),
    "out-dir": ("out", "output", "workdir"),
    "outdir": ("out", "output", "workdir"),
    "output": ("out", "workdir"),
    "output-dir": ("out", "output", "workdir"),
    "patience": ("optim.early-stop-patience",),
    "precision": ("model.dtype",),
    "random-seed": ("train.seed",),
    "resolution": ("data.image-size",),
    "resume": ("workdir",),
    "run": ("workdir",),
    "save-dir": ("out", "output", "workdir"),
    "size": ("data.image-size",),
    "weights": ("model.pretrained", "workdir"),
    "width": ("data.image-size",),
    "work-dir": ("workdir",),
}
"""Words of other tools for what a flag sets: of the flags named, the first that the command has is suggested."""


def nearest_flag(flag: str, flags: Sequence[str]) -> str:
    """Returns "; did you mean '--x'?" for an unknown flag, or an empty string if no flag of a command is near.

    Args:
      flag: what was typed, as "--lr".
      flags: the flags that the command has, as "--optim.learning-rate".
    """
    word = flag.lstrip("-").split(".")[-1].lower()
    synonyms = [f"--{name}" for name in SYNONYMS.get(word, ()) if f"--{name}" in flags]
    of_that_name = [known for known in flags if _last_part(known) == word]
    if meant := synonyms[:1] or of_that_name:
        return f"; did you mean {' or '.join(map(repr, meant))}?"
    if near := suggestion(flag, flags):
        return near
    # `--learning-rat`: compared as a whole, the section's name makes the flag too different.
    by_last_part = {_last_part(known): known for known in reversed(flags)}
    close = difflib.get_close_matches(word, by_last_part, n=1, cutoff=0.75)
    return f"; did you mean {by_last_part[close[0]]!r}?" if close else ""


def nearest_setting(dotted: str, settings: Sequence[str]) -> str:
    """Returns "; did you mean 'x'?" for an unknown setting, or an empty string if none is near.

    Args:
      dotted: what a file or a program calls it, as "optim.lr".
      settings: the settings that there are, as "optim.learning_rate".
    """
    flags = {f"--{name.replace('_', '-')}": name for name in settings}
    near = nearest_flag(f"--{dotted.replace('_', '-')}", list(flags))
    for flag, name in sorted(flags.items(), key=lambda pair: -len(pair[0])):
        near = near.replace(f"'{flag}'", f"'{name}'")
    return near


def _last_part(flag: str) -> str:
    return flag.split(".")[-1].lstrip("-")
