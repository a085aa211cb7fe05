"""What a mean over images is worth: bootstrap intervals, by resampling the images of a set."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from jaxseg.metrics import COUNTS, SCORES, scores

REPLICATES = 10_000
LEVEL = 0.95
SEED = 0

METHOD = "percentiles of the statistic over images drawn with replacement"

_CHUNK = 2**20
"""Weights that are held at once: 8 MiB."""


def record() -> dict[str, float | str]:
    """Returns how intervals are made, for `metrics.json`."""
    return {"replicates": REPLICATES, "level": LEVEL, "seed": SEED, "method": METHOD}


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], images: int) -> np.ndarray:
    """Returns a bootstrap interval of statistics that are computed from weighted sums over images.

    Args:
      statistic: float64 weights [R, images], how often each image was drawn in each of R replicates -> [R, K].
      images: how many there are. All statistics of as many images see the same draws.

    Returns:
      float64 [2, K]: the lower and the upper end. Of a single image both are its value: there is nothing to resample.
    """
    replicates = np.concatenate([statistic(weights) for weights in _draws(images)])
    return np.percentile(replicates, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)


def _draws(images: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(SEED)
    rows = max(_CHUNK // images, 1)
    for start in range(0, REPLICATES, rows):
        size = min(rows, REPLICATES - start)
        yield rng.multinomial(images, np.full(images, 1 / images), size).astype(np.float64)


def pooled_scores(counts: np.ndarray) -> np.ndarray:
    """Returns the five scores of summed counts.

    Args:
      counts: [..., 4] in the order of `COUNTS`.

    Returns:
      float64 [..., 5] in the order of `SCORES`.
    """
    values = scores(dict(zip(COUNTS, np.moveaxis(counts, -1, 0), strict=True)))
    return np.stack([values[name] for name in SCORES], axis=-1)


def summarise(values: Mapping[str, np.ndarray], counts: np.ndarray) -> dict[str, dict[str, float | list[float]]]:
    """Summarises images: each value over images, and the five scores of the summed counts, with intervals.

    Args:
      values: float64 [N] each, N > 0, by name.
      counts: int [N, 4] in the order of `COUNTS`.

    Returns:
      "per_image" (mean), "per_image_sd" (sample standard deviation, 0 for one image), "per_image_median",
      "per_image_interval" ([low, high] of the mean), "pooled" and "pooled_interval".
    """
    names, table = list(values), np.stack(list(values.values()), axis=-1)
    images = len(table)
    spread = table.std(axis=0, ddof=1) if images > 1 else np.zeros(len(names))
    counts = counts.astype(np.float64)  # exact up to 2**53 pixels, and multiplied fast
    mean_interval = bootstrap(lambda weights: weights @ table / images, images)
    pooled_interval = bootstrap(lambda weights: pooled_scores(weights @ counts), images)
    return {
        "per_image": dict(zip(names, table.mean(axis=0).tolist(), strict=True)),
        "per_image_sd": dict(zip(names, spread.tolist(), strict=True)),
        "per_image_median": dict(zip(names, np.median(table, axis=0).tolist(), strict=True)),
        "per_image_interval": dict(zip(names, mean_interval.T.tolist(), strict=True)),
        "pooled": dict(zip(SCORES, pooled_scores(counts.sum(axis=0)).tolist(), strict=True)),
        "pooled_interval": dict(zip(SCORES, pooled_interval.T.tolist(), strict=True)),
    }
