"""Builds a TFDS data set from the publisher's download: `python -m jaxseg.prepare ph2 --source PH2Dataset`."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxseg import cli
from jaxseg.config.datasets import PUBLISHED, data_set, nearest

_CHOICES = f"{{{','.join(PUBLISHED)}}}"


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "prepare",
        "Builds a TFDS data set (array_record, no TensorFlow needed) from the publisher's original download.",
        f"{_CHOICES} --source DIR_OR_ARCHIVE [--data-dir D] [--force]",
    )
    parser.add_argument("name", type=_set_name, metavar=_CHOICES, help="which data set")
    parser.add_argument(
        "--source",
        required=True,
        metavar="DIR_OR_ARCHIVE",
        help="the publisher's folder or zip archive, or a folder that holds it; unpack PH2's .rar first",
    )
    parser.add_argument(
        "--data-dir",
        metavar="D",
        default="",
        help="folder of prepared TFDS data sets (default: TFDS' own, ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--force", action="store_true", help="rebuild a prepared set, and replace it once the new one is complete"
    )
    return parser


def _set_name(text: str) -> str:
    if text not in PUBLISHED:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be prepared: must be one of {', '.join(PUBLISHED)}{nearest(text, PUBLISHED)}"
        )
    return text


def _summary(name: str, folder: Path, counts: Mapping[str, int], data_dir: str) -> str:
    """Returns the line that says where a prepared set is and which command comes next."""
    listed = ", ".join(f"{split} {n}" for split, n in counts.items())
    known = data_set(name)
    split = known.default_split if known.default_split in counts else "train"
    command = known.next_step.format(name=name, split=split)
    if data_dir:
        command += f" {known.next_flag} {shlex.quote(data_dir)}"
    return f"{name} is in {folder} ({listed} images); next: {command}"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
      argv: its arguments; default: those of the process.
    """
    args = _parser().parse_args(argv)

    from jaxseg.data.published.build import prepare
    from jaxseg.data.published.place import folder_of

    cli.start_logging()
    counts = prepare(args.name, args.source, args.data_dir, force=args.force)
    print(_summary(args.name, folder_of(args.name, args.data_dir), counts, args.data_dir))


if __name__ == "__main__":
    cli.run("prepare", main)
