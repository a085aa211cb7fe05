"""Tests of `jaxseg.models`."""
