"""A trained model ready to use: the best weights of a run behind one call."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import jax
import numpy as np
from PIL import Image

from jaxseg.checkpoint import restore_best
from jaxseg.config import Config
from jaxseg.data.images import resize_image
from jaxseg.steps import Steps, state_target
from jaxseg.workdir import read_config

T = TypeVar("T")

THRESHOLD = 0.5
"""Probability above which a pixel is lesion."""


class Segmenter:
    """Maps images to probability maps.

        segmenter = Segmenter.load("runs/full")
        probability = segmenter(image)  # float32 [H, W] for uint8 [H, W, 3]

    Attributes:
      config: settings of the run.
      step: training step of the weights.
      image_size: side of the network's square input, pixels.
      batch_size: images that go through the network at once.
    """

    def __init__(self, config: Config, steps: Steps, variables: dict, step: int):
        self.config = config
        self.step = step
        self.image_size = config.data.image_size
        devices = len(steps.devices)
        self.batch_size = -(-config.train.batch_size // devices) * devices
        self._steps = steps
        self._variables = variables

    @classmethod
    def load(cls, workdir: Path | str) -> Self:
        """Loads the best checkpoint of a run, onto all local devices.

        Raises:
          UserError: no run in the folder, or no checkpoint yet.
        """
        workdir = Path(workdir)
        config = read_config(workdir)
        steps = Steps(config, jax.local_devices())
        variables, step = restore_best(workdir, state_target(config, steps).variables)
        return cls(config, steps, variables, step)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Segments one image of any size.

        Args:
          image: uint8 [H, W, 3], RGB in [0, 255].

        Returns:
          float32 [H, W], the probability of lesion.
        """
        # One image per device: a whole batch would take as long as all its blanks.
        ((_, probability),) = self.stream([(None, self.resize(image))], len(self._steps.devices))
        return resize_probability(probability, image.shape[:2])

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resizes an image uint8 [H, W, 3] to the network's input, uint8 [S, S, 3]."""
        return resize_image(image, (self.image_size, self.image_size))

    def stream(
        self, items: Iterable[tuple[T, np.ndarray]], batch_size: int | None = None
    ) -> Iterator[tuple[T, np.ndarray]]:
        """Segments images batch by batch; the device works on one batch while the host prepares the next.

        Args:
          items: pairs of anything and an image uint8 [S, S, 3], as from `resize`.
          batch_size: images at once, a multiple of the number of devices; default: `self.batch_size`.

        Yields:
          In the same order, pairs of the same thing and the probability of lesion, float32 [S, S].
        """
        running: tuple[list[T], jax.Array] | None = None
        for tags, images in self._batches(items, batch_size or self.batch_size):
            started = tags, self._steps.predict(self._variables, self._steps.shard(images))
            if running:
                yield from self._fetch(*running)
            running = started
        if running:
            yield from self._fetch(*running)

    def _batches(self, items: Iterable[tuple[T, np.ndarray]], batch_size: int) -> Iterator[tuple[list[T], np.ndarray]]:
        """Groups images into batches of one size, so that the network is compiled once; the last has blank images."""
        tags: list[T] = []
        shape = (batch_size, self.image_size, self.image_size, 3)
        images = np.zeros(shape, np.uint8)
        for tag, image in items:
            images[len(tags)] = image
            tags.append(tag)
            if len(tags) == batch_size:
                yield tags, images
                tags, images = [], np.zeros(shape, np.uint8)
        if tags:
            yield tags, images

    def _fetch(self, tags: list[T], probabilities: jax.Array) -> Iterator[tuple[T, np.ndarray]]:
        host = jax.device_get(probabilities).reshape(-1, self.image_size, self.image_size)
        yield from zip(tags, host, strict=False)  # blank images at the end have no tag


def resize_probability(probability: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a probability map bilinearly.

    Args:
      probability: float32 [S, S].
      size: (height, width) wanted, pixels.

    Returns:
      float32 [height, width].
    """
    return np.asarray(Image.fromarray(probability).resize(size[::-1], Image.Resampling.BILINEAR))
