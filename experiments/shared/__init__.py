"""What several experiments share: where a result comes from, and tables."""
