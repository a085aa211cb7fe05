"""Weights, images and losses that Keras and jaxseg each compute for themselves, with NumPy alone.

Every array is drawn from a generator seeded by the array's name, so the two sides share no order of layers.
Only `Generator.random` is used: its stream has been the same through all versions of numpy.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

IMAGE_SHAPE = (2, 97, 131, 3)
"""Odd, rectangular and small: every padding and every rounding of a size shows."""

SAMPLES = 256
"""Values kept of each feature map."""


def draw(key: str, shape: Iterable[int], low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """Returns float32 values, uniform in [low, high), that depend on the key and the shape alone.

    Args:
      key: name of the array, which seeds the generator.
      shape: shape of the array.
      low: lower bound of the values.
      high: upper bound of the values, excluded.
    """
    values = np.random.default_rng(zlib.crc32(key.encode())).random(tuple(shape))
    return (low + (high - low) * values).astype(np.float32)


def weight(layer: str, variable: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns one tensor of an encoder, named as in Keras; batch statistics are as far from 0 and 1 as real ones.

    Args:
      layer: Keras' name of the layer.
      variable: Keras' name of the variable.
      shape: shape of the tensor.
    """
    low, high = {
        "bias": (-0.1, 0.1),
        "gamma": (0.5, 1.5),
        "beta": (-0.2, 0.2),
        "moving_mean": (-0.2, 0.2),
        "moving_variance": (0.5, 2.0),
        "kernel": (-1.0, 1.0),
    }[variable]
    # He's range keeps the size of the values from layer to layer.
    scale = np.sqrt(6.0 / np.prod(shape[:-1])) if variable == "kernel" else 1.0
    return draw(f"{layer}/{variable}", shape, low * scale, high * scale)


def images(encoder: str, shape: tuple[int, ...] = IMAGE_SHAPE) -> np.ndarray:
    """Returns preprocessed images float32 [B, H, W, 3] in the range that the encoder takes.

    Args:
      encoder: name of the network.
      shape: shape [B, H, W, 3].
    """
    return draw(f"images of {encoder}", shape, *((-1.0, 1.0) if encoder == "resnet50v2" else (-124.0, 152.0)))


def sample(values: np.ndarray, count: int) -> np.ndarray:
    """Returns `count` values spread evenly over an array, first and last included.

    Args:
      values: array of any shape.
      count: number of values to take.
    """
    flat = np.asarray(values, np.float32).ravel()
    return flat[np.linspace(0, flat.size - 1, count).astype(int)]


def loss(features: Mapping[str, Any]) -> Any:
    """Returns a scalar to which every feature map contributes, whichever the array library."""
    return sum((draw(name, map_.shape) * map_).mean() for name, map_ in sorted(features.items()))


def equation_2(logits: np.ndarray, targets: np.ndarray, alpha: float, gamma: float) -> np.ndarray:
    """Returns the paper's equation 2 in float64, with 1 - exp(-BCE) by expm1: it cancels near zero.

    Args:
      logits: logits of lesion.
      targets: {0, 1}, of the same shape.
      alpha: factor of all pixels.
      gamma: exponent of the focus.
    """
    bce = np.logaddexp(0, np.where(targets, -1, 1) * logits.astype(np.float64))
    return alpha * (-np.expm1(-bce)) ** gamma * bce
