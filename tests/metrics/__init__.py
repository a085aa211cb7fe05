"""Tests of `jaxseg.metrics`."""
