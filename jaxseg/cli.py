"""The command line that all commands share: settings as flags, and mistakes answered in one line.

Nothing here imports JAX, so `--help` and typing mistakes answer at once.
"""

import argparse
import dataclasses
import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jaxseg.config import PRESETS, Config, DataConfig, flag_values, preset, settings_file
from jaxseg.config.near_misses import nearest_flag
from jaxseg.errors import RunError, UserError, disk_fault, out_of_space, printable, refuse_address
from jaxseg.pretrained.place import NAME
from jaxseg.system import stop
from jaxseg.system.stray_errors import hush_checkpoint_reads

if TYPE_CHECKING:
    from jaxseg.inference.masks import Prediction
    from jaxseg.inference.segmenter import Segmenter


_PATHS = ("workdir", "ensemble", "runs", "input", "output", "out", "source")
"""Arguments that name a file or a folder, and have no meaning when they are empty."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line on stderr with exit code 2, and name the nearest flag."""

    def __init__(self, command: str, description: str, arguments: str):
        prog = f"python -m jaxseg.{command}"
        super().__init__(
            prog=prog,
            usage=f"{prog} {arguments}",
            description=description,
            allow_abbrev=False,
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):  # type: ignore[override]
        """Parses as usual, but takes `--data.image_size` for `--data.image-size`.

        Args:
          args: the arguments; None for those of the process.
          namespace: an object that receives the values; None for a new one.
        """
        args = [_dashed(a) for a in (sys.argv[1:] if args is None else args)]
        flags = [a.split("=")[0] for a in args if a.startswith("--")]
        # Before argparse, which would rather complain that `--output` is missing than that `--out` is unknown.
        self._refuse(flag for flag in flags if flag != "--" and flag not in self._option_string_actions)
        known, unknown = self.parse_known_args(args, namespace)
        self._refuse(unknown)
        self._settle_paths(known)
        return known

    def _settle_paths(self, given: argparse.Namespace) -> None:
        """Replaces `~`, and leaves with an error for an address, and for an empty path: that of the current folder."""
        for action in self._actions:
            value = getattr(given, action.dest, None)
            flag = action.option_strings[0] if action.option_strings else action.dest
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    try:
                        refuse_address(text, flag)
                    except UserError as error:
                        self.error(printable(str(error)))
            if action.dest not in _PATHS or (not value and value != ""):
                continue
            paths = value if isinstance(value, list) else [value]
            if "" in paths:
                self.error(f"{flag}: is empty (is a shell variable unset?); give a path")
            # Shells leave `--workdir=~/run` as it is. Only there: as a Path, "./builtin" would lose its "./".
            try:
                paths = [str(Path(path).expanduser()) if path.startswith("~") else path for path in paths]
            except RuntimeError:
                self.error(
                    f"{flag} {printable(value)}: there is no user of that name; write ./~... for a file of that name"
                )
            setattr(given, action.dest, paths if isinstance(value, list) else paths[0])

    def _refuse(self, unknown: Iterable[str]) -> None:
        """Leaves with an error for the first of the unknown arguments, if there is one."""
        for argument in unknown:
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            near = nearest_flag(argument, flags) if argument.startswith("-") else ""
            self.error(f"unknown argument {argument!r}{near or '; see --help'}")

    def error(self, message: str) -> NoReturn:
        """Prints the message as one line on stderr and leaves with exit code 2."""
        self.exit(2, f"{self.prog}: error: {printable_line(message)}\n")


_LONGEST_LINE = 800
"""Characters of a message that are printed, about."""


def printable_line(message: str) -> str:
    """Returns a message as one line without control characters, which names and contents of files may hold.

    A message that is too long loses its middle: its beginning says what was wrong, its end what to do.

    Args:
      message: any text.
    """
    text, half = printable(" ".join(message.split())), _LONGEST_LINE // 2
    return text if len(text) <= _LONGEST_LINE else f"{text[:half]} … {text[-half:]}"


def _dashed(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else argument


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds `--config NAME|FILE` and one flag per setting; flags not given are absent from the parsed namespace."""
    parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        default=argparse.SUPPRESS,
        help=f"settings to start from: a preset ({', '.join(PRESETS)}), a JSON or YAML file of settings by section, or "
        "a run's config.json; flags go before it (default: paper)",
    )
    groups = {}
    for dotted, field in Config.settings():
        section = dotted.split(".")[0]
        if section not in groups:
            doc = next(f.type.__doc__ for f in dataclasses.fields(Config) if f.name == section)
            groups[section] = parser.add_argument_group(f"{section} settings", doc)
        _add_setting(groups[section], dotted, field)


_SHORT_FLAGS = {"data.name": ("--data",), "model.init_from": ("--init-from",)}
"""Second flags of settings that are given often."""


def _add_setting(group: argparse._ActionsContainer, dotted: str, field: dataclasses.Field) -> None:
    """Adds the flag of one setting."""
    flags = [f"--{dotted.replace('_', '-')}", *_SHORT_FLAGS.get(dotted, ())]
    default = flag_values.written(field.default)
    group.add_argument(
        *flags,
        dest=dotted,
        type=flag_values.reader_of(field.type),
        default=argparse.SUPPRESS,
        metavar="|".join(field.metadata["choices"]) if field.metadata["choices"] else "VALUE",
        help=f"{field.metadata['help']} (default: {default or 'empty'})".replace("%", "%%"),
    )


def add_data_settings(parser: argparse.ArgumentParser) -> None:
    """Adds one flag per setting of the data set; flags not given are absent from the parsed namespace."""
    for dotted, field in Config.settings():
        if dotted.startswith("data."):
            _add_setting(parser, dotted, field)


READING_DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(DataConfig)
    if field.name == "groups" or field.name.startswith("mask_")
}
"""Settings that say how the files of one data set are read, with their defaults: another set has its own."""


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the settings that say how a folder's masks are read, as `--data.mask-invert`."""
    group = parser.add_argument_group("how the files of --data are read; default: as in training, for the same folder")
    for dotted, field in Config.settings():
        if dotted.startswith("data.") and field.name in READING_DEFAULTS:
            _add_setting(group, dotted, field)


def reading_from(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings of `add_reading_arguments` that were given, by the names of `DataConfig`'s fields."""
    return {name: getattr(args, f"data.{name}") for name in READING_DEFAULTS if hasattr(args, f"data.{name}")}


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that choose the model: `--workdir`, `--ensemble`, `--tta`."""
    parser.add_argument(
        "--workdir", default=NAME, metavar="W", help="folder of the run; default: builtin, the model inside the package"
    )
    parser.add_argument(
        "--ensemble",
        nargs="+",
        action="extend",
        default=[],
        metavar="W",
        help="folders of further runs of the same image size; probabilities are averaged over all (default: none)",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: average over flips and quarter turns, at eight times the cost (default: off)",
    )


def add_batch_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--batch-size`, of the network in use."""
    parser.add_argument(
        "--batch-size",
        type=flag_values.whole_number_from(1),
        metavar="N",
        help="images that go through the network at once, over all devices; fewer take less memory (default: the "
        "run's train.batch_size)",
    )


def add_mask_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that make a mask of probabilities: `--threshold`, `--largest-component`, `--fill-holes`.

    `--data-dir` comes with them, because `--threshold auto` needs validation images.
    """
    parser.add_argument(
        "--threshold",
        type=flag_values.threshold,
        metavar="VALUE|auto",
        help="probability above which a pixel is lesion; auto: the best on the validation images of --workdir's run, "
        "with the other options in use (default: 0.5)",
    )
    parser.add_argument(
        "--largest-component",
        action="store_true",
        help="keep only the largest connected region of a mask; pixels that touch at a corner connect (default: off)",
    )
    parser.add_argument(
        "--fill-holes",
        action="store_true",
        help="fill holes that a mask encloses, after --largest-component (default: off)",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the prepared TFDS data sets; default: the run's")


def segmenter_from(args: argparse.Namespace) -> "tuple[Segmenter, Prediction]":
    """Loads the model and decides how masks are made, by the arguments of a command.

    Args:
      args: parsed arguments, among them those of `add_model_arguments` and `add_mask_arguments`; `--batch-size`,
        `--runtime` and `--data` are used where the command has them.

    Returns:
      The model, and how its probabilities become masks.

    Raises:
      UserError: a folder holds no run, or the validation images that `--threshold auto` needs are not available.
    """
    from jaxseg.inference.masks import Prediction
    from jaxseg.inference.segmenter import Segmenter
    from jaxseg.inference.threshold import choose_threshold

    given = {name: value for name, value in vars(args).items() if name in ("batch_size", "runtime")}
    segmenter = Segmenter.load(args.workdir, *args.ensemble, tta=args.tta, **given)
    prediction = Prediction(
        threshold=segmenter.threshold, largest_component=args.largest_component, fill_holes=args.fill_holes
    )
    if args.threshold == "auto":
        prediction = choose_threshold(segmenter, prediction, args.data_dir, vars(args).get("data"))
    elif args.threshold is not None:
        prediction = dataclasses.replace(prediction, threshold=args.threshold)
    return segmenter, prediction


def changes_from(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings that were given on the command line, by dotted name."""
    return {name: getattr(args, name) for name, _ in Config.settings() if hasattr(args, name)}


def config_from(args: argparse.Namespace) -> Config:
    """Returns the chosen preset, or the settings of the chosen file, with the given settings applied.

    Raises:
      UserError: an unknown preset, a file that cannot be read, or a value that a setting does not allow.
    """
    return chosen_in(args)[0]


def chosen_in(args: argparse.Namespace) -> tuple[Config, set[str]]:
    """Returns the settings, as `config_from` does, and the names of those that the user chose, by flags or in a file.

    Raises:
      UserError: as `config_from`.
    """
    chosen, changes = getattr(args, "config", "paper"), changes_from(args)
    if chosen in PRESETS or not settings_file.is_meant(chosen):
        return preset(chosen).updated(changes), set(changes)
    config, names = settings_file.read_chosen(Path(chosen))
    return config.updated(changes), {*changes, *names}


_REFUSED = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)
"""Errors of the system for a path that cannot be used. A missing file is not among them: the code foresees that."""

_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)
"""Errors of the system when a disk or the system itself fails."""


_LESS_MEMORY = {
    "train": "try a lower --train.batch-size, --data.image-size or --data.cache-mib",
    "evaluate": "try a lower --batch-size",
    "predict": "try a lower --batch-size; --skip-existing then goes on where this stopped",
}
"""What a command that ran out of memory can be told to do, by command."""


def run(command: str, main: Callable[[], int | None]) -> NoReturn:
    """Runs the `main` of a command and leaves with its exit code, as `run_program` does.

    Args:
      command: name of the command's module.
      main: the function to run; returns an exit code, or None for 0.
    """
    run_program(f"python -m jaxseg.{command}", main, _LESS_MEMORY.get(command, ""))


def run_program(name: str, main: Callable[[], int | None], less_memory: str = "") -> NoReturn:
    """Runs a program and leaves with its exit code.

    Exit codes: 0, or what `main` returns; 1 for a failed run; 2 for a mistake by the user, both with one line on
    stderr; 130 when interrupted from the keyboard; 141 when nobody reads stdout any more; 143 after SIGTERM, as
    schedulers and `kill` send it. An unforeseen error keeps its traceback, because it is a bug of the program. What the
    system refuses to do with a file, or for lack of memory, is no bug.

    Args:
      name: how the program is called on the command line, for messages.
      main: the function to run; returns an exit code, or None for 0.
      less_memory: what to do when memory runs out, for that message; default: end other programs.
    """
    try:
        with stop.ended_in_order():
            code = main() or 0
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit would fail again
        sys.exit(141)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except stop.Terminated:
        print(f"{name}: ended by SIGTERM", file=sys.stderr)
        sys.exit(143)
    except (UserError, RunError) as error:
        message, code = str(error), 2 if isinstance(error, UserError) else 1
    except OSError as error:
        if out_of_space(error) and not error.filename:
            message, code = "no space left on the disk; make room and give the same command again", 1
        elif not error.filename and (fault := disk_fault(error)):
            message, code = f"{fault}; mend that and give the same command again", 1
        elif error.errno not in (*_REFUSED, *_FAILED) or not error.filename:
            raise
        else:
            message = f"{error.filename}: {error.strerror}; mend that, or give another path"
            code = 2 if error.errno in _REFUSED else 1
    except UnicodeEncodeError as error:
        if not any("\udc80" <= c <= "\udcff" for c in error.object):  # how Python holds bytes that are no UTF-8
            raise
        message, code = f"{error.object}: a name that is not UTF-8; rename the file or folder", 2
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):  # XLA's name for it
            raise
        message, code = f"out of memory; {less_memory or 'end other programs, or use a machine with more'}", 1
    warnings.simplefilter("ignore")  # libraries that are torn down with work unfinished would bury the line
    print(f"{name}: error: {printable_line(message)}", file=sys.stderr)
    sys.exit(code)


def start_logging() -> None:
    """Sends the log of jaxseg to stderr, and nothing of the libraries, whose errors reach us as exceptions."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("jaxseg")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False  # absl, which comes with the libraries, has a handler of its own at the root
    for library in ("absl", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    hush_checkpoint_reads()
    # Pillow warns of damage beside the pixels, as in EXIF, which does no harm, and of large images, which we refuse. A
    # program that imports jaxseg keeps its own filters.
    warnings.filterwarnings("ignore", module=r"PIL\.")
