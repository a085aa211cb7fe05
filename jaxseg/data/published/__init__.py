"""Published data sets, built once from their original downloads as TFDS data sets."""
