"""Scores from masks: pure functions, no disk. Boundary distances and calibration are modules of their own."""

from jaxseg.metrics.overlap import COUNTS, LEAST_JACCARD, SCORES, confusion, scores, thresholded_jaccard

__all__ = ["COUNTS", "LEAST_JACCARD", "SCORES", "confusion", "scores", "thresholded_jaccard"]
