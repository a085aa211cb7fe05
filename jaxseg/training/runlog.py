"""What a run tells: log lines, progress bar, `config.json`, `metrics.jsonl`, TensorBoard events, curves, summary."""

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from jaxseg.config import Config
from jaxseg.data import Examples
from jaxseg.report import curves as report
from jaxseg.report.figures import SYNTHETIC_MARK
from jaxseg.report.page import write_page
from jaxseg.runs import workdir as files
from jaxseg.runs.progress import Progress
from jaxseg.system.files import write_json

log = logging.getLogger("jaxseg.train")

CURVES_EVERY_SECS = 10.0
"""Least time between two drawings of the curves, each of which keeps the devices waiting for half a second."""


class RunLog:
    """Tells one run's story; a context manager around its epochs.

    Args:
      config: resolved settings.
      workdir: the run's folder.
      train_set: what is trained on.
      validation_set: what is validated on.
      devices: what it runs on.
      progress: epochs done so far.
    """

    def __init__(
        self,
        config: Config,
        workdir: Path,
        train_set: Examples,
        validation_set: Examples,
        devices: Sequence[jax.Device],
        progress: Progress,
    ):
        self._config = config
        self._workdir = workdir
        self._data = {
            "dataset": train_set.dataset,
            "synthetic": train_set.dataset == "synthetic",
            "train_images": len(train_set),
            "validation_images": len(validation_set),
        }
        self._fingerprints = {"train": train_set.fingerprint(), "validation": validation_set.fingerprint()}
        self._device = {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}
        self._resumed = progress
        self._undrawn: Progress | None = None
        self._draw_at = 0.0

    def __enter__(self) -> "RunLog":
        (self._workdir / "tensorboard").mkdir(parents=True, exist_ok=True)
        # Not tensorboardX' SummaryWriter: its thread dies of a full disk, and whoever then adds a value waits for ever.
        self._tensorboard = EventsWriter(str(self._workdir / "tensorboard" / "events"), f".{os.getpid()}")
        # TensorBoard drops what a killed session wrote of epochs that come now.
        self._write_event(step=self._resumed.epoch + 1, session_log=SessionLog(status=SessionLog.START))
        batch_size, images = self._config.train.batch_size, self._data["train_images"]
        epoch_images = images // batch_size * batch_size
        # On a terminal a bar with rate and time left; elsewhere the epochs' lines alone.
        self._bar = tqdm(
            total=self._config.train.epochs * epoch_images,
            initial=self._resumed.epoch * epoch_images + self._resumed.sums.steps * batch_size,
            unit="img",
            disable=None,
        )
        self._redirect = logging_redirect_tqdm(loggers=[logging.getLogger("jaxseg")])
        self._redirect.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._redirect.__exit__(*exception)
        self._bar.close()
        # On a full disk closing fails too, and must not hide what came before.
        with contextlib.suppress(OSError) if exception[0] else contextlib.nullcontext():
            self._draw_curves()
            self._tensorboard.close()

    def announce(self) -> None:
        """Logs what will be trained on what and where, and writes `config.json` unless it is there."""
        config, count, kind = self._config, self._device["count"], self._device["kind"]
        log.info("jaxseg on %d x %s (JAX %s); run in %s", count, kind, jax.__version__, self._workdir)
        log.info(
            "data %s: %d training and %d validation images%s",
            self._data["dataset"],
            self._data["train_images"],
            self._data["validation_images"],
            SYNTHETIC_MARK if self._data["synthetic"] else "",
        )
        log.info(
            "model %s, pretrained %s, loss %s, %d px, batch %d, %s",
            "plain U-Net" if config.model.encoder == "none" else f"{config.model.encoder}-U-Net",
            config.model.pretrained,
            config.loss.name,
            config.data.image_size,
            config.train.batch_size,
            "augmented" if config.augment.enabled else "not augmented",
        )
        path = self._workdir / files.CONFIG
        if not path.exists():
            data = {**self._data, "fingerprints": self._fingerprints}
            write_json(path, files.describe_run(config, data=data, device=self._device, seed=config.train.seed))
        if self._resumed.sums.steps:
            log.info("resuming in epoch %d, after step %d of it", self._resumed.epoch + 1, self._resumed.sums.steps)
        elif self._resumed.epoch:
            log.info("resuming after epoch %d", self._resumed.epoch)

    def steps(self, count: int) -> None:
        """Moves the bar on by `count` steps."""
        self._bar.update(count * self._config.train.batch_size)

    def epoch(self, progress: Progress) -> None:
        """Logs the last epoch, and writes `metrics.jsonl`, TensorBoard's events and, now and then, `curves.png`."""
        line = progress.history[-1]
        epochs = self._config.train.epochs
        left = progress.seconds / progress.epoch * (epochs - progress.epoch)
        log.info(
            "epoch %d/%d  train loss %.5f  val loss %.5f  val Dice %.4f  lr %.1e  %.1f img/s  at most %s left",
            line["epoch"],
            epochs,
            line["train_loss"],
            line["val_loss"],
            line["val_dice"],
            line["learning_rate"],
            line["images_per_second"],
            tqdm.format_interval(left),
        )
        files.write_metrics(self._workdir, progress.history)
        for name, value in line.items():
            if name not in ("epoch", "step"):
                self._write_event(step=line["epoch"], summary=scalar(name, value))
        self._tensorboard.flush()
        self._undrawn = progress
        if time.monotonic() >= self._draw_at:
            self._draw_curves()

    def _draw_curves(self) -> None:
        """Draws `curves.png`, unless it shows all epochs already."""
        if self._undrawn is None:
            return
        title = f"{self._config.model.encoder} on {self._data['dataset']}"
        path, synthetic = self._workdir / files.CURVES, self._data["synthetic"]
        report.plot_curves(self._undrawn.history, path, title=title, synthetic=synthetic)
        self._undrawn, self._draw_at = None, time.monotonic() + CURVES_EVERY_SECS

    def _write_event(self, **fields: Any) -> None:
        self._tensorboard.write_event(Event(wall_time=time.time(), **fields))

    def finish(self, progress: Progress, parameters: int) -> dict[str, Any]:
        """Logs how the run ended, writes and returns `summary.json`, and writes the page.

        Args:
          progress: at the end.
          parameters: number of the model's trained parameters.
        """
        best = progress.history[progress.early_stop.best_epoch - 1]
        summary = {
            **self._data,
            "parameters": parameters,
            "epochs": progress.epoch,
            "stopped": "early" if progress.early_stop.should_stop else "epochs",
            "best_epoch": best["epoch"],
            "best": {name: value for name, value in best.items() if name.startswith("val_")},
            "final_learning_rate": self._config.optim.learning_rate * progress.plateau.scale,
            "seconds": progress.seconds,
            "images_per_second": float(np.median([line["images_per_second"] for line in progress.history])),
            "device": self._device,
        }
        self._tell(summary, best, progress)
        return summary

    def _tell(self, summary: dict[str, Any], best: dict[str, Any], progress: Progress) -> None:
        write_json(self._workdir / files.SUMMARY, summary)
        page = write_page(self._workdir)
        early = progress.early_stop.should_stop
        patience = self._config.optim.early_stop_patience
        log.info(
            "finished: %s; best epoch %d of %d: validation Dice %.4f per image, %.4f pooled, loss %.5f%s",
            f"no lower validation loss in {patience} epochs" if early else "all epochs are done",
            best["epoch"],
            progress.epoch,
            best["val_dice"],
            best["val_dice_pooled"],
            best["val_loss"],
            SYNTHETIC_MARK if self._data["synthetic"] else "",
        )
        log.info("look at %s", page)


class SilentRunLog(RunLog):
    """What a process has that is not the first of its job: it tells and writes nothing."""

    def __enter__(self) -> "SilentRunLog":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def announce(self) -> None:
        """Says nothing."""

    def steps(self, count: int) -> None:
        """Says nothing."""

    def epoch(self, progress: Progress) -> None:
        """Says nothing."""

    def _tell(self, summary: dict[str, Any], best: dict[str, Any], progress: Progress) -> None:
        pass
