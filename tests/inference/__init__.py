"""Tests of `jaxseg.inference`."""
