"""Tests of `jaxseg.report`."""
