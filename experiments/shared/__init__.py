"""Shared by the experiments: the origin of results, Markdown tables, and lines on the console."""
