"""Tests of the model inside the package."""
