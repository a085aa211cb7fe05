"""ONNX graphs of networks, kept beside compiled programs: the next start neither imports JAX nor traces a network.

A file is named by a hash of all that decides its graph, and begins with the hash of the rest, without which it is not
used. `JAX_COMPILATION_CACHE_DIR` and `JAX_ENABLE_COMPILATION_CACHE` say where and whether, as they do for programs.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
from pathlib import Path

import jaxseg
from jaxseg.config import Config
from jaxseg.data.identity import write_cache
from jaxseg.runs.fingerprint import Fingerprint
from jaxseg.system.machine import programs_folder

MAX_BYTES = 2**29
"""Maximum size of all kept graphs; the least recently used ones are dropped first."""

_PACKAGES = ("jax", "flax", "onnx")

_SOURCES = (
    "models/*.py",
    "steps.py",
    "inference/export.py",
    "inference/onnx_graph.py",
    "inference/onnx_translation.py",
)
"""Files of jaxseg that decide which graph is made of a network."""

_HEAD_BYTES = hashlib.sha256().digest_size


def key_of(fingerprint: Fingerprint, config: Config) -> str:
    """Returns a hash of all that decides the graph of a run's network.

    Args:
      fingerprint: that of the run's weights.
      config: the run's settings.
    """
    package = Path(jaxseg.__file__).parent
    sources = sorted(path for pattern in _SOURCES for path in package.glob(pattern))
    parts = {
        "weights": fingerprint.sha256,
        "model": dataclasses.asdict(config.model) | {"pretrained": "", "init_from": ""},
        "image_size": config.data.image_size,
        "versions": [jaxseg.__version__, *map(_version, _PACKAGES)],
        "sources": [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # onnx is needed to make graphs, not to run them
        return ""


def find(key: str) -> bytes | None:
    """Returns the graph that was kept under a key; None where there is none, or its file is damaged."""
    path = _path(key)
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    graph = content[_HEAD_BYTES:]
    if hashlib.sha256(graph).digest() != content[:_HEAD_BYTES]:
        return None
    with contextlib.suppress(OSError):
        path.touch()  # the time of its last use
    return graph


def keep(key: str, graph: bytes) -> None:
    """Keeps a graph, if that is possible: without it the next start takes longer, and nothing else.

    Args:
      key: from `key_of`.
      graph: the content of an ONNX file.
    """
    path = _path(key)
    if path is None or len(graph) > MAX_BYTES:
        return
    write_cache(path, hashlib.sha256(graph).digest() + graph)
    with contextlib.suppress(OSError):  # another process may have removed a file
        _drop_old(path.parent)


def _path(key: str) -> Path | None:
    folder = programs_folder()
    return folder / "onnx" / key if folder else None


def _drop_old(folder: Path) -> None:
    total = 0
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
        total += path.stat().st_size
        if total > MAX_BYTES:
            path.unlink()
