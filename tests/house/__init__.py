"""Tests of the house itself: which room may import which, and what files may hold."""
