"""Everything that a run tells, each as a hook: its log lines, its progress bar, and each file in its folder."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from jaxseg.config import network_title
from jaxseg.data.identity import Interrupted
from jaxseg.data.pipeline import ResizedExamples
from jaxseg.report import curves
from jaxseg.report.figures import SYNTHETIC_MARK
from jaxseg.report.page import write_page
from jaxseg.runs import sessions
from jaxseg.runs import workdir as files
from jaxseg.runs.parent import RECORD
from jaxseg.runs.progress import Progress
from jaxseg.runs.splits import RunSplits, register
from jaxseg.system.files import write_json
from jaxseg.system.stop import Stop, Stopped
from jaxseg.training.hooks import Hook
from jaxseg.training.run import Run, best_epoch, goes_on

log = logging.getLogger("jaxseg.train")

CURVES_EVERY_SECS = 10.0
"""Minimum time between two drawings of the curves, each of which keeps the devices waiting for half a second."""


def all_writers() -> list[Hook]:
    """Returns one of each writer, in the order in which a run calls them."""
    return [ConfigFile(), HistoryFile(), TensorBoard(), Curves(), SummaryAndPage(), LogLines(), ProgressBar()]


class ImageListWriter(Hook):
    """Writes `images.json` at the first start.

    Args:
      splits: the run's images.
      train: keeps training images that are decoded for the list.
      validation: keeps validation images likewise.
      stop: asked during a long reading; None not to ask, as among several processes, which must ask equally often.
      seen: which images the weights that the run starts with have seen, as fields of `runs.images.ImageList`.
    """

    def __init__(
        self,
        splits: RunSplits,
        train: ResizedExamples,
        validation: ResizedExamples,
        stop: Stop | None,
        seen: Mapping[str, tuple] | None = None,
    ):
        self._splits = splits
        self._keep = train.keep, validation.keep
        self._stop = stop
        self._seen = seen or {}

    def on_start(self, run: Run, progress: Progress) -> None:
        """Reads all images that are not known yet, and writes the file.

        Raises:
          Stopped: the run was asked to stop meanwhile.
        """
        del progress
        stop = self._stop
        try:
            requested = stop.requested if stop else lambda: False
            register(self._splits, run.config, run.workdir, self._keep, requested, self._seen)
        except Interrupted:
            raise Stopped(f"stopped by {stop.reason} before the first step", stop.exit_code) from None


class ConfigFile(Hook):
    """Writes `config.json` at the first start, and `sessions.json` where the run goes on otherwise."""

    def on_start(self, run: Run, progress: Progress) -> None:
        """Writes one of the files if there is something to say."""
        path = run.workdir / files.CONFIG
        if not path.exists() or not (progress.epoch or progress.sums.steps):  # a start may have ended at once
            data = {**run.data, "fingerprints": run.fingerprints}
            facts = {"data": data, "device": run.device, "seed": run.config.train.seed}
            if run.parent:
                facts[RECORD] = run.parent
            write_json(path, files.describe_run(run.config, **facts))
        elif goes_on(progress, run.config):
            now = files.describe_run(run.config, device=run.device)
            if changed := sessions.add(run.workdir, now, progress.epoch):
                log.warning(
                    "the run goes on with %s: %s keeps both, and an uninterrupted run may differ",
                    changed,
                    files.SESSIONS,
                )


class HistoryFile(Hook):
    """Writes `metrics.jsonl`."""

    def on_start(self, run: Run, progress: Progress) -> None:
        """Repairs the file when the run resumes."""
        self._workdir = run.workdir
        if progress.history:
            self._write(progress)  # after a crash a line may be missing, or be ahead of its checkpoint

    def on_epoch(self, progress: Progress) -> None:
        """Adds the epoch's line."""
        self._write(progress)

    def _write(self, progress: Progress) -> None:
        files.write_metrics(self._workdir, progress.history)


class TensorBoard(Hook):
    """Writes TensorBoard events, one scalar per number and epoch."""

    def on_start(self, run: Run, progress: Progress) -> None:
        """Opens an events file for this session."""
        folder = run.workdir / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        # Not tensorboardX' SummaryWriter: its thread dies when the disk is full, and the next value added blocks.
        self._events = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        # TensorBoard drops what a killed session wrote about epochs that this session repeats.
        self._write(step=progress.epoch + 1, session_log=SessionLog(status=SessionLog.START))

    def on_epoch(self, progress: Progress) -> None:
        """Writes the epoch's numbers."""
        line = progress.history[-1]
        for name, value in line.items():
            if name not in ("epoch", "step"):
                self._write(step=line["epoch"], summary=scalar(name, value))
        self._events.flush()

    def on_close(self) -> None:
        """Closes the events file."""
        self._events.close()

    def _write(self, **fields: Any) -> None:
        self._events.write_event(Event(wall_time=time.time(), **fields))


class Curves(Hook):
    """Draws `curves.png`: after the first epoch, then at most every `CURVES_EVERY_SECS`, and when the run ends."""

    def on_start(self, run: Run, progress: Progress) -> None:
        """Makes the first epoch draw."""
        del progress
        self._run = run
        self._undrawn: Progress | None = None
        self._draw_at = 0.0

    def on_epoch(self, progress: Progress) -> None:
        """Draws the curves if the last drawing is old enough."""
        self._undrawn = progress
        if time.monotonic() >= self._draw_at:
            self._draw()

    def on_close(self) -> None:
        """Draws the epochs that the picture lacks."""
        self._draw()

    def _draw(self) -> None:
        """Draws the curves, unless the picture shows all epochs already."""
        if self._undrawn is None:
            return
        title = f"{self._run.config.model.encoder} on {self._run.train_set.dataset}"
        path = self._run.workdir / files.CURVES
        curves.plot_curves(self._undrawn.history, path, title=title, synthetic=self._run.synthetic)
        self._undrawn, self._draw_at = None, time.monotonic() + CURVES_EVERY_SECS


class SummaryAndPage(Hook):
    """Writes `summary.json`, then `report.html`, which shows it, when training is finished."""

    def on_start(self, run: Run, progress: Progress) -> None:
        """Takes the folder, and where it was trained if it is finished."""
        self._workdir, self._trained_on = run.workdir, {}
        if not goes_on(progress, run.config) and (run.workdir / files.CONFIG).exists():
            last = sessions.recorded(run.workdir)[-1]
            self._trained_on = {"device": last["device"]} if last.get("device") else {}

    def on_end(self, summary: Mapping[str, Any], progress: Progress) -> None:
        """Writes both files."""
        del progress
        write_json(self._workdir / files.SUMMARY, {**summary, **self._trained_on})
        write_page(self._workdir)


class LogLines(Hook):
    """Logs what is trained on what and where, a line per epoch, and how the run ended."""

    def on_start(self, run: Run, progress: Progress) -> None:
        """Logs device, data, model, and where the run resumes."""
        self._run = run
        config, device, data = run.config, run.device, run.data
        log.info("jaxseg on %d x %s (JAX %s); run in %s", device["count"], device["kind"], jax.__version__, run.workdir)
        log.info(
            "data %s: %d training and %d validation images%s",
            data["dataset"],
            data["train_images"],
            data["validation_images"],
            SYNTHETIC_MARK if run.synthetic else "",
        )
        log.info(
            "model %s, %s, loss %s, %d px, batch %d, %s",
            network_title(config.model.encoder),
            f"from {start}" if (start := config.model.init_from) else f"pretrained {config.model.pretrained}",
            config.loss.name,
            config.data.image_size,
            config.train.batch_size,
            "augmented" if config.augment.enabled else "not augmented",
        )
        if config.drawn_per_step:
            log.info("%d of the %d images of each batch are drawn", config.drawn_per_step, config.train.batch_size)
        if progress.sums.steps:
            log.info("resuming in epoch %d, after step %d of it", progress.epoch + 1, progress.sums.steps)
        elif progress.epoch:
            log.info("resuming after epoch %d", progress.epoch)

    def on_epoch(self, progress: Progress) -> None:
        """Logs the epoch's numbers and the time left."""
        line, epochs = progress.history[-1], self._run.config.train.epochs
        seconds_left = progress.seconds / progress.epoch * (epochs - progress.epoch)
        log.info(
            "epoch %d/%d  train loss %.5f  val loss %.5f  val Dice %.4f  lr %.1e  %.1f img/s  at most %s left",
            line["epoch"],
            epochs,
            line["train_loss"],
            line["val_loss"],
            line["val_dice"],
            line["learning_rate"],
            line["images_per_second"],
            tqdm.format_interval(seconds_left),
        )

    def on_end(self, summary: Mapping[str, Any], progress: Progress) -> None:
        """Logs how the run ended, and its best scores."""
        best, patience_epochs = best_epoch(progress), self._run.config.optim.early_stop_patience
        early = summary["stopped"] == "early"
        log.info(
            "finished: %s; best epoch %d of %d: validation Dice %.4f per image, %.4f pooled, loss %.5f%s",
            f"no lower validation loss in {patience_epochs} epochs" if early else "all epochs are done",
            best["epoch"],
            progress.epoch,
            best["val_dice"],
            best["val_dice_pooled"],
            best["val_loss"],
            SYNTHETIC_MARK if self._run.synthetic else "",
        )
        log.info("look at %s", self._run.workdir / files.PAGE)


class ProgressBar(Hook):
    """Shows a bar with rate and time left on a terminal; elsewhere the epochs' log lines have to do."""

    def on_start(self, run: Run, progress: Progress) -> None:
        """Opens the bar, above which log lines appear."""
        self._batch_size = run.config.train.batch_size
        epoch_images = run.epoch_steps * self._batch_size
        self._bar = tqdm(
            total=run.config.train.epochs * epoch_images,
            initial=progress.epoch * epoch_images + progress.sums.steps * self._batch_size,
            unit="img",
            disable=None,  # unless stderr is a terminal
        )
        self._redirect = logging_redirect_tqdm(loggers=[logging.getLogger("jaxseg")])
        self._redirect.__enter__()

    def on_fetch(self, steps: int) -> None:
        """Moves the bar forward."""
        self._bar.update(steps * self._batch_size)

    def on_close(self) -> None:
        """Closes the bar."""
        self._redirect.__exit__(None, None, None)
        self._bar.close()


@contextlib.contextmanager
def visible_log() -> Iterator[None]:
    """Shows the log on stderr within the block where nobody has set up logging, as in a notebook.

    A program that gives the logger "jaxseg" or the root logger a handler decides itself what is shown.
    """
    logger = logging.getLogger("jaxseg")
    if logger.handlers or any(_is_set_up(handler) for handler in logging.getLogger().handlers):
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level or logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _is_set_up(handler: logging.Handler) -> bool:
    """Tells whether somebody gave the root logger a handler who wanted to see something.

    absl, which comes with the libraries, has one of its own there, or calls `logging.basicConfig()`, which shows
    warnings alone.
    """
    if type(handler).__module__.startswith("absl"):
        return False
    is_default = (
        type(handler) is logging.StreamHandler and getattr(handler.formatter, "_fmt", "") == logging.BASIC_FORMAT
    )
    return not (is_default and logging.getLogger().level == logging.WARNING)
