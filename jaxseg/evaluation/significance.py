"""Whether two runs differ on the same images: paired bootstrap, Wilcoxon's signed-rank test, Holm's correction."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from jaxseg.evaluation.bootstrap import averages, bootstrap
from jaxseg.evaluation.records import NATIVE_SCORES, PerImage
from jaxseg.metrics import COUNTS, SCORES

POOLED = ("dice", "jaccard")
"""The scores of summed counts that are compared."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """How one score differs between two runs.

    Attributes:
      score: the score's name.
      kind: "per_image" for the mean over images, or "pooled".
      first: the first run's score.
      second: the second run's score.
      low: lower end of the interval of the difference.
      high: upper end of that interval.
      p: two-sided p of Wilcoxon's test; None for pooled scores, which have no values per image.
    """

    score: str
    kind: str
    first: float
    second: float
    low: float
    high: float
    p: float | None

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first


def differences(first: PerImage, second: PerImage) -> list[Difference]:
    """Compares two runs on the same images, in the same order.

    Every replicate of the bootstrap draws the same images for both runs, so that images which are hard for both do
    not widen the interval.

    Args:
      first: scores of the first run.
      second: scores of the second run.

    Returns:
      A line per score: the means of `NATIVE_SCORES`, then the pooled scores.
    """
    names = [*((name, "per_image") for name in NATIVE_SCORES), *((name, "pooled") for name in SCORES)]
    a, b = ((_table(run, NATIVE_SCORES), _table(run, COUNTS)) for run in (first, second))
    images = len(first.names)
    low, high = bootstrap(lambda weights: averages(weights, *b) - averages(weights, *a), images)
    ones = np.ones((1, images))
    ends = zip(averages(ones, *a)[0], averages(ones, *b)[0], low, high, strict=True)
    tests = [*(wilcoxon(column) for column in (b[0] - a[0]).T), *[None] * len(SCORES)]
    lines = [Difference(*name, *map(float, end), p) for name, end, p in zip(names, ends, tests, strict=True)]
    return [line for line in lines if line.kind == "per_image" or line.score in POOLED]


def _table(run: PerImage, names: Sequence[str]) -> np.ndarray:
    return np.stack([run.values[name] for name in names], axis=-1)


def wilcoxon(differences: np.ndarray) -> float:
    """Returns the two-sided p of Wilcoxon's signed-rank test; images without a difference are dropped.

    Args:
      differences: float64 [N], second minus first of each image.
    """
    nonzero = differences[differences != 0]
    return float(stats.wilcoxon(nonzero).pvalue) if nonzero.size else 1.0


def correct(compared: Sequence[Sequence[Difference]]) -> list[list[Difference]]:
    """Corrects p for the number of runs that are compared with the same first one, score by score.

    Args:
      compared: the result of `differences` for each run but the first.

    Returns:
      The same lines, with corrected p.
    """
    by_score = []
    for lines in zip(*compared, strict=True):
        tested = lines[0].p is not None
        p_values = holm([line.p for line in lines]) if tested else [None] * len(lines)
        by_score.append([dataclasses.replace(line, p=p) for line, p in zip(lines, p_values, strict=True)])
    return [list(lines) for lines in zip(*by_score, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects for several tests by Holm's step-down method, which bounds the chance of any false finding.

    Args:
      p_values: one per test.

    Returns:
      The corrected values, in the same order, at most 1.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(np.argsort(p_values)):
        largest = max(largest, (len(p_values) - rank) * p_values[i])
        corrected[i] = min(largest, 1.0)
    return corrected
