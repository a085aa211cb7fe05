"""What the benchmarks run in processes of their own."""
