"""The two failures that jaxseg explains in one line instead of a traceback."""

from typing import NoReturn


class UserError(ValueError):
    """A mistake in what the user gave: a setting, a path, a file.

    The message is one line that says what was wrong, where, and what to do. Commands print it on stderr and exit with
    code 2.
    """


class RunError(RuntimeError):
    """A run that could not go on through no fault of its input: a diverged loss, a full disk.

    The message is one line as for `UserError`. Commands print it on stderr and exit with code 1.
    """


def refuse_unreadable(error: OSError) -> NoReturn:
    """Raises UserError for a folder that cannot be looked into, whose files would else be missed in silence."""
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); make it readable, or take it out") from error
