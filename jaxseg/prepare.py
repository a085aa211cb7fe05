"""Builds a TFDS data set from the publisher's download: `python -m jaxseg.prepare ph2 --source PH2Dataset`."""

import argparse
import contextlib
import io
import logging
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxseg import cli
from jaxseg.data import prepared
from jaxseg.errors import RunError, UserError
from jaxseg.settings import suggestion

_log = logging.getLogger("jaxseg.prepare")  # not __name__, which is "__main__" when run as a command

_NEXT = {
    "ph2": ("python -m jaxseg.train --workdir runs/ph2 --data ph2", "--data.data-dir"),
    "isic2016": ("python -m jaxseg.evaluate --workdir runs/ph2 --data isic2016 --split {split}", "--data-dir"),
}
"""What one does with a set once it is prepared, as in the paper, and that command's flag for the folder of the sets."""


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "prepare",
        "Builds a TFDS data set (array_record, no TensorFlow needed) from the publisher's original download.",
        "{ph2,isic2016} --source DIR_OR_ARCHIVE [--data-dir D] [--force]",
    )
    parser.add_argument("name", type=_set_name, metavar="{ph2,isic2016}", help="which data set")
    parser.add_argument(
        "--source",
        required=True,
        metavar="DIR_OR_ARCHIVE",
        help="the publisher's folder or zip archive, or a folder that holds it; PH2's .rar is to be unpacked first",
    )
    parser.add_argument(
        "--data-dir",
        metavar="D",
        default="",
        help="folder of prepared TFDS data sets (default: TFDS' own, ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--force", action="store_true", help="build anew what is already prepared, and replace it once that succeeded"
    )
    return parser


def _set_name(text: str) -> str:
    if text not in prepared.NAMES:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be prepared: must be one of {', '.join(prepared.NAMES)}{suggestion(text, prepared.NAMES)}"
        )
    return text


def prepare(name: str, source: str, data_dir: str = "", *, force: bool = False) -> dict[str, int]:
    """Builds a data set, or leaves it as it is if it is there already.

    Args:
      name: "ph2" or "isic2016".
      source: the publisher's folder or archive.
      data_dir: folder of prepared TFDS data sets; empty: TFDS' own.
      force: build anew what is there; the old one is replaced only when the new one is complete.

    Returns:
      The number of images in each split of the prepared set.

    Raises:
      UserError: the source is missing or unsound, or the folder cannot be written to.
      RunError: writing failed.
    """
    target = prepared.folder_of(name, data_dir)
    there = prepared.is_prepared(name, data_dir)
    if there and not force:
        return _compare(name, source, data_dir)
    if target.exists() and not there:
        raise UserError(f"{target}: not a prepared data set; move it away, or choose another --data-dir")
    # Built beside its place, so that an interruption leaves nothing half-done and moving it there takes no time.
    with _workshop(prepared.data_dir_of(data_dir)) as workshop:
        try:
            counts = _build(name, source, workshop)
            target.parent.mkdir(exist_ok=True)
            _replace(prepared.folder_of(name, workshop), target, Path(workshop) / "old")
        except OSError as error:
            raise RunError(f"{target}: could not be written ({error.strerror or error})") from None
    return counts


def _workshop(root: Path) -> tempfile.TemporaryDirectory:
    try:
        root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".preparing-", dir=root)
    except OSError as error:
        raise UserError(f"{root}: cannot be written to ({error.strerror}); choose a folder by --data-dir") from None


def _compare(name: str, source: str, data_dir: str) -> dict[str, int]:
    """Says that the set is there, and what the source now has beyond it."""
    with prepared.damage_explained(str(prepared.folder_of(name, data_dir)), "add --force"):
        builder = prepared.builder_of(name, data_dir)
        counts = _counts(builder)
    found = {split: len(pairs) for split, pairs in builder.find_pairs(source)[0].items()}
    _log.info("%s is already prepared, and left as it is", name)
    news = {split: n for split, n in found.items() if n > counts.get(split, 0)}
    if news:
        more = ", ".join(f"{split} {n} (prepared: {counts.get(split, 0)})" for split, n in news.items())
        _log.warning("%s holds more now: %s; add --force to build the set anew", source, more)
    return counts


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


def _replace(new: Path, target: Path, old: Path) -> None:
    """Moves the new folder to its place and what was there to `old`; if that fails, puts it back."""
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _summary(name: str, counts: Mapping[str, int], data_dir: str) -> str:
    listed = ", ".join(f"{split} {n}" for split, n in counts.items())
    split = "test" if "test" in counts else "train"
    command, flag = _NEXT[name]
    then = command.format(split=split) + (f" {flag} {shlex.quote(data_dir)}" if data_dir else "")
    return f"{name} is in {prepared.folder_of(name, data_dir)} ({listed} images); next: {then}"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
      argv: its arguments; default: those of the process.
    """
    args = _parser().parse_args(argv)
    cli.start_logging()
    counts = prepare(args.name, args.source, args.data_dir, force=args.force)
    print(_summary(args.name, counts, args.data_dir))


if __name__ == "__main__":
    cli.run("prepare", main)
