"""Tests of `jaxseg.training`."""
