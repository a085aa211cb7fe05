"""Tests of `jaxseg.system`."""
