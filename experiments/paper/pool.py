"""The images of all runs of a row, stored once each on the devices."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxseg.config import Config
from jaxseg.data import Examples
from jaxseg.data.pipeline import ResizedExamples
from jaxseg.system.devices import OnDevices, divisible

MULTIPLE = 256
"""Pools hold a multiple of this number of images."""

_RESIZED: dict[tuple[str, str, str, int], tuple[np.ndarray, np.ndarray]] = {}
"""Decoded images by data set, its version, name and size: rows and folds share images."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """Images at the network's size, on the devices.

    Attributes:
      arrays: "image" uint8 [N, S, S, 3] and "mask" uint8 {0, 1} [N, S, S, 1].
      place: index of an image, by data set and name.
    """

    arrays: Mapping[str, jax.Array]
    place: Mapping[tuple[str, str], int]

    def indices(self, examples: Examples) -> np.ndarray:
        """Returns the indices of a split's images, int64 [n]."""
        return np.array([self.place[examples.dataset, name] for name in examples.names])


def resized(examples: Examples, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a split's images at the network's size, each once in a process.

    Args:
      examples: the split.
      config: settings of the run, which give the size.

    Returns:
      Images uint8 [N, S, S, 3] and masks uint8 {0, 1} [N, S, S, 1].
    """
    source = ResizedExamples(examples, dataclasses.replace(config.data, cache_mib=0))
    keys = [(examples.dataset, examples.version, name, config.data.image_size) for name in examples.names]
    for i, key in enumerate(keys):
        if key not in _RESIZED:
            _RESIZED[key] = source.load(i)
    images, masks = zip(*(_RESIZED[key] for key in keys), strict=True)
    return np.stack(images), np.stack(masks)


def load_pool(config: Config, splits: Sequence[Examples], devices: OnDevices) -> Pool:
    """Places all images of some splits on the devices, each once.

    Args:
      config: settings of the runs.
      splits: training and validation splits of all runs.
      devices: where to place the images.
    """
    place: dict[tuple[str, str], int] = {}
    images, masks = [], []
    for split in splits:
        for name, image, mask in zip(split.names, *resized(split, config), strict=True):
            if (split.dataset, name) not in place:
                place[split.dataset, name] = len(images)
                images.append(image)
                masks.append(mask)
    # Blanks that no index points to: rows with similar numbers of images share one compiled program.
    blanks = divisible(len(images), MULTIPLE) - len(images)
    arrays = {
        name: np.concatenate([np.stack(parts), np.zeros((blanks, *parts[0].shape), np.uint8)])
        for name, parts in (("image", images), ("mask", masks))
    }
    return Pool(devices.replicate(arrays), place)
