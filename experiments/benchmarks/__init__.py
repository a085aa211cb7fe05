"""Speed and memory, measured in separate processes."""
