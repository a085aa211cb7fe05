"""Builds a published data set from its original download, beside the old one, and swaps them."""

import contextlib
import io
import logging
import shutil
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from jaxseg.data.published import prepared
from jaxseg.data.published.place import data_dir_of, folder_of, is_prepared
from jaxseg.errors import RunError, UserError
from jaxseg.system import lock

_log = logging.getLogger("jaxseg.prepare")  # not __name__, which is "__main__" when run as a command


def prepare(name: str, source: str, data_dir: str = "", *, force: bool = False) -> dict[str, int]:
    """Builds a data set, or leaves it as it is if it is there already.

    Args:
      name: the set's name, as "ph2".
      source: the publisher's folder or archive.
      data_dir: folder of prepared TFDS data sets; empty: TFDS' own.
      force: rebuild what is there; the old one is replaced only when the new one is complete.

    Returns:
      The number of images in each split of the prepared set.

    Raises:
      UserError: the source is missing or unsound, or the folder cannot be written to.
      RunError: writing failed.
    """
    target = folder_of(name, data_dir)
    workshop = data_dir_of(data_dir) / f".preparing-{name}"
    if workshop.exists():  # of a process that was killed, or still runs
        with _held(workshop, target):
            pass
    there = is_prepared(name, data_dir)
    if there and not force:
        return _compare(name, source, data_dir)
    if there:
        _refuse_to_shrink(name, source, data_dir)
    if target.exists() and not there:
        raise UserError(f"{target}: not a prepared data set; move it away, or choose another --data-dir")
    # Built beside its place, so that an interruption leaves nothing half-done and moving it there takes no time.
    with _held(workshop, target):
        try:
            counts = _build(name, source, str(workshop))
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                target.rename(workshop / _OLD)
            folder_of(name, str(workshop)).rename(target)
        except OSError as error:
            raise RunError(f"{target}: could not be written ({error.strerror or error})") from None
    return counts


_OLD = "old"
"""Name of the set that is being replaced, for the moment between two renames."""


@contextlib.contextmanager
def _held(workshop: Path, target: Path) -> Iterator[None]:
    """Holds the folder in which a set is built, which is empty before and gone after."""
    try:
        workshop.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{workshop.parent}: cannot be written to ({error.strerror}); choose a folder by --data-dir"
        ) from None
    try:
        with lock.held(workshop, "--data-dir"):
            _clear(workshop, target)
            try:
                yield
            finally:
                _clear(workshop, target)
    finally:
        with contextlib.suppress(OSError):
            workshop.rmdir()


def _clear(workshop: Path, target: Path) -> None:
    """Puts a set back whose replacement did not come about, and removes all else."""
    if (workshop / _OLD).exists() and not target.exists():
        (workshop / _OLD).rename(target)
    for path in workshop.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != lock.NAME:
            path.unlink()


_ONE_FOLDER = "put the whole set into one folder, point --source at it, and add --force"


def _compare(name: str, source: str, data_dir: str) -> dict[str, int]:
    """Says that the set is there, and what the source now has beyond it."""
    there, found = _prepared(name, data_dir), _found(name, source, data_dir)
    _log.info("%s is already prepared, and left as it is", name)
    news = {split: len(names) for split, names in found.items() if names - there.get(split, frozenset())}
    if news:
        more = ", ".join(f"{split} {n} (prepared: {len(there.get(split, ()))})" for split, n in news.items())
        lacking = _lacking(found, there)
        what = f"but it lacks {lacking}: {_ONE_FOLDER}" if lacking else "add --force to rebuild the set"
        _log.warning("%s holds more now: %s; %s", source, more, what)
    return {split: len(names) for split, names in there.items()}


def _refuse_to_shrink(name: str, source: str, data_dir: str) -> None:
    """Refuses to replace a sound set by one that lacks some of its images.

    Raises:
      UserError: it would.
    """
    try:
        there = _prepared(name, data_dir)
    except UserError:  # damaged: to be rebuilt from whatever there is
        return
    if lacking := _lacking(_found(name, source, data_dir), there):
        raise UserError(
            f"--source {source}: lacks some of the prepared set, which would be lost: {lacking}; {_ONE_FOLDER}, or "
            f"take {folder_of(name, data_dir)} away first"
        )


def _prepared(name: str, data_dir: str) -> dict[str, frozenset[str]]:
    """Returns the names of the images in each split of a prepared set."""
    with prepared.damage_explained(str(folder_of(name, data_dir)), "add --force"):
        splits = prepared.builder_of(name, data_dir).info.metadata["splits"]
        return {split: frozenset(about["names"]) for split, about in splits.items()}


def _found(name: str, source: str, data_dir: str) -> dict[str, frozenset[str]]:
    """Returns the names of the images that a source has for each split."""
    pairs, _ = prepared.builder_of(name, data_dir).find_pairs(source)
    return {split: frozenset(pair.name for pair in of_split) for split, of_split in pairs.items()}


def _lacking(found: Mapping[str, Set[str]], there: Mapping[str, Set[str]]) -> str:
    """Returns of which splits a source lacks images that are prepared, in words; empty where it lacks none."""
    lost = {split: len(names - found.get(split, frozenset())) for split, names in there.items()}
    return ", ".join(f"{split} ({n} of {len(there[split])} images)" for split, n in lost.items() if n)


def _build(name: str, source: str, data_dir: str) -> dict[str, int]:
    import tensorflow_datasets as tfds

    builder = prepared.builder_of(name, data_dir, source=source)
    # TFDS announces sizes it does not know and a folder that is not the final one, and its bar knows no end.
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return _counts(builder)


def _counts(builder) -> dict[str, int]:
    return {split: info.num_examples for split, info in builder.info.splits.items()}
