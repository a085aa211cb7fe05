"""The paper's experiments, the benchmarks, and parity with Keras."""
