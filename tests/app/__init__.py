"""Tests of `jaxseg.app`."""
