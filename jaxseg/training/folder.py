"""A run's folder as the processes of a job see it: the first one owns it, the others leave it alone."""

import contextlib
import dataclasses
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from jaxseg import data
from jaxseg.config import Config, combinations
from jaxseg.data.listing import refuse_within
from jaxseg.errors import UserError, is_address
from jaxseg.runs import parent
from jaxseg.runs import workdir as files
from jaxseg.runs.checkpoint import Checkpoints, CheckpointStore, NoCheckpoints
from jaxseg.runs.splits import RunSplits, open_splits
from jaxseg.system import lock
from jaxseg.system.processes import Peers
from jaxseg.training.hooks import Hook
from jaxseg.training.writers import ImageListWriter, all_writers, visible_log

log = logging.getLogger("jaxseg.train")


class RunFolder(Protocol):
    """What a process does with the run's folder."""

    def held(self) -> contextlib.AbstractContextManager[Any]:
        """Keeps other runs out of the folder within the block."""

    def resolve(self, config: Config, chosen: Collection[str]) -> dict[str, Any] | None:
        """Returns the resolved settings as JSON values, or None in a process that cannot know them.

        Args:
          config: all settings, as the user gave them.
          chosen: names of the settings that the user gave.
        """

    def open_splits(self, config: Config) -> RunSplits:
        """Opens the training and validation images: those of the run if it resumes, as far as a process knows them."""

    def checkpoints(self) -> CheckpointStore:
        """Opens the checkpoints."""

    def parent(self, config: Config, target: Any) -> parent.Parent | None:
        """Reads the run that `model.init_from` names; None where there is none, or in a process that cannot know.

        Args:
          config: resolved settings.
          target: `jax.ShapeDtypeStruct`s of "params" and "batch_stats", with shardings.
        """

    def writers(self, images: ImageListWriter) -> Sequence[Hook]:
        """Returns the hooks that log and write files, the given one first."""


class OwnedFolder:
    """The folder in the first process of a job: locked, read and written.

    Args:
      workdir: the folder's path.
    """

    def __init__(self, workdir: Path):
        self._workdir = workdir

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Locks the folder and shows the log within the block."""
        with visible_log(), lock.held(self._workdir):
            yield

    def resolve(self, config: Config, chosen: Collection[str]) -> dict[str, Any]:
        """Returns the resolved settings as JSON values.

        Args:
          config: all settings, as the user gave them.
          chosen: names of the settings that the user gave.
        """
        return resolve(config, self._workdir, chosen).to_dict()

    def open_splits(self, config: Config) -> RunSplits:
        """Opens the images of the run that the folder holds, or the set's own splits where it holds none."""
        return open_splits(config, self._workdir)

    def checkpoints(self) -> CheckpointStore:
        """Opens the checkpoints in the folder."""
        return Checkpoints(self._workdir)

    def parent(self, config: Config, target: Any) -> parent.Parent | None:
        """Reads the run whose weights this one starts with.

        Args:
          config: resolved settings.
          target: `jax.ShapeDtypeStruct`s of "params" and "batch_stats", with shardings.

        Returns:
          Its weights, and what is known of them; None if this run starts without.
        """
        return parent.read_parent(config.model.init_from, target) if config.model.init_from else None

    def writers(self, images: ImageListWriter) -> Sequence[Hook]:
        """Returns one of each writer."""
        return [images, *all_writers()]


class NoFolder:
    """The folder in the other processes of a job, which need no access to it."""

    def held(self) -> contextlib.AbstractContextManager[Any]:
        """Does nothing."""
        return contextlib.nullcontext()

    def resolve(self, config: Config, chosen: Collection[str]) -> None:
        """Returns None: the first process knows the settings.

        Args:
          config: all settings, as the user gave them.
          chosen: names of the settings that the user gave.
        """

    def open_splits(self, config: Config) -> RunSplits:
        """Opens the set's own splits; the first process knows which images the run has."""
        return RunSplits(*data.training_splits(config.data))

    def checkpoints(self) -> CheckpointStore:
        """Returns checkpoints that are never written."""
        return NoCheckpoints()

    def parent(self, config: Config, target: Any) -> None:
        """Returns None: the first process reads the weights.

        Args:
          config: resolved settings.
          target: `jax.ShapeDtypeStruct`s of "params" and "batch_stats", with shardings.
        """

    def writers(self, images: ImageListWriter) -> Sequence[Hook]:
        """Returns no writers."""
        del images
        return ()


def run_folder(workdir: Path, peers: Peers) -> RunFolder:
    """Returns the run's folder; the only place that chooses between the first process and the others.

    Args:
      workdir: the folder's path.
      peers: the processes of the job.
    """
    return OwnedFolder(workdir) if peers.number == 0 else NoFolder()


def resolve(config: Config, workdir: Path, chosen: Collection[str] = ()) -> Config:
    """Settles what `auto`, the plain U-Net and `model.init_from` leave open; checks that the folder holds no other run.

    Args:
      config: all settings.
      workdir: the run's folder.
      chosen: names of the settings that the user gave, even where they have their default: `model.init_from` does not
        change them.

    Returns:
      The settings that the run is trained with.

    Raises:
      UserError: the folder holds another run, or files but no run; a setting is for an encoder, and the plain U-Net
        does not have one; or `model.init_from` names no run, or one of another network.
    """
    has_config, saved = (workdir / files.CONFIG).exists(), None
    if has_config:
        files.check_has_checkpoints(workdir)
    if has_config and files.was_started(workdir):
        saved = files.read_config(workdir)
    elif not has_config:
        files.check_is_free(workdir)
    if config.model.init_from:
        config = _with_parent(config, saved, chosen)
    changes: dict[str, Any] = {}
    config = dataclasses.replace(config, data=data.absolute(config.data))  # so that the run resumes from any folder
    if not saved:
        combinations.check(config, chosen)
        refuse_within(workdir, config.data.name, "--workdir")
        files.refuse_among_checkpoints(workdir, "--workdir")
    if config.data.name == "auto":
        changes["data.name"] = name = saved.data.name if saved else data.resolve_name(config.data)
        if name == "synthetic":
            _tell_of_generated_images(config)
            changes["model.pretrained"] = "none"
    if config.model.encoder == "none":
        if config.model.pretrained not in ("imagenet", "none"):
            raise UserError(
                f"model.pretrained = {config.model.pretrained!r}: the plain U-Net (model.encoder none) has no encoder "
                "that takes weights; use --model.pretrained none"
            )
        if config.optim.encoder_rate != 1:
            raise UserError(
                f"optim.encoder_rate = {config.optim.encoder_rate:g}: the plain U-Net (model.encoder none) has no "
                "encoder; use --optim.encoder-rate 1"
            )
        changes["model.pretrained"] = "none"
    if config.model.pretrained not in ("imagenet", "none") and not is_address(config.model.pretrained):
        full = _full_path(config.model.pretrained)
        if saved and _full_path(saved.model.pretrained) == full:  # as an older jaxseg recorded it
            changes["model.pretrained"] = saved.model.pretrained
        elif Path(full).exists():  # what is not there is refused by the name that the user gave
            changes["model.pretrained"] = full
    config = config.updated(changes)
    if saved:
        # Data that have moved are recognised by their content, once they are open.
        listed = (workdir / files.IMAGES).exists()
        files.check_same_run(saved, config, workdir, but=("data.name", "data.groups") if listed else ())
        if listed and saved.data.groups != config.data.groups:
            log.warning("--data.groups: %s keeps the split that it was started with", workdir)
    return config


def _full_path(file: str) -> str:
    return str(Path(file).expanduser().absolute())


def _tell_of_generated_images(config: Config) -> None:
    """Warns that `--data auto` means generated images here.

    Raises:
      UserError: encoder weights are asked for, which would not be used.
    """
    if config.model.pretrained not in ("imagenet", "none"):
        raise UserError(
            f"model.pretrained = {config.model.pretrained!r}: no PH2 is prepared here, so --data auto would train on "
            "generated images, from random weights; prepare PH2, or choose --data synthetic"
        )
    log.warning(
        "SYNTHETIC DATA: no PH2 is prepared here, so --data auto trains on generated images, from %s; its scores say "
        "nothing about real lesions. For real data: python -m jaxseg.prepare ph2 --source PH2Dataset",
        config.model.init_from or "random weights",
    )


def _with_parent(config: Config, saved: Config | None, chosen: Collection[str]) -> Config:
    """Takes over the network of the run that `model.init_from` names, or of this run itself where it has started.

    Raises:
      UserError: that folder holds no run, or the settings contradict its network.
    """
    config = config.updated({parent.SETTING: parent.place_of(config.model.init_from)})
    folder = config.model.init_from
    parent.check_pretrained(config, chosen)
    # A run that has started holds all weights itself: the other one may have changed since, or be gone.
    source = saved or parent.read_settings(folder)
    config = config.updated({"model.pretrained": "none", **parent.taken_over(config, source, chosen)})
    if not saved:
        parent.check_network(config, source, folder)
    # A preset's rate may be for another network.
    if config.model.encoder == "none" and config.optim.encoder_rate != 1 and "optim.encoder_rate" not in chosen:
        log.info("optim.encoder_rate is left out: the network of %s has no encoder", folder)
        config = config.updated({"optim.encoder_rate": 1.0})
    return config
