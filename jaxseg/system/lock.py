"""One run at a time in a folder: a lock that the system lets go of when its process ends, however that ends.

It is `flock` on a file in the folder, in which its owner says who it is. Linux passes flock on to an NFS server, so it
holds between machines too; where a mount keeps locks to itself (`local_lock`, `nolock`), it holds on one machine alone,
and what the file says is the only sign of the other. Windows has no flock; array_record, without which jaxseg does not
install, has no Windows either.
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
"""The file's name in the folder; it is there only while a process holds it, or after one that was killed."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""How file systems without locks answer."""


@contextlib.contextmanager
def held(folder: Path, flag: str = "--workdir") -> Iterator[None]:
    """Holds the lock of a folder, which is made if it is not there, and removed again if nothing was put into it.

    Args:
      folder: a folder to write into, which others may go on reading.
      flag: the argument that named it, for messages.

    Raises:
      UserError: another process holds it, or the folder cannot be written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / NAME
    file = _locked(path, flag)
    try:
        _tell_of_the_last_owner(os.pread(file, 1000, 0), folder)
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(owner).encode(), 0)
        yield
    finally:
        # Removed before it is let go of, so that nobody takes a file that is about to vanish for the lock.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(file)
        with contextlib.suppress(OSError):
            for empty in made:
                empty.rmdir()


def _locked(path: Path, flag: str) -> int:
    """Returns the open and locked file."""
    while True:
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
            # Between opening and locking, its last owner may have removed it: then it is no lock any more.
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


def _tell_of_the_last_owner(content: bytes, folder: Path) -> None:
    """Logs who left the lock behind: whoever ends in good order removes it."""
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
