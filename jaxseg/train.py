"""Trains a segmenter: `python -m jaxseg.train --workdir runs/full`.

Run again on the same folder, it resumes; finished, it says so. SIGTERM and Ctrl-C make it save within the epoch and
leave with exit code 143 or 130; a second Ctrl-C aborts. From a test or a notebook, call
`train_and_evaluate(config, workdir)`, the whole job; the loop itself is `jaxseg.training.loop`.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxseg import cli

if TYPE_CHECKING:
    from jaxseg.config import Config
    from jaxseg.steps import TrainState
    from jaxseg.system.stop import StopRequest

log = logging.getLogger("jaxseg.train")


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "train",
        "Trains a segmenter, keeps its latest and best checkpoints, and resumes when run again on the same folder. "
        "SIGTERM and Ctrl-C save and leave, with exit code 143 or 130; a second Ctrl-C aborts.",
        "--workdir W [--config NAME] [--data D] [--any.setting VALUE]",
    )
    result.add_argument("--workdir", required=True, metavar="W", help="folder of the run; made if it is not there")
    cli.add_settings(result)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit code."""
    args = _parser().parse_args(argv)
    config = cli.config_from(args)

    import jax

    from jaxseg.runs import workdir as files
    from jaxseg.system import processes, startup
    from jaxseg.system.stop import Stopped, StopRequest

    cli.start_logging()
    startup.tune()
    for library in ("absl", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # a save that fails is told by our error, in one line
    processes.join()
    workdir = Path(args.workdir)
    if (workdir / files.CONFIG).exists() and not hasattr(args, "config"):
        # The same folder without settings means the same run: it resumes with what it was started with.
        config = files.read_config(workdir).updated(cli.changes_from(args))
    with StopRequest() if jax.process_count() == 1 else processes.SharedStop() as stop:
        try:
            train_and_evaluate(config, workdir, stop)
        except Stopped as stopped:
            command = shlex.join(["python", "-m", "jaxseg.train", *(sys.argv[1:] if argv is None else argv)])
            log.info("%s; go on with: %s", stopped, command)
            return stopped.exit_code
    return 0


def train_and_evaluate(
    config: "Config", workdir: Path | str, stop: "StopRequest | None" = None
) -> tuple["TrainState", dict[str, Any]]:
    """Trains until the epochs are done or early stopping says so; resumes what the folder holds.

    Args:
      config: all settings.
      workdir: the run's folder, made if it is not there.
      stop: looked at after every step; once it is asked for, the run saves and raises `Stopped`.

    Returns:
      The state with the best weights restored (lowest validation loss), and the content of `summary.json`.

    Raises:
      UserError: a setting, data set or weight file that cannot be used, or a folder that holds another run or is in use
        by another process.
      RunError: the loss is not finite, the disk is full, or no checkpoint can be read.
      Stopped: it was asked to stop; called again, it goes on.
    """
    from jaxseg.training import loop

    return loop.train_and_evaluate(config, workdir, stop)


if __name__ == "__main__":
    cli.run("train", main)
