"""Tests, in the rooms of the packages that they test."""
