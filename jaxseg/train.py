"""Trains a segmenter: `python -m jaxseg.train --workdir runs/full`.

The same command on the same folder resumes the run; when the run is finished, the command says so. SIGTERM and Ctrl-C
make it save within the epoch and leave with exit code 143 or 130; a second Ctrl-C aborts. From a test or a notebook,
call `train_and_evaluate(config, workdir)`, which does the whole job; the loop itself is in `jaxseg.training.loop`.
"""

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxseg import cli

if TYPE_CHECKING:
    from jaxseg.config import Config
    from jaxseg.steps import TrainState
    from jaxseg.system.stop import Stop
    from jaxseg.training.hooks import Hook

log = logging.getLogger("jaxseg.train")


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "train",
        "Trains a segmenter, keeps its latest and best checkpoints, and resumes when run again on the same folder. "
        "SIGTERM and Ctrl-C save and leave, with exit code 143 or 130; a second Ctrl-C aborts.",
        "--workdir W [--config NAME|FILE] [--data D] [--any.setting VALUE] [--print-config]",
    )
    result.add_argument("--workdir", required=True, metavar="W", help="folder of the run; made if it is not there")
    result.add_argument(
        "--print-config",
        action="store_true",
        help="print the settings that the run would have, as JSON that --config takes, and train nothing",
    )
    cli.add_settings(result)
    return result


def main(argv: Sequence[str] | None = None, hooks: "Sequence[Hook]" = ()) -> int:
    """Parses the command line and trains.

    Args:
      argv: the arguments; None stands for those of the process.
      hooks: further hooks of the training loop.

    Returns:
      The exit code.
    """
    args = _parser().parse_args(argv)
    (config, chosen), changes = cli.chosen_in(args), cli.changes_from(args)

    from jaxseg.runs import parent
    from jaxseg.runs import workdir as files
    from jaxseg.system import processes, startup
    from jaxseg.system.stop import Stopped
    from jaxseg.training.folder import resolve

    cli.start_logging()
    startup.tune()
    processes.join()
    startup.check_platform()
    workdir = Path(args.workdir)
    if (workdir / files.CONFIG).exists() and not hasattr(args, "config"):
        # The same folder without settings means the same run: it resumes with the settings of its start.
        config = files.read_config(workdir)
        if parent.SETTING in changes and not files.was_started(workdir):
            config = parent.without(config)
        config = config.updated(changes)
    if files.was_started(workdir):
        chosen = set(changes)  # what a file chose was settled when the run began
    if args.print_config:
        print(json.dumps(resolve(config, workdir, chosen).to_dict(), indent=2))
        return 0
    with processes.peers().stop_request() as stop:
        try:
            train_and_evaluate(config, args.workdir, stop, hooks, chosen)
        except Stopped as stopped:
            command = shlex.join(["python", "-m", "jaxseg.train", *(sys.argv[1:] if argv is None else argv)])
            log.info("%s; go on with: %s", stopped, command)
            return stopped.exit_code
    return 0


def train_and_evaluate(
    config: "Config",
    workdir: Path | str,
    stop: "Stop | None" = None,
    hooks: "Sequence[Hook]" = (),
    chosen: Collection[str] = (),
) -> tuple["TrainState", dict[str, Any]]:
    """Trains until the epochs are done or early stopping ends the run; resumes the run that the folder holds.

    Where nobody has set up logging, as in a notebook, a line per epoch appears on stderr.

    Args:
      config: all settings.
      workdir: the run's folder, created if it does not exist.
      stop: asked after every step; when it says so, the run saves and raises `Stopped`.
      hooks: called at fixed moments of the training; see `jaxseg.training.hooks.Hook`.
      chosen: names of settings, as "data.image_size", that `model.init_from` shall not change although they have their
        default.

    Returns:
      The state with the best weights (lowest validation loss), and the content of `summary.json`.

    Raises:
      UserError: a setting, data set or weight file cannot be used, or the folder holds another run or is in use by
        another process.
      RunError: the loss is not finite, the disk is full, or no checkpoint can be read.
      Stopped: the run was asked to stop; the same call resumes it.
    """
    from jaxseg.training import loop

    return loop.train_and_evaluate(config, workdir, stop, hooks, chosen)


if __name__ == "__main__":
    cli.run("train", main)
