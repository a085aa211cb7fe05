"""Downloads: over HTTPS alone, whole or not at all, and from where the last try ended.

What has come lies beside its place as `.NAME.part`, and takes its name when its hash is right.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jaxseg.errors import RunError, UserError

log = logging.getLogger(__name__)

TRIES = 3
"""Most connections in a row that may break without anything new."""

MAX_BYTES = 2**31
"""Largest file that is fetched, whatever the server sends: twenty times the largest one wanted."""

_SECONDS = 10
"""Longest wait to connect, and between two pieces; not for the whole, which may take minutes."""


def md5_of(path: str | os.PathLike) -> str:
    """Returns a file's MD5, which is how Keras tells its weight files; it proves identity, not safety."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def download(url: str, path: Path, md5: str, remedy: str) -> None:
    """Downloads a file to `path`, unless another process does so meanwhile, for which this one waits.

    Args:
      url: an address with https, which is not left for one without.
      path: where the file shall be; its folder is made.
      md5: what the file's MD5 must be.
      remedy: what to do where there is no network, for messages.

    Raises:
      UserError: the file cannot be had, or is another; what has come of it is kept for the next try.
      RunError: it cannot be written.
    """
    import requests

    part = path.with_name(f".{path.name}.part")
    try:
        with _alone(part) as file:
            if path.is_file() and md5_of(path) == md5:
                part.unlink()
                return
            resumed = file.seek(0, os.SEEK_END) > 0
            if not resumed or md5_of(part) != md5:
                _fetch(url, file)
            if md5_of(part) != md5 and resumed:
                log.warning("%s: what an earlier try left does not fit; downloading it from the beginning", path.name)
                file.truncate(0)
                _fetch(url, file)
            if (got := md5_of(part)) != md5:
                part.unlink()
                raise UserError(f"{url}: MD5 is {got} and should be {md5}; {remedy}")
            part.replace(path)
    except requests.RequestException as error:
        come = part.stat().st_size if part.exists() else 0
        if not come:
            part.unlink(missing_ok=True)
        kept = f", {come:,} bytes of it are kept and the next try goes on from there" if come else ""
        raise UserError(f"cannot download {path.name} ({_reason(error)}){kept}; {remedy}") from error
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """Opens a file to read and append to, which no other process has open so: waits for one that has."""
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with part.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("another process downloads %s: waiting for it", part.name)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                log.debug("no locks here (%s): the hash tells if two processes write at once", error)
            # The other may have given the file its name, or removed it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), part.stat()):
                    yield file
                    return


def _fetch(url: str, file: IO[bytes]) -> None:
    """Appends what is missing of a file, with new connections as long as each brings something.

    Raises:
      requests.RequestException: the server refuses, sends too much, or too many connections broke.
    """
    import requests
    import tqdm

    tries = 0
    with requests.Session() as session, tqdm.tqdm(unit="B", unit_scale=True, disable=None) as bar:
        del session.adapters["http://"]  # a redirect to there is refused before anything is asked
        while True:
            before = file.seek(0, os.SEEK_END)
            try:
                _append(session, url, file, bar)
                return
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                file.flush()
                tries = tries + 1 if file.tell() == before else 0
                if tries == TRIES:
                    raise


def _append(session, url: str, file: IO[bytes], bar) -> None:
    """Asks once for the rest of a file, or for all of it where the server gives no parts, and appends what comes."""
    import requests

    start = file.tell()
    # Unpacked on the way, the bytes would not be the file's.
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    with session.get(url, stream=True, timeout=_SECONDS, headers=headers) as response:
        if response.status_code == 416:  # there is no more than we have, or another file
            return
        response.raise_for_status()
        if response.status_code != 206 or not response.headers.get("content-range", "").startswith(f"bytes {start}-"):
            start = 0
            file.truncate(0)
        bar.total, bar.n = start + int(response.headers.get("content-length", 0)), start
        for piece in response.iter_content(1 << 16):
            file.write(piece)
            bar.update(len(piece))
            if file.tell() > MAX_BYTES:
                raise requests.exceptions.ContentDecodingError(f"more than {MAX_BYTES:,} bytes came")
        file.flush()


def _reason(error: Exception) -> str:
    """Returns what a user can make of an error, whose own text is a chain of three libraries' words."""
    import requests

    if isinstance(error, requests.exceptions.InvalidSchema):
        return "redirected to an address without https"
    if isinstance(error, requests.HTTPError):
        return f"the server says {error.response.status_code} {error.response.reason}"
    return type(error).__name__
