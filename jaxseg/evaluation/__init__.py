"""Scores with their worth: records of images, bootstrap, significance, comparison."""
