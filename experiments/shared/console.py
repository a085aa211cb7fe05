"""What experiments tell while they run."""

import sys
import time


def say(text: str) -> None:
    """Prints a line with the time on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
