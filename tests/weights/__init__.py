"""Tests of `jaxseg.weights`."""
