"""Tests of drawn images."""
