"""Programs that the benchmarks run in separate processes."""
