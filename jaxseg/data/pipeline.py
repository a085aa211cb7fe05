"""The input pipeline: which images come when, decoded, resized and batched by grain's threads.

A batch is a function of seed and step alone: a resumed run asks for batch number `step` and continues exactly.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from jaxseg.config import DataConfig
from jaxseg.data.examples import Example, Examples
from jaxseg.data.images import resize_image, resize_mask
from jaxseg.errors import UserError

Item, Loaded = TypeVar("Item"), TypeVar("Loaded")

_log = logging.getLogger("jaxseg.data")

PADDING = -1
"""Stands for no image in the index array of a batch."""


class ResizedExamples:
    """Examples at the network's size, kept in memory as far as a limit allows.

    Those that are not kept are read again in every epoch; where a file has changed by then, a warning says so.

    Args:
      examples: the images and masks at their own sizes.
      config: image size (pixels) and cache limit (MiB).
    """

    def __init__(self, examples: Examples, config: DataConfig):
        self.examples = examples
        self._size = (config.image_size, config.image_size)
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._stamps: dict[int, str] = {}
        self._told = False
        self._room = config.cache_mib * 2**20
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.examples)

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns image uint8 [S, S, 3] in RGB and mask uint8 {0, 1} [S, S, 1].

        Args:
          index: the example's index.

        Raises:
          UserError: a file cannot be read.
        """
        if index in self._cache:
            return self._cache[index]
        return self._resized(index, self.examples.load(index))

    def keep(self, index: int, example: Example) -> None:
        """Keeps an example that was loaded for another purpose, if there is room in memory.

        Args:
          index: the example's index.
          example: the example, in its own size.
        """
        if self._room >= 4 * self._size[0] * self._size[1]:
            self._resized(index, example)

    def _resized(self, index: int, example: Example) -> tuple[np.ndarray, np.ndarray]:
        resized = resize_image(example.image, self._size), resize_mask(example.mask, self._size)
        stamp = self.examples.stamp(index) if self.examples.stamp else ""
        with self._lock:
            if self._stamps.setdefault(index, stamp) != stamp and not self._told:
                self._told = True  # of the first: a copy over the whole folder changes thousands
                _log.warning(
                    "%s: files of %s, and maybe of others, were written or replaced while they are in use: what is in "
                    "them now is taken from here on; for clear results begin anew, in another folder",
                    self.examples.dataset,
                    self.examples.names[index],
                )
            bytes_needed = sum(array.nbytes for array in resized)
            if bytes_needed <= self._room and index not in self._cache:
                self._room -= bytes_needed
                self._cache[index] = resized
        return resized

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Loads a batch; where an index is `PADDING`, image and mask are zero and `valid` is false.

        Args:
          indices: int [B].

        Returns:
          "image" uint8 [B, S, S, 3], "mask" uint8 {0, 1} [B, S, S, 1], "valid" bool [B].
        """
        image = np.zeros((len(indices), *self._size, 3), np.uint8)
        mask = np.zeros((len(indices), *self._size, 1), np.uint8)
        for row, index in enumerate(indices):
            if index != PADDING:
                image[row], mask[row] = self.load(int(index))
        return {"image": image, "mask": mask, "valid": indices != PADDING}


def drawn_places(batch_size: int, drawn: int) -> np.ndarray:
    """Returns which places of a batch hold drawn images: evenly spread, so that shares of devices are alike.

    Args:
      batch_size: images of the batch, or of a device's share of it.
      drawn: how many of them are drawn.

    Returns:
      bool [batch_size].
    """
    ends = np.arange(batch_size + 1) * drawn // max(batch_size, 1)
    return ends[1:] > ends[:-1]


def steps_per_epoch(images: int, batch_size: int, *, drawn: int = 0, few: bool = False) -> int:
    """Returns the full batches in an epoch; the remaining images are left out, others in every epoch.

    Args:
      images: number of training images.
      batch_size: images per step.
      drawn: how many images of each batch are drawn on the device, and not taken from the training images; if all,
        an epoch has as many steps as if none were.
      few: true if fewer images than one batch takes are repeated to fill it.

    Raises:
      UserError: there are fewer images than one batch takes.
    """
    if drawn < batch_size:
        batch_size -= drawn
    if images < batch_size and few:
        return 1
    if images < batch_size:
        raise UserError(
            f"train.batch_size = {batch_size}: more than the {images} training images; use {images} or fewer"
        )
    return images // batch_size


def train_indices(images: int, batch_size: int, seed: int, *, drawn: int = 0) -> Sequence[np.ndarray]:
    """Returns the endless sequence of training batches, in another order in every epoch.

    Args:
      images: number of training images; fewer than a batch takes are repeated in it.
      batch_size: images per step.
      seed: of the order.
      drawn: how many images of each batch are drawn on the device.

    Returns:
      int [batch_size] indices for each step, `PADDING` where the image is drawn.
    """
    import grain  # here and below, not at the top: a command that refuses its arguments need not wait for it

    real = batch_size - drawn
    if not real:
        return grain.MapDataset.range(1).map(lambda _: np.full(batch_size, PADDING)).repeat()
    order = grain.MapDataset.range(images).seed(seed).shuffle()
    if images < real:
        order = order.repeat(-(-real // images))
    batches = order.batch(real, drop_remainder=True).repeat()
    if not drawn:
        return batches
    places = ~drawn_places(batch_size, drawn)

    def spread(indices: np.ndarray) -> np.ndarray:
        spread_out = np.full(batch_size, PADDING)
        spread_out[places] = indices
        return spread_out

    return batches.map(spread)


def train_batches(
    examples: ResizedExamples,
    config: DataConfig,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    drawn: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the training batches of steps `first_step` to `last_step - 1`, decoded ahead by threads.

    Args:
      examples: the training images.
      config: number of threads.
      batch_size: images per step over all processes.
      seed: of the order.
      first_step: where to begin; batch `step` is the same wherever a run begins.
      last_step: where to end.
      drawn: how many images of each batch are drawn on the device; theirs are zero here.
      shard: this process's number and the number of processes; each takes its contiguous share of every batch.

    Returns:
      An iterator of batches like those of `ResizedExamples.batch`, [batch_size / processes, ...].
    """
    indices = train_indices(len(examples), batch_size, seed, drawn=drawn)[first_step:last_step]
    return _read(indices, examples, config, shard)


def eval_batches(
    examples: ResizedExamples, config: DataConfig, *, batch_size: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[dict[str, np.ndarray]]:
    """Yields every image once, in order; the last batch is padded, and its `valid` says which images are none.

    Args:
      examples: the images to score.
      config: number of threads.
      batch_size: images per step over all processes.
      shard: this process's number and the number of processes; each takes its contiguous share of every batch.
    """
    padded = -(-len(examples) // batch_size) * batch_size
    indices = np.full(padded, PADDING)
    indices[: len(examples)] = np.arange(len(examples))
    return _read(indices.reshape(-1, batch_size), examples, config, shard)


def _read(
    indices: Sequence[np.ndarray], examples: ResizedExamples, config: DataConfig, shard: tuple[int, int]
) -> Iterator[dict[str, np.ndarray]]:
    process, processes = shard
    return read_ahead(lambda batch: examples.batch(np.split(batch, processes)[process]), indices, config.workers)


def read_ahead(load: Callable[[Item], Loaded], items: Sequence[Item], workers: int) -> Iterator[Loaded]:
    """Yields what is loaded of the items, in order, by threads that work ahead by a bounded number of items.

    Args:
      load: called with each item, in any thread.
      items: what to load.
      workers: number of threads; 0: the caller's own.
    """
    if len(items) < 2 or not workers:
        return map(load, items)  # nothing to work ahead on: the import of grain would take a fifth of `predict`'s time
    import grain

    # No more than the threads work on at a time: on a CPU they take cores from the first step.
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=workers)
    return iter(grain.MapDataset.source(items).map(load).to_iter_dataset(options))
