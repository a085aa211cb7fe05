"""Files that are replaced in one step, so that a reader never sees half of one and a crash loses nothing."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `path`, in its folder, which is made if it is not there.

    What the block has written there takes the name `path` when the block ends well, and is removed when it fails. The
    name is always the same, so that killed runs leave one such file at most.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
