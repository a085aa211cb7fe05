"""Data sets, splits and the input pipeline."""
