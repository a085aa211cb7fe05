"""Tests of `jaxseg.config`."""
