"""One run at a time in a folder: a lock that the system releases when its process ends, however it ends.

The lock is `flock` on a file in the folder, into which the owner writes its name. Linux passes flock on to NFS servers,
so the lock holds between machines; on a mount with local locks (`local_lock`, `nolock`) it holds on one machine only,
and the content of the file is the only trace of an owner elsewhere. Windows has no flock, nor does it have
array_record, which jaxseg needs.

`filelock`, a dependency, does not do: its native lock leaves its file behind in the folder, which users look into, and
does not name its owner, neither of a lock that is held nor of one that was left by a killed process.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from jaxseg.errors import UserError, out_of_space

log = logging.getLogger("jaxseg.train")

NAME = ".jaxseg-lock"
"""Name of the file in the folder; it exists only while a process holds the lock, or after its owner was killed."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Error numbers of file systems without locks."""


@contextlib.contextmanager
def held(folder: Path, flag: str = "--workdir") -> Iterator[None]:
    """Holds the lock of a folder. The folder is created if it does not exist, and removed again if it is left empty.

    Args:
      folder: a folder to write into; others may read it meanwhile.
      flag: the command-line flag that named the folder, for messages.

    Raises:
      UserError: another process holds it, or the folder cannot be written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / NAME
    file = _locked(path, flag)
    try:
        _log_last_owner(os.pread(file, 1000, 0), folder)
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(owner).encode(), 0)
        yield
    finally:
        # Removed while still locked, so that no process locks a file that is about to vanish.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(file)
        with contextlib.suppress(OSError):
            for empty in made:
                empty.rmdir()


def _locked(path: Path, flag: str) -> int:
    """Opens and locks a file, and returns its descriptor.

    Args:
      path: the file.
      flag: the command-line flag that named its folder, for messages.

    Raises:
      UserError: another process holds the lock, or the folder cannot be written to.
    """
    while True:
        if path.parent.is_symlink() and not path.parent.exists():
            raise UserError(f"{path.parent}: is a link to a folder that is not there; mend it, or give another {flag}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if out_of_space(error):
                raise
            raise UserError(
                f"{path.parent}: cannot be written to ({error.strerror}); make it writable, or give another {flag}"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, the last owner may have removed the file: then it locks nothing.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), path.stat()):
                    return file
        except BlockingIOError:
            owner = _owner(os.pread(file, 1000, 0)) or "another process"
            os.close(file)
            raise UserError(
                f"{path.parent} is in use: {owner} works in it; wait for its end, or give another {flag}"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(file)
                raise
            log.warning(
                "%s: this file system has no locks (%s); see to it that no other process writes there",
                path.parent,
                error.strerror,
            )
            return file
        os.close(file)


def _log_last_owner(content: bytes, folder: Path) -> None:
    """Logs who left the lock behind: an owner that ends in good order removes it."""
    if owner := _owner(content):
        here = f" on {socket.gethostname()} " in f"{owner} "
        log.warning(
            "%s: %s left its lock behind, so it was killed%s",
            folder,
            owner,
            "" if here else ", or it still runs and that machine's locks are not seen here: then end one of the two",
        )


def _owner(content: bytes) -> str:
    """Returns "process PID on HOST, since TIME", or an empty string if the content does not say."""
    try:
        owner = json.loads(content)
        return " ".join(f"process {owner['pid']} on {owner['host']} since {owner['since']}".split())
    except (ValueError, KeyError, TypeError):
        return ""


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
