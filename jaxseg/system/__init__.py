"""The machine under a process: devices, processes, signals, locks, files, the progress bar."""
