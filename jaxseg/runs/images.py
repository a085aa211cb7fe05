"""Which images a run trains on and validates on: `images.json`, by name and by content.

The list is written once, when the run truly starts, and is the truth from then on: a data folder may move, and its
images may be told again in any other set, but images that were added, removed or edited do not slip into a run.
"""

import dataclasses
import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxseg import data
from jaxseg.config import Config, DataConfig
from jaxseg.config.datasets import DATA_SETS
from jaxseg.data import Examples
from jaxseg.data.identity import Identity, identify
from jaxseg.errors import UserError, one_line
from jaxseg.pretrained import place
from jaxseg.runs.workdir import IMAGES, description_of
from jaxseg.system.files import read_json, replacing, write_json

_VERSION = 1

_MAX_PACKED_BYTES = 2**26
"""Most of an unpacked list that is read: some 500,000 images."""


class Entry(NamedTuple):
    """One image of a run.

    Attributes:
      name: its name in the data set.
      identity: what it and its mask hold.
    """

    name: str
    identity: Identity


@dataclasses.dataclass(frozen=True)
class ImageList:
    """The images of a run.

    Attributes:
      train: trained on, in the order of training's indices.
      validation: validated on, in order.
      earlier_train: trained on in earlier epochs, before they were edited or removed.
      earlier_validation: validated on in earlier epochs, likewise.
      inherited_train: trained on by the run whose weights this one started with, and by the runs before that.
      inherited_validation: validated on by those runs.
      inherited_unlisted: data sets of those of these runs that keep no list, and whose images are not to be had.
    """

    train: tuple[Entry, ...]
    validation: tuple[Entry, ...]
    earlier_train: tuple[Entry, ...] = ()
    earlier_validation: tuple[Entry, ...] = ()
    inherited_train: tuple[Entry, ...] = ()
    inherited_validation: tuple[Entry, ...] = ()
    inherited_unlisted: tuple[str, ...] = ()

    def identities(self) -> list[Identity]:
        """Returns those of all images."""
        return [entry.identity for name in _ENTRIES for entry in getattr(self, name)]

    def trained(self) -> set[str]:
        """Returns what tells an image that was trained on, as `Identity.images`."""
        return _tellers(self._all_train())

    def validated(self) -> set[str]:
        """Returns what tells an image that was validated on."""
        return _tellers(self._all_validation())

    def inherited(self) -> dict[str, tuple]:
        """Returns what a run that starts with this run's weights inherits, as fields of its own list."""
        return {
            # Each once: runs in a row often share their images.
            "inherited_train": tuple(dict.fromkeys(self._all_train())),
            "inherited_validation": tuple(dict.fromkeys(self._all_validation())),
            "inherited_unlisted": self.inherited_unlisted,
        }

    def _all_train(self) -> tuple[Entry, ...]:
        return (*self.train, *self.earlier_train, *self.inherited_train)

    def _all_validation(self) -> tuple[Entry, ...]:
        return (*self.validation, *self.earlier_validation, *self.inherited_validation)


_UNLISTED = "inherited_unlisted"

_ENTRIES = tuple(field.name for field in dataclasses.fields(ImageList) if field.name != _UNLISTED)
"""Fields of `ImageList` that hold entries."""

_REQUIRED = ("train", "validation", "earlier_train", "earlier_validation")
"""Fields that every `images.json` has; the others came later."""


def _tellers(entries: Iterable[Entry]) -> set[str]:
    return set().union(*(entry.identity.images() for entry in entries))


def read(workdir: Path) -> ImageList | None:
    """Returns the list of a run or of a packed model, or None where an older release wrote none.

    Raises:
      UserError: the file is damaged, or of a newer jaxseg.
    """
    packed = place.is_packed(workdir)
    path = workdir / (place.IMAGES if packed else IMAGES)
    if not path.exists():
        return None
    values = _read_packed(path) if packed else read_json(path)
    if values.get("version") != _VERSION:
        raise UserError(f"{path}: version {values.get('version')!r}, but this jaxseg reads {_VERSION}; update jaxseg")
    try:
        parts: dict[str, Any] = {
            field: tuple(Entry(name, Identity(*map(str, parts))) for name, *parts in values[field])
            for field in _ENTRIES
            if field in values or field in _REQUIRED
        }
        parts[_UNLISTED] = tuple(map(str, values.get(_UNLISTED, ())))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is damaged; restore it from a copy, or start in a new --workdir") from error
    return ImageList(**parts)


def _read_packed(path: Path) -> dict[str, Any]:
    """Reads a list that `write_packed` has written."""
    try:
        with gzip.open(path) as file:
            values = json.loads(file.read(_MAX_PACKED_BYTES))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); install jaxseg again") from error
    return values if isinstance(values, dict) else {}


def write(workdir: Path, images: ImageList) -> None:
    """Writes a run's list; one line per image: name, and hashes of pixels, mask and image file.

    Args:
      workdir: the run's folder.
      images: the list.
    """
    write_json(workdir / IMAGES, _to_json(images))


def write_packed(folder: Path, images: ImageList) -> None:
    """Writes the list of a packed model: compressed, and without the images' names.

    Args:
      folder: the packed model's folder.
      images: the list.
    """
    nameless = {field: tuple(entry._replace(name="") for entry in getattr(images, field)) for field in _ENTRIES}
    text = json.dumps(_to_json(dataclasses.replace(images, **nameless)), separators=(",", ":"))
    with replacing(folder / place.IMAGES) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))


def _to_json(images: ImageList) -> dict[str, Any]:
    parts: dict[str, Any] = {
        field: [[entry.name, *entry.identity] for entry in getattr(images, field)]
        for field in _ENTRIES
        if field in _REQUIRED or getattr(images, field)
    }
    if images.inherited_unlisted:
        parts[_UNLISTED] = list(images.inherited_unlisted)
    columns = ["name", "image", "mask", "file"]
    return {"version": _VERSION, "columns": columns, **parts}


def without_lost_groups(workdir: Path, config: DataConfig) -> DataConfig:
    """Returns settings without a file of groups that is gone: it tells how a set is split, and a run keeps its split.

    Args:
      workdir: the run's folder.
      config: how to open its data.
    """
    if config.groups and not Path(config.groups).expanduser().exists() and (workdir / IMAGES).exists():
        return dataclasses.replace(config, groups="")
    return config


def find(
    entries: Sequence[Entry], names: Sequence[str], identities: Sequence[Identity], *, masks: bool = True
) -> list[int | None]:
    """Finds images again by content; of equal ones, the one of the same name.

    Args:
      entries: the images that are looked for.
      names: of the images that are there.
      identities: of the images that are there.
      masks: whether the masks must be the same too.

    Returns:
      For each entry the index of its image, each index once; None where it is not there.
    """

    def tellers(identity: Identity) -> set[str]:
        return identity.pairs() if masks else identity.images()

    places: dict[str, list[int]] = {}
    for i, identity in enumerate(identities):
        for teller in tellers(identity):
            places.setdefault(teller, []).append(i)
    result: list[int | None] = [None] * len(entries)
    taken: set[int] = set()
    for by_name in (True, False):
        for position, entry in enumerate(entries):
            if result[position] is not None:
                continue
            candidates = sorted({i for teller in tellers(entry.identity) for i in places.get(teller, ())} - taken)
            if chosen := [i for i in candidates if not by_name or names[i] == entry.name][:1]:
                result[position] = chosen[0]
                taken.add(chosen[0])
    return result


def _about(workdir: Path) -> dict[str, Any]:
    about = read_json(description_of(workdir)).get("data")
    return about if isinstance(about, dict) else {}


def dataset_of(workdir: Path) -> str | None:
    """Returns a run's data set as `config.json` has it: its name, or its folder."""
    return _about(workdir).get("dataset")


def fingerprints_of(workdir: Path) -> dict[str, str]:
    """Returns the fingerprints of a run's splits as `config.json` has them, by "train" and "validation"."""
    prints = _about(workdir).get("fingerprints")
    return prints if isinstance(prints, dict) else {}


class Recognised(NamedTuple):
    """What runs have to do with some images.

    Attributes:
      identities: of the images.
      trained_on: number of images that any of the runs was trained on; None where that cannot be told.
      validated_on: number that any of the runs validated on; None likewise.
    """

    identities: list[Identity]
    trained_on: int | None
    validated_on: int | None


def recognise(runs: Sequence[tuple[Path, Config]], examples: Examples, data_dir: str) -> Recognised:
    """Tells which images runs were trained on, by content, wherever the images lie.

    Args:
      runs: folder and settings of each.
      examples: the images.
      data_dir: folder of the prepared data sets, for runs without a list.
    """
    lists = [_list_of(workdir, config, examples, data_dir) for workdir, config in runs]
    known = [images for images in lists if images is not None]
    identities = identify(examples, (identity for images in known for identity in images.identities()))
    unlisted = {name for images in known for name in images.inherited_unlisted}
    if len(known) < len(lists) or not all(_share_nothing(name, examples.dataset) for name in unlisted):
        return Recognised(identities, None, None)
    trained = set().union(*(images.trained() for images in known))
    validated = set().union(*(images.validated() for images in known))
    counts = [sum(bool(identity.images() & tellers) for identity in identities) for tellers in (trained, validated)]
    return Recognised(identities, *counts)


def _list_of(workdir: Path, config: Config, examples: Examples, data_dir: str) -> ImageList | None:
    """Returns the list of a run as far as it matters for some images; None where it is not to be had.

    A run without a list has nothing in common with a data set that is known to share no image with its own.
    """
    if (images := read(workdir)) is not None:
        return images
    if config.model.init_from:
        return None  # its list, which is lost, told what the weights had seen before
    if _share_nothing(dataset_of(workdir), examples.dataset):
        return ImageList((), ())
    return _told_by_its_data(workdir, config, data_dir)


def inherited_by(workdir: Path, config: Config) -> dict[str, tuple]:
    """Returns which images a run's weights have seen, as fields of the `ImageList` of a run that starts with them.

    Args:
      workdir: the run's folder.
      config: its settings.
    """
    images = read(workdir) or _told_by_its_data(workdir, config, config.data.data_dir)
    return (images or ImageList((), (), inherited_unlisted=(str(dataset_of(workdir)),))).inherited()


def _told_by_its_data(workdir: Path, config: Config, data_dir: str) -> ImageList | None:
    """Returns the images of a run without a list from its data set; None where that may be another today."""
    try:
        train, validation = data.training_splits(dataclasses.replace(config.data, data_dir=data_dir))
    except UserError:
        return None
    if fingerprints_of(workdir) != {"train": train.fingerprint(), "validation": validation.fingerprint()}:
        return None
    return ImageList(entries(train), entries(validation))


def _share_nothing(first: str | None, second: str) -> bool:
    """Tells whether two data sets are known ones of different origins; folders may hold anything."""
    if first not in DATA_SETS or second not in DATA_SETS:
        return False
    return DATA_SETS[first].origin != DATA_SETS[second].origin


def entries(examples: Examples, known: Iterable[Identity] = (), **how: Any) -> tuple[Entry, ...]:
    """Returns the list's entries of some images.

    Args:
      examples: the images and masks.
      known: identities that are likely met.
      **how: keyword arguments of `jaxseg.data.identity.identify`.
    """
    return tuple(map(Entry, examples.names, identify(examples, known, **how)))
