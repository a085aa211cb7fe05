"""Programs in processes of their own."""

import os
import subprocess
import sys


def run(program: str, **environment: str) -> str:
    """Runs a program in a process of its own, without the compilation cache of the tests; returns what it prints."""
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=inherited | environment, check=True, capture_output=True, text=True
    )
    return done.stdout
