"""Bootstrap intervals of means over images, by resampling the images of a set."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from jaxseg.metrics import COUNTS, SCORES, scores

REPLICATES = 10_000
LEVEL = 0.95
SEED = 0

METHOD = "percentiles of the statistic over images drawn with replacement"

_CHUNK = 2**20
"""Number of weights in memory at once: 8 MiB."""


def describe_intervals() -> dict[str, float | str]:
    """Returns how intervals are computed, for `metrics.json`."""
    return {"replicates": REPLICATES, "level": LEVEL, "seed": SEED, "method": METHOD}


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], images: int) -> np.ndarray:
    """Returns a bootstrap interval of statistics that are computed from weighted sums over images.

    Args:
      statistic: float64 weights [R, images], how often each image was drawn in each of R replicates -> [R, K].
      images: number of images. Statistics of equally many images see the same draws.

    Returns:
      float64 [2, K]: the lower and the upper end. For a single image both are its value.
    """
    replicates = np.concatenate([statistic(weights) for weights in _draws(images)])
    return np.percentile(replicates, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)


def _draws(images: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(SEED)
    rows = max(_CHUNK // images, 1)
    for start in range(0, REPLICATES, rows):
        size = min(rows, REPLICATES - start)
        yield rng.multinomial(images, np.full(images, 1 / images), size).astype(np.float64)


def averages(weights: np.ndarray, table: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns means over images, and the five scores of summed counts.

    Args:
      weights: float64 [R, N], how often each of N images counts; each row adds up to N.
      table: float64 [N, K], values of each image.
      counts: [N, 4] in the order of `COUNTS`.

    Returns:
      float64 [R, K + 5]: the K means, and the scores in the order of `SCORES`.
    """
    # Float matrices multiply faster than integer ones, and hold whole numbers up to 2**53 exactly.
    sums = (weights @ counts.astype(np.float64)).T
    pooled = scores(dict(zip(COUNTS, sums, strict=True)))
    return np.column_stack([weights @ table / len(table), *(pooled[name] for name in SCORES)])


def summarise(values: Mapping[str, np.ndarray], counts: np.ndarray) -> dict[str, dict[str, float | list[float]]]:
    """Summarises scores over images, and the five scores of the summed counts, with intervals.

    Args:
      values: scores by name, float64 [N] each, N > 0.
      counts: int [N, 4] in the order of `COUNTS`.

    Returns:
      "per_image" (mean), "per_image_sd" (sample standard deviation, 0 for one image), "per_image_median",
      "per_image_interval" ([low, high] of the mean), "pooled" and "pooled_interval".
    """
    names, table = list(values), np.stack(list(values.values()), axis=-1)
    images, means = len(table), len(names)
    spread = table.std(axis=0, ddof=1) if images > 1 else np.zeros(means)
    (whole,) = averages(np.ones((1, images)), table, counts)
    interval = bootstrap(lambda weights: averages(weights, table, counts), images).T
    return {
        "per_image": dict(zip(names, whole[:means].tolist(), strict=True)),
        "per_image_sd": dict(zip(names, spread.tolist(), strict=True)),
        "per_image_median": dict(zip(names, np.median(table, axis=0).tolist(), strict=True)),
        "per_image_interval": dict(zip(names, interval[:means].tolist(), strict=True)),
        "pooled": dict(zip(SCORES, whole[means:].tolist(), strict=True)),
        "pooled_interval": dict(zip(SCORES, interval[means:].tolist(), strict=True)),
    }
