"""What a run leaves on disk: its files by name, its checkpoints, its progress."""
