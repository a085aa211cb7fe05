"""Errors of other threads and of objects that are collected, which Python would print by itself."""

import sys
from pathlib import Path


def hush_checkpoint_reads() -> None:
    """Keeps Python from printing the errors of the other reads of a checkpoint of which one has failed.

    Orbax reads all arrays at once, and leaves the event loop at the first error. The coroutines of the others are
    collected with errors that nobody asks for, and tensorstore's threads report to a loop that is closed: pages of
    tracebacks, before or after our line, or none, as the threads happen to run.
    """
    if getattr(sys.unraisablehook, "hushes_reads", False):
        return
    print_it = sys.unraisablehook

    def hook(about: "sys.UnraisableHookArgs") -> None:
        code = getattr(about.object, "cr_code", None)
        of_orbax = code is not None and "orbax" in Path(code.co_filename).parts
        of_tensorstore = isinstance(about.exc_value, RuntimeError) and str(about.exc_value) == "Event loop is closed"
        if not (of_orbax or of_tensorstore):
            print_it(about)

    hook.hushes_reads = True
    sys.unraisablehook = hook
