"""What the study says the remaining error consists of."""

import numpy as np
import pytest

from experiments.paper.sections import remaining
from experiments.paper.sections.remaining import ELSEWHERE, LARGE, LEVEL, MISSED, MISSED_LEVEL, PARTS, SHAPE, SMALL


def scene(*found: tuple[int, int, float]) -> np.ndarray:
    """Returns probabilities float32 [1, 100], a row of pixels: those given by start and end, else 0.02."""
    maps = np.full((1, 100), 0.02, np.float32)
    for start, end, probability in found:
        maps[0, start:end] = probability
    return maps


def test_the_parts_of_what_is_missing():
    """If broken, a timid outline is told as a miss, or a network that misses is told to need another threshold."""
    found = np.stack(
        [
            scene((0, 50, 0.9)),  # right
            scene((0, 40, 0.9), (40, 50, 0.4)),  # right at its own level
            scene((10, 60, 0.9)),  # right in size, a fifth beside: Jaccard 2/3 at any level
            scene((0, 20, 0.9), (20, 30, 0.3)),  # misses: too small, and a little less so at its own level,
            scene((0, 90, 0.9)),  # too large,
            scene((50, 100, 0.9)),  # elsewhere
        ]
    )
    truth = np.zeros((6, 1, 100), np.uint8)
    truth[:, :, :50] = 1
    told = remaining.parts(found, truth)
    dice = [1, 8 / 9, 4 / 5, 4 / 7, 5 / 7, 0]
    assert told["dice"] == pytest.approx(np.mean(dice))
    assert told[LEVEL] == pytest.approx((1 - 8 / 9) / 6)
    assert told[SHAPE] == pytest.approx((1 - 4 / 5) / 6)
    # At the lowest threshold all is lesion: a Dice of 2/3, which is the best that the last miss has.
    assert told[MISSED_LEVEL] == pytest.approx((3 / 4 - 4 / 7 + 2 / 3) / 6)
    assert told[MISSED] == pytest.approx((1 - 3 / 4 + 1 - 5 / 7 + 1 - 2 / 3) / 6)
    assert told["dice"] + sum(told[part] for part in PARTS) == pytest.approx(1)
    assert [told[kind] for kind in (SMALL, LARGE, ELSEWHERE)] == pytest.approx([1 / 6] * 3)
    assert told["area"] == pytest.approx(1.0)  # of 1, 0.8 and 1
