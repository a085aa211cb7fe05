"""Tests of `jaxseg.evaluation`."""
