"""Tests of `jaxseg.runs`."""
