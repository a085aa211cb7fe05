"""Shared by the experiments: the origin of results, and Markdown tables."""
