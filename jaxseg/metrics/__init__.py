"""Scores from masks: pure functions, no disk.

Boundary distances and calibration, which need SciPy or probabilities, are in `boundary` and `calibration`.
"""

from jaxseg.metrics.overlap import COUNTS, LEAST_JACCARD, SCORES, confusion, scores, thresholded_jaccard

__all__ = ["COUNTS", "LEAST_JACCARD", "SCORES", "confusion", "scores", "thresholded_jaccard"]
