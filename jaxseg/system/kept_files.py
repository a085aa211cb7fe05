"""Files that spare later processes work, kept beside compiled programs; each is named by a hash of all that decides it.

A file begins with the hash of the rest, without which it is not used. `JAX_COMPILATION_CACHE_DIR` and
`JAX_ENABLE_COMPILATION_CACHE` say where and whether, as they do for programs that JAX keeps. Nothing here imports JAX.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jaxseg
from jaxseg.system.files import write_cache
from jaxseg.system.machine import programs_folder

_HEAD_BYTES = hashlib.sha256().digest_size


class KeptFiles:
    """Files of one kind, in a folder of their own.

    Args:
      kind: name of the folder.
      max_bytes: maximum size of all files; the least recently used ones are dropped first.
    """

    def __init__(self, kind: str, max_bytes: int):
        self._kind, self._max_bytes = kind, max_bytes

    def usable(self) -> bool:
        """Returns whether there is a folder for files, or one can be made."""
        folder = self._folder()
        if folder is None:
            return False
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)

    def find(self, key: str) -> bytes | None:
        """Returns what was kept under a key; None where there is nothing, or its file is damaged."""
        path = self._path(key)
        if path is None:
            return None
        try:
            whole = path.read_bytes()
        except OSError:
            return None
        content = whole[_HEAD_BYTES:]
        if hashlib.sha256(content).digest() != whole[:_HEAD_BYTES]:
            return None
        with contextlib.suppress(OSError):
            path.touch()  # the time of its last use
        return content

    def keep(self, key: str, content: bytes) -> None:
        """Keeps something, if that is possible: without it the next start takes longer, and nothing else.

        Args:
          key: from `key_of`.
          content: what `find` shall return.
        """
        path = self._path(key)
        if path is None or len(content) > self._max_bytes:
            return
        write_cache(path, hashlib.sha256(content).digest() + content)
        with contextlib.suppress(OSError):  # another process may have removed a file
            self._drop_old(path.parent)

    def _path(self, key: str) -> Path | None:
        folder = self._folder()
        return folder / key if folder else None

    def _folder(self) -> Path | None:
        folder = programs_folder()
        return folder / self._kind if folder else None

    def _drop_old(self, folder: Path) -> None:
        total = 0
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
            total += path.stat().st_size
            if total > self._max_bytes:
                path.unlink()


def key_of(parts: Mapping[str, Any], *, packages: Iterable[str], sources: Iterable[str]) -> str:
    """Returns a hash of all that decides what is made.

    Args:
      parts: what it is made of, as JSON values.
      packages: names of the installed packages that take part; their versions count, and that of Python.
      sources: patterns of the files of jaxseg that take part; their content counts, and jaxseg's version with it.
    """
    package = Path(jaxseg.__file__).parent
    files = sorted(path for pattern in sources for path in package.glob(pattern))
    code = hashlib.sha256()
    for path in files:
        code.update(hashlib.sha256(path.read_bytes()).digest())
    versions = [platform.python_version(), jaxseg.__version__ if files else "", *map(_version, packages)]
    whole = json.dumps({"parts": parts, "versions": versions, "sources": code.hexdigest()}, sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # onnx is needed to make graphs, not to run them
        return ""
