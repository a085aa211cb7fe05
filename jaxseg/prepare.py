"""Builds a TFDS data set from the publisher's download: `python -m jaxseg.prepare ph2 --source PH2Dataset`."""

import argparse
import logging
import shlex
from collections.abc import Mapping, Sequence

from jaxseg import cli
from jaxseg.data.published.place import NAMES, folder_of
from jaxseg.errors import suggestion

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
    if text not in NAMES:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be prepared: must be one of {', '.join(NAMES)}{suggestion(text, NAMES)}"
        )
    return text


def _summary(name: str, counts: Mapping[str, int], data_dir: str) -> str:
    listed = ", ".join(f"{split} {n}" for split, n in counts.items())
    split = "test" if "test" in counts else "train"
    command, flag = _NEXT[name]
    then = command.format(split=split) + (f" {flag} {shlex.quote(data_dir)}" if data_dir else "")
    return f"{name} is in {folder_of(name, data_dir)} ({listed} images); next: {then}"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
      argv: its arguments; default: those of the process.
    """
    args = _parser().parse_args(argv)

    from jaxseg.data.published.build import prepare

    cli.start_logging()
    counts = prepare(args.name, args.source, args.data_dir, force=args.force)
    print(_summary(args.name, counts, args.data_dir))


if __name__ == "__main__":
    cli.run("prepare", main)
