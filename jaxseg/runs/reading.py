"""How the files of a data set are read that may be a run's own, in another place."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseg import data
from jaxseg.config import Config, DataConfig
from jaxseg.config.datasets import DATA_SETS
from jaxseg.data.identity import identify
from jaxseg.errors import UserError
from jaxseg.runs.images import read, without_lost_groups

log = logging.getLogger("jaxseg.evaluate")


def with_reading_of(workdir: Path, config: Config, data_config: DataConfig, defaults: Mapping[str, Any]) -> DataConfig:
    """Returns how to open a data set: as the run opened its own where it holds the run's images, else by the defaults.

    A run's own images and masks are recognised by content: masks that were read as in training hold what they held.

    Args:
      workdir: the run's folder.
      config: the run's settings.
      data_config: the set, its name settled by `jaxseg.data.absolute`.
      defaults: the settings that say how files are read, by field of `DataConfig`, with their defaults.
    """
    if data_config.name == config.data.name:
        return data_config
    stored = read(workdir)
    if stored is not None:
        # Folds are of the run's own set. A copy of it is recognised by its images.
        data_config = dataclasses.replace(data_config, folds=0, fold=0)
    plain = dataclasses.replace(data_config, **defaults)
    opened = without_lost_groups(workdir, config.data)
    own = {name: getattr(opened, name) for name in defaults}
    if own == dict(defaults) or data_config.name in DATA_SETS or stored is None:
        return plain
    as_trained = dataclasses.replace(data_config, **own)
    known = stored.identities()
    try:
        identities = identify(data.open_split(dataclasses.replace(as_trained, groups=""), "all"), known)
    except UserError:
        return plain  # it cannot be read in that way, so it is another set
    images = set().union(*(identity.images() for identity in known))
    pairs = set().union(*(identity.pairs() for identity in known))
    here = [identity for identity in identities if identity.images() & images]
    if not here or not all(identity.pairs() & pairs for identity in here):
        return plain
    changed = ", ".join(f"data.{name} {own[name]}" for name in own if own[name] != defaults[name])
    log.info("%s holds %d images of the run, and is read as in training: %s", data_config.name, len(here), changed)
    return as_trained
