"""Tests of `jaxseg.data`."""
