"""The command line that all of the paper's experiments have."""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from experiments.paper.scales import SCALES
from experiments.paper.study import Study
from experiments.shared.origin import module_name
from jaxseg import cli
from jaxseg.errors import UserError
from jaxseg.system import startup


def parser(doc: str) -> argparse.ArgumentParser:
    """Returns the parser of an experiment, with the arguments that all experiments have."""
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the study's folder; made if missing, else continued"
    )
    result.add_argument(
        "--scale", choices=SCALES, default="full", help="size of the experiments (default: %(default)s)"
    )
    result.add_argument(
        "--encoder",
        choices=("resnet50v2", "resnet50", "none"),
        help="encoder of the ResNet rows (default: the scale's)",
    )
    result.add_argument(
        "--pretrained",
        metavar="FILE",
        default="imagenet",
        help="ImageNet weights of the encoder (default: %(default)s)",
    )
    result.add_argument("--train", metavar="D", help="training data set (default: the scale's, ph2)")
    result.add_argument(
        "--external",
        metavar="D:SPLIT",
        help="data set and split that is scored and never trained on (default: isic2016:test)",
    )
    result.add_argument(
        "--runs", type=int, metavar="N", help="the first N seeds or folds of each row (default: the scale's)"
    )
    result.add_argument(
        "--in-turn",
        action="store_true",
        help="train a row's runs one after the other instead of as one program: in the memory of one, and runs can be "
        "added to a finished row by a larger --runs",
    )
    result.add_argument(
        "--rows", nargs="+", metavar="NAME", help="train these rows alone, as resnet_augmented (default: all)"
    )
    result.add_argument("--report", action="store_true", help="compute nothing new; show what is there")
    result.add_argument("--data-dir", default="", metavar="DIR", help="folder of the prepared data sets")
    return result


def study_of(args: argparse.Namespace) -> Study:
    """Returns the study of a command line, and makes the process fast for it.

    Raises:
      UserError: `--external` names no split.
    """
    scale = SCALES[args.scale]
    name, colon, split = (args.external or ":".join(scale.external)).rpartition(":")
    if args.runs is not None and args.runs < 1:
        raise UserError(f"--runs {args.runs}: must be at least 1")
    if not colon:
        raise UserError(f"--external {args.external}: name a split too, as {args.external}:test")
    if args.in_turn:  # as `jaxseg.train`, which trains these runs, makes its own process
        startup.tune()
    pretrained = str(Path(args.pretrained).resolve()) if Path(args.pretrained).exists() else args.pretrained
    return Study(
        args.out,
        scale,
        args.encoder or scale.encoder,
        pretrained,
        args.train or scale.train,
        (name, split),
        args.data_dir,
        args.report,
        runs=args.runs,
        in_turn=args.in_turn,
        only=args.rows,
    )


def main(run: Callable[[Study], None], doc: str) -> None:
    """Runs one experiment from the command line.

    Args:
      run: writes the experiment's section.
      doc: the script's docstring, shown by `--help`.
    """
    arguments = parser(doc)
    start(lambda: run(study_of(arguments.parse_args())))


def start(program: Callable[[], None]) -> None:
    """Runs a program like jaxseg's commands: a mistake or a failure ends it with one line and an exit code."""
    # Not all of `startup.tune`: it keeps memory between steps, which would also stay, and grow, between stacked rows.
    startup.keep_compiled_programs()
    cli.start_logging()
    logging.getLogger("jaxseg").setLevel(logging.WARNING)  # else each run of a row tells the same
    cli.run_program(f"python -m {module_name()}", program)
