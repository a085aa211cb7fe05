"""The run whose weights a new run starts with (`model.init_from`): its settings, its weights, what they have seen."""

import dataclasses
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax

from jaxseg.config import Config
from jaxseg.errors import UserError, shown
from jaxseg.pretrained.place import NAME, folder_of
from jaxseg.runs.checkpoint import restore_best
from jaxseg.runs.images import dataset_of, inherited_by
from jaxseg.runs.workdir import CONFIG, description_of, read_config, run_id
from jaxseg.system.files import read_json

log = logging.getLogger("jaxseg.train")

SETTING = "model.init_from"

RECORD = "init_from"
"""Key in `config.json` under which a run keeps what it started with."""

IMAGE_SIZE = "data.image_size"


def place_of(name: str) -> str:
    """Returns the full path of a parent's folder, which means the same in every working folder, or `builtin`."""
    return name if name == NAME else str(Path(name).expanduser().resolve())


def network_settings(config: Config) -> tuple[str, ...]:
    """Returns the names of the settings that decide which weights the network has, and what it makes of an image."""
    width = "model.unet_channels" if config.model.encoder == "none" else "model.decoder_channels"
    return "model.encoder", width, "model.colour_constancy"


def read_settings(place: str) -> Config:
    """Returns the settings of a run that is to give its weights, from `place_of`.

    Raises:
      UserError: the folder holds no run, or one that cannot be read.
    """
    folder = folder_of(place)
    if folder.is_file():
        raise UserError(
            f"--init-from {folder}: is a file; give the folder of a run (--model.pretrained takes a file of encoder "
            "weights)"
        )
    if not folder.exists():
        raise UserError(f"--init-from {folder}: no such folder; give the folder of a run")
    if not description_of(folder).exists():
        raise UserError(f"--init-from {folder}: no {CONFIG} in it, so no run; give the folder of a run")
    try:
        return read_config(folder)
    except UserError as error:
        raise UserError(f"--init-from: {error}") from error


def check_pretrained(config: Config, chosen: Collection[str]) -> None:
    """Checks that no encoder weights are asked for beside those of a run.

    Args:
      config: settings with `model.init_from`.
      chosen: names of the settings that the user gave.

    Raises:
      UserError: they are.
    """
    pretrained = config.model.pretrained
    if pretrained != "none" and ("model.pretrained" in chosen or pretrained != "imagenet"):
        raise UserError(
            f"model.pretrained = {pretrained!r}: --init-from starts with all weights of a run, its encoder's too; "
            "leave one of the two out"
        )


def taken_over(config: Config, source: Config, chosen: Collection[str]) -> dict[str, Any]:
    """Returns the settings that a run takes over with another's weights: its network, and its image size.

    Settings that have another value than their default, or that were chosen, stay as they are.

    Args:
      config: settings with `model.init_from`.
      source: settings of the run whose weights it starts with.
      chosen: names of the settings that the user gave, even where they have their default.

    Returns:
      The changes, by dotted name.
    """
    defaults = Config()
    names = (*network_settings(source), IMAGE_SIZE)
    free = [name for name in names if name not in chosen and config.get(name) == defaults.get(name)]
    return {name: source.get(name) for name in free}


def without(config: Config) -> Config:
    """Returns the settings of a start that failed, without what it took over from the run that it named."""
    if not config.model.init_from:
        return config
    defaults = Config()
    return config.updated({name: defaults.get(name) for name in (SETTING, *network_settings(config), IMAGE_SIZE)})


def check_network(config: Config, source: Config, folder: str) -> None:
    """Checks that a run has the network whose weights it starts with.

    Args:
      config: settings after `taken_over`.
      source: settings of the run whose weights it starts with.
      folder: that run's folder, for the message.

    Raises:
      UserError: it has another; the message names the first setting that differs.
    """
    for name in network_settings(source):
        if config.get(name) != source.get(name):
            flag = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{name} = {shown(config.get(name))}: {folder} has {shown(source.get(name))}, and --init-from starts "
                f"with its weights; leave {flag} out"
            )


@dataclasses.dataclass(frozen=True)
class Parent:
    """What a new run gets from another.

    Attributes:
      variables: "params" and "batch_stats" of the best checkpoint, on the host; averages where the run has them.
      record: where they come from, as `config.json` keeps it under `RECORD`.
      seen: which images they have seen, as fields of `ImageList`.
    """

    variables: Any
    record: dict[str, Any]
    seen: dict[str, tuple]


def read_parent(place: str, target: Any) -> Parent:
    """Reads the best weights of a run, and what is known of them.

    Args:
      place: the run's folder, or `builtin`, from `place_of`.
      target: `jax.ShapeDtypeStruct`s of "params" and "batch_stats", with shardings.

    Returns:
      Weights, their record, and the images that they have seen.

    Raises:
      UserError: the folder holds no run, or the run has no checkpoint yet.
      RunError: the checkpoint cannot be read.
    """
    config, folder = read_settings(place), folder_of(place)
    try:
        variables, step = restore_best(folder, target)
    except UserError as error:
        raise UserError(f"--init-from: {error}") from error
    about = read_json(description_of(folder))
    record = {
        "workdir": place,
        "run": run_id(folder),
        "step": step,
        "dataset": dataset_of(folder),
        "train_images": about.get("data", {}).get("train_images"),
        "drawn_images": step * config.drawn_per_step,
        "averaged": bool(config.optim.ema),
        RECORD: about.get(RECORD),
    }
    log.info("starting with the weights of %s, step %d, trained on %s", place, step, dataset_of(folder))
    seen = inherited_by(folder, config)
    if seen["inherited_unlisted"]:
        log.warning(
            "%s: keeps no list of its images, and %s is not to be had as it was: it cannot be told which images these "
            "weights have seen",
            place,
            ", ".join(seen["inherited_unlisted"]),
        )
    return Parent(jax.device_get(variables), record, seen)  # on a device they would take memory while the run trains
