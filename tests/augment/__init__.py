"""Tests of `jaxseg.augment`."""
