"""The runs of a row: what tells one from the others, and the runs whose weights they start with."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseg.config import Config
from jaxseg.data import Examples
from jaxseg.runs.parent import Parent, check_network, place_of, read_parent, read_settings
from jaxseg.runs.workdir import run_id
from jaxseg.steps import state_target
from jaxseg.system.devices import OnDevices


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of several.

    Attributes:
      seed: seed of weights, order, augmentation and dropout.
      train: training images.
      validation: images that choose the best epoch.
      fold: number of the fold that validates, or None.
      parent: folder of the run whose best weights it starts with, or None; either all runs of a row have one or none.
    """

    seed: int
    train: Examples
    validation: Examples
    fold: int | None = None
    parent: Path | None = None

    @property
    def number(self) -> int:
        """The run's number within its row."""
        return self.seed if self.fold is None else self.fold

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings in which the run differs from the others of its row, by dotted name."""
        fold = {} if self.fold is None else {"data.fold": self.fold}
        parent = {"model.init_from": place_of(str(self.parent))} if self.parent else {}
        return {"train.seed": self.seed, **fold, **parent}

    def about(self) -> list[Any]:
        """Returns what a saved state of the run belongs to, as JSON values."""
        images = [self.train.fingerprint(), self.validation.fingerprint()]
        return [self.seed, self.fold, *images, *([run_id(self.parent)] if self.parent else [])]


def parent_of(member: Member, config: Config, devices: OnDevices) -> Parent:
    """Returns weights and record of the run that a member starts with.

    Args:
      member: a run that has a parent.
      config: its settings.
      devices: where the weights are read to.

    Raises:
      UserError: there is no such run, or it has another network.
      RunError: its checkpoint cannot be read.
    """
    place = str(member.parent)
    check_network(config, read_settings(place), place)
    return read_parent(place, state_target(config, devices).variables)
