"""What a run trains and validates on: its own images, found again by content when it goes on."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxseg import data
from jaxseg.config import Config, DataConfig
from jaxseg.config.datasets import DATA_SETS
from jaxseg.data import Example, Examples
from jaxseg.data.folder import has_own_validation
from jaxseg.data.groups import read_groups
from jaxseg.data.identity import identify
from jaxseg.data.looks import Look, seeing
from jaxseg.errors import UserError
from jaxseg.pretrained.place import folder_of
from jaxseg.runs import copies
from jaxseg.runs.changes import Changes, refuse, some, that_changed_sides
from jaxseg.runs.first_look import warn_of_looks
from jaxseg.runs.images import (
    Entry,
    ImageList,
    dataset_of,
    entries,
    find,
    fingerprints_of,
    read,
    without_lost_groups,
    write,
)
from jaxseg.runs.workdir import CONFIG, read_config, was_started
from jaxseg.system.files import read_json, write_json
from jaxseg.system.processes import Peers

log = logging.getLogger("jaxseg.train")


@dataclasses.dataclass(frozen=True)
class RunSplits:
    """What a run trains and validates on.

    Attributes:
      train: the training images.
      validation: the validation images.
      images: the run's list; None where it is still to be made.
      is_written: whether the workdir holds that list.
    """

    train: Examples
    validation: Examples
    images: ImageList | None = None
    is_written: bool = False

    def agreed(self, peers: Peers) -> "RunSplits":
        """Returns the splits with the first process's images, which all processes must call.

        Args:
          peers: the processes of the job.

        Raises:
          UserError: this process does not have one of the images.
        """
        chosen = [tuple(part) for part in peers.json_from_first([self.train.names, self.validation.names])]
        if chosen == [self.train.names, self.validation.names]:
            return self
        pool = self.train.followed_by(self.validation, "all")
        where = {name: i for i, name in enumerate(pool.names)}
        if lost := sorted({name for part in chosen for name in part} - where.keys()):
            raise UserError(f"{pool.dataset}: has no image {lost[0]} here, which the first process has")
        parts = [pool.select(np.array([where[name] for name in part], int), "train") for part in chosen]
        return RunSplits(parts[0], dataclasses.replace(parts[1], split="validation"))


def open_splits(config: Config, workdir: Path) -> RunSplits:
    """Opens what a run trains and validates on: its own list where it has started, else as the set is dealt.

    Args:
      config: resolved settings; `data.name` may be another place than where the run began.
      workdir: the run's folder.

    Raises:
      UserError: the set cannot be opened, or does not hold the images of the run.
    """
    started = was_started(workdir)
    # The run's list says which images are on which side; groups would only deal a split that is not used.
    is_listed = started and read(workdir) is not None
    opened = dataclasses.replace(config.data, groups="") if is_listed else config.data
    try:
        train, validation = data.training_splits(opened)
    except UserError as error:
        gone = config.data.name not in DATA_SETS and not Path(config.data.name).exists()
        if gone and started:
            raise UserError(f"{error}; if the data of {workdir} have moved, give --data NEWPLACE") from error
        raise
    if not started:
        return RunSplits(train, validation)
    splits = _resumed(config, workdir, train, validation)
    if is_listed and config.data.groups and Path(config.data.groups).expanduser().exists():
        _tell_of_shared_groups(config.data.groups, workdir, splits)
    return splits


def _tell_of_shared_groups(file: str, workdir: Path, splits: RunSplits) -> None:
    """Warns where groups, whose file may have changed since the run began, are on both sides of its split."""
    kept = f"{workdir} keeps the split that it was started with"
    try:
        groups = read_groups(file, (*splits.train.names, *splits.validation.names))
    except UserError as error:
        log.warning("%s; %s", error, kept)
        return
    count = len(splits.train)
    if shared := sorted(set(groups[:count]) & set(groups[count:])):
        log.warning(
            "--data.groups %s: %d groups now have images in training and in validation (%s); %s; for one by "
            "these groups give another --workdir",
            file,
            len(shared),
            some(shared),
            kept,
        )


def _resumed(config: Config, workdir: Path, train: Examples, validation: Examples) -> RunSplits:
    """Finds the images of a run that goes on.

    Raises:
      UserError: they are not all there, or there are others, and `data.keep_split` is off.
    """
    stored = read(workdir)
    if stored is None:
        _check_fingerprints(config, workdir, train, validation)
        return RunSplits(train, validation)
    pool = train.followed_by(validation, "all")
    identities = identify(pool, stored.identities())
    found = find((*stored.train, *stored.validation), pool.names, identities)
    count = len(stored.train)
    if found == list(range(len(pool))) and count == len(train):
        return RunSplits(train, validation, stored, is_written=True)
    changes = Changes.between((*stored.train, *stored.validation), found, pool.names, identities)
    if changes and not config.data.keep_split:
        refuse(config.data.name, workdir, changes, is_other=dataset_of(workdir) != train.dataset)
    for i, edited in changes.edited.items():
        found[i] = edited
    parts = [[i for i in part if i is not None] for part in (found[:count], found[count:])]
    for part, what in zip(parts, ("training", "validation"), strict=True):
        if not part:
            raise UserError(f"{config.data.name}: holds none of the {what} images of {workdir}; start a new --workdir")
    now = [tuple(Entry(pool.names[i], identities[i]) for i in part) for part in parts]
    kept = pool.select(np.array(parts[0]), "train"), pool.select(np.array(parts[1]), "validation")
    if not changes:
        if config.data.name not in DATA_SETS and has_own_validation(config.data.name):
            _tell_of_moved(config, stored, found, len(train))
        return RunSplits(*kept, stored, is_written=True)
    log.warning("%s: %s; going on with the run's own split", config.data.name, changes)
    before = ((*stored.earlier_train, *stored.train), (*stored.earlier_validation, *stored.validation))
    earlier = [_not_among(entries, part) for entries, part in zip(before, now, strict=True)]
    inherited = {name: value for name, value in vars(stored).items() if name.startswith("inherited_")}
    return RunSplits(*kept, ImageList(*now, *earlier, **inherited))


def _tell_of_moved(config: Config, stored: ImageList, found: Sequence[int], trained: int) -> None:
    """Warns of images that the user has put from train/ into validation/ since the run began, or back."""
    if moved := that_changed_sides(stored, found, trained):
        log.warning(
            "%s: %d images lie on the other side of the split than when this run was started (%s); it keeps its own "
            "split; for the new one give another --workdir",
            config.data.name,
            len(moved),
            some(moved),
        )


def _not_among(entries: Iterable[Entry], now: Iterable[Entry]) -> tuple[Entry, ...]:
    pairs = set().union(*(entry.identity.pairs() for entry in now))
    return tuple(entry for entry in entries if not entry.identity.pairs() & pairs)


def _check_fingerprints(config: Config, workdir: Path, train: Examples, validation: Examples) -> None:
    """Checks the images of a run without a list as far as its fingerprints tell: by name and by files' sizes."""
    prints = fingerprints_of(workdir)
    if not prints or prints == {"train": train.fingerprint(), "validation": validation.fingerprint()}:
        return
    changed = f"{config.data.name}: the images have changed since {workdir} was started by an older jaxseg"
    if not config.data.keep_split:
        raise UserError(
            f"{changed}, which did not keep a list of them; put them back, go on with other images by "
            "--data.keep-split true, or give another --workdir"
        )
    log.warning("%s; going on with %d and %d images, some of which may have changed sides", changed, len(train),
                len(validation))  # fmt: skip


def _fingerprints(splits: RunSplits) -> dict[str, str]:
    return {"train": splits.train.fingerprint(), "validation": splits.validation.fingerprint()}


def register(
    splits: RunSplits,
    config: Config,
    workdir: Path,
    keep: tuple[Callable[[int, Example], object], Callable[[int, Example], object]],
    stop: Callable[[], bool],
    inherited: Mapping[str, tuple] | None = None,
) -> None:
    """Writes the list of a run that starts, or whose list has changed, and where its data lie now.

    Args:
      splits: the run's images.
      config: resolved settings.
      workdir: the run's folder.
      keep: called with index and content of every training and validation image that is decoded.
      stop: whether the run shall stop, asked now and then.
      inherited: which images the weights that the run starts with have seen, as fields of `ImageList`; default: none.

    Raises:
      UserError: an image that cannot be decoded.
      jaxseg.data.identity.Interrupted: `stop` said so.
    """
    started = was_started(workdir)
    if started and splits.images is None and fingerprints_of(workdir) != _fingerprints(splits):
        return  # an older jaxseg's run, of which nobody can tell any more what it was trained on
    if not splits.is_written:
        if started and config.model.init_from:
            inherited = {"inherited_unlisted": ("",)}  # the list is lost that told what the weights had seen before
        seen: tuple[dict[int, Look], dict[int, Look]] = ({}, {})
        parts = (splits.train, splits.validation)
        images = splits.images or ImageList(
            *(
                entries(part, decoded=seeing(looks, kept), stop=stop)
                for part, looks, kept in zip(parts, seen, keep, strict=True)
            ),
            **(inherited or {}),
        )
        _warn_of_twins(images)
        workdir.mkdir(parents=True, exist_ok=True)
        looks = copies.read(folder_of(config.model.init_from)) if config.model.init_from else None
        looks = {**(looks or {}), **((copies.read(workdir) or {}) if started else {})}
        if splits.train.dataset != "synthetic":  # drawn images are not copies of one another
            trained, _ = warn_of_looks(parts, (images.train, images.validation), seen)
            looks |= {entry.identity.image: look for entry, look in zip(images.train, trained, strict=True)}
        copies.write(workdir, looks)
        write(workdir, images)
    if started and (dataset_of(workdir) != splits.train.dataset or _has_moved(config, workdir)):
        _record_place(config, workdir, splits)


def _warn_of_twins(images: ImageList) -> None:
    trained = images.trained()
    if twins := [entry.name for entry in images.validation if entry.identity.images() & trained]:
        of_others = ", here or in a run whose weights this one starts with" if images.inherited_train else ""
        log.warning("%d of the validation images are training images too%s, of the same content: %s", len(twins),
                    of_others, some(twins))  # fmt: skip


def _has_moved(config: Config, workdir: Path) -> bool:
    """Tells whether the folder of a run's prepared set is another than its settings say."""
    return config.data.name in DATA_SETS and read_config(workdir).data.data_dir != config.data.data_dir


def _record_place(config: Config, workdir: Path, splits: RunSplits) -> None:
    """Writes into `config.json` where the images lie now."""
    values = read_json(workdir / CONFIG)
    settings = values["config"]["data"]
    was, now = dataset_of(workdir), config.data.name
    if was == now:
        was, now = settings["data_dir"], config.data.data_dir
    log.info("the data of this run lie in %s now, and no longer in %s", now or "the default --data.data-dir", was)
    settings |= {"name": config.data.name, "data_dir": config.data.data_dir}
    values["data"] |= {"dataset": splits.train.dataset, "fingerprints": _fingerprints(splits)}
    write_json(workdir / CONFIG, values)


def open_split(workdir: Path, config: Config, data_config: DataConfig, split: str) -> Examples:
    """Opens a split for evaluation: of a run's own data the run's own training or validation images.

    Args:
      workdir: the run's folder.
      config: the run's settings.
      data_config: the set.
      split: name of the split.

    Returns:
      The run's list of that split, found by content, where the set is the run's or holds all of its images; otherwise
      the split as `jaxseg.data.open_split` gives it.

    Raises:
      UserError: as `jaxseg.data.open_split`, or the run's data set holds none of its images of that split any more.
    """
    if data_config.groups == config.data.groups:
        data_config = without_lost_groups(workdir, data_config)
    name = data.resolve_name(data_config)
    stored = read(workdir) if data.is_part_of_run(name, split) else None
    if stored is None or split not in data.splits_of(name):
        return data.open_split(data_config, split)
    train, validation = data.training_splits(dataclasses.replace(data_config, groups=""))
    pool = train.followed_by(validation, "all")
    identities = identify(pool, stored.identities())
    wanted = stored.train if split == "train" else stored.validation
    found = find((*stored.train, *stored.validation), pool.names, identities, masks=False)
    own = pool.dataset == dataset_of(workdir)
    if not own and None in found:
        return data.open_split(data_config, split)
    part = found[: len(wanted)] if split == "train" else found[-len(wanted) :]
    there = [i for i in part if i is not None]
    if added := len(pool) - sum(i is not None for i in found):
        log.warning(
            "%s: holds %d images that are not the run's or were edited; %s is the run's own", name, added, split
        )
    has_sides = name not in DATA_SETS and has_own_validation(name)
    if has_sides and (moved := that_changed_sides(stored, found, len(train))):
        log.warning(
            "%s: %d images lie on the other side of the split than when the run was started (%s); %s is the run's own "
            "(--split all: all images)",
            name,
            len(moved),
            some(moved),
            split,
        )
    if not there:
        raise UserError(f"--split {split}: {name} holds none of the {split} images of {workdir} any more")
    if lost := [entry.name for entry, i in zip(wanted, part, strict=True) if i is None]:
        log.warning("%s: %d of the run's %s images were removed or edited, and are not scored: %s", name, len(lost),
                    split, some(lost))  # fmt: skip
    return pool.select(np.array(there), split)
