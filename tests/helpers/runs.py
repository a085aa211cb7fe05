"""Tiny runs: their settings, their flags, what they leave, and a stop at a chosen moment."""

import json
from pathlib import Path

from jaxseg.config import Config
from jaxseg.system.stop import StopRequest


def tiny_config() -> Config:
    """Returns settings that train in seconds: a two-scale plain U-Net on a few small synthetic images, one device.

    Loss, rate and momentum are such that after two epochs some pixels are taken for lesion: scores are not all 0.
    """
    return Config().updated(
        {
            "data.name": "synthetic",
            "data.image_size": 32,
            "data.synthetic_train": 12,
            "data.synthetic_eval": 6,
            "data.workers": 2,
            "model.encoder": "none",
            "model.pretrained": "none",
            "model.unet_channels": (4, 8),
            "model.decoder_bn_momentum": 0.3,
            "loss.name": "bce",
            "optim.learning_rate": 1e-2,
            "train.batch_size": 4,
            "train.epochs": 2,
            "train.devices": 1,
        }
    )


def flags(config: Config) -> list[str]:
    """Returns the command's flags for what differs from the defaults."""
    changed = {name: config.get(name) for name, field in Config.settings() if config.get(name) != field.default}
    texts = {name: ",".join(map(str, v)) if isinstance(v, tuple) else str(v) for name, v in changed.items()}
    return [part for name, text in texts.items() for part in (f"--{name}", text)]


def results(run: Path) -> tuple[list[dict], dict]:
    """Returns the lines of `metrics.jsonl` and the summary, without times."""
    times = ("images_per_second", "seconds")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((run / "summary.json").read_text())
    return [{k: v for k, v in line.items() if k not in times} for line in (*lines, summary)]


class AskedAt(StopRequest):
    """Asks to stop when it is asked for the n-th time."""

    def __init__(self, question: int):
        super().__init__()
        self.left = question

    def requested(self) -> bool:
        """Counts the questions."""
        self.left -= 1
        return self.left <= 0
