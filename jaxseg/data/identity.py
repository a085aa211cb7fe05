"""Which image is which, by content: hashes of pixels and of files, and the cache that keeps them between commands.

A picture is the same picture wherever it lies and whatever its file and its set are called. Its pixels tell, also
where a prepared set stores them as another kind of file. The file's own bytes tell too, faster, and also where another
version of a JPEG decoder rounds a pixel to the other side.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

import jaxseg
from jaxseg.data.examples import Example, Examples
from jaxseg.errors import refuse_unreadable
from jaxseg.system.files import write_cache
from jaxseg.system.machine import cache_folder, cores
from jaxseg.system.progress_bar import progress

_DIGITS = 32
"""Hexadecimal digits that are kept of a SHA-256: 128 bits, of which no two pictures have the same by chance."""

_READING = 2
"""Raised where images or masks are read otherwise than before, within a release."""

_MANY = 500
"""Number of images that are worth a progress bar, and a question whether to stop."""

_KEEP_DAYS = 180
"""Days after which the cache of a data set that was not opened any more is removed."""


class Identity(NamedTuple):
    """What an image and its mask hold.

    Attributes:
      image: hash of the image's shape and pixels, as they are decoded.
      mask: hash of the mask's, 1 for lesion and 0 for skin.
      file: hash of the image file's bytes; "" where no file holds the image.
    """

    image: str
    mask: str
    file: str = ""

    def images(self) -> set[str]:
        """Returns what tells the image: two images are the same if they share any of these."""
        return {self.image, self.file} - {""}

    def pairs(self) -> set[str]:
        """Returns what tells the image with its mask, likewise."""
        # A mask's file does not tell: it can be read in several ways.
        return {f"{image} {self.mask}" for image in self.images()}


class Interrupted(Exception):
    """The caller asked to stop."""


def identify(
    examples: Examples,
    known: Iterable[Identity] = (),
    *,
    decoded: Callable[[int, Example], object] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Identity]:
    """Hashes the content of all examples, in threads; images in the cache, or known by their files, are not decoded.

    Args:
      examples: the images and masks.
      known: identities that are likely met; an image file of the same bytes holds the same image.
      decoded: called with the index and content of every example that had to be decoded, in any thread.
      stop: asked after every image of a long reading.

    Returns:
      One identity per example, in order.

    Raises:
      UserError: a file that cannot be read or decoded.
      Interrupted: `stop` said so.
    """
    cache = _Cache(examples.dataset)
    by_file = {identity.file: identity.image for identity in known if identity.file}
    # Stamps are taken before files are read: what is written meanwhile changes them again.
    stamps = [examples.stamp(i) if examples.stamp else "" for i in range(len(examples))]
    result = [cache.get(name, stamp) for name, stamp in zip(examples.names, stamps, strict=True)]

    def hashed(index: int) -> Identity:
        file = hash_bytes(examples.read_image(index)) if examples.read_image else ""
        if file in by_file and examples.load_mask:
            return Identity(by_file[file], hash_pixels(examples.load_mask(index)), file)
        example = examples.load(index)
        if decoded is not None:
            decoded(index, example)
        return Identity(hash_pixels(example.image), hash_pixels(example.mask), file)

    missing = [i for i, identity in enumerate(result) if identity is None]
    threads = ThreadPoolExecutor(cores())
    try:
        found = threads.map(hashed, missing)
        if len(missing) >= _MANY:
            found = progress(found, f"reading the {examples.split} images", len(missing))
        for i, identity in zip(missing, found, strict=True):
            result[i] = identity
            cache.put(examples.names[i], stamps[i], identity)
            if len(missing) >= _MANY and stop():
                raise Interrupted
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
        cache.save()
    return result


def hash_pixels(pixels: np.ndarray) -> str:
    """Returns a hash of an array uint8 [H, W, C] that tells its shape too."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels))
    return digest.hexdigest()[:_DIGITS]


def hash_bytes(content: bytes) -> str:
    """Returns a hash of a file's content."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def hash_all(identities: Iterable[Identity]) -> dict[str, str | None]:
    """Returns one hash of what many examples hold, in their order, whatever they and their set are called.

    Args:
      identities: of the examples.

    Returns:
      "pixels" by what is decoded; "files" by the image files' bytes and the decoded masks, or None where an image has
      no file. Examples are the same if either hash is.
    """
    listed = list(identities)
    filed = all(i.file for i in listed)
    return {
        "pixels": hash_bytes("".join(i.image + i.mask for i in listed).encode()),
        "files": hash_bytes("".join(i.file + i.mask for i in listed).encode()) if filed else None,
    }


def read_file(path: Path) -> bytes:
    """Returns a file's content.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        refuse_unreadable(error)


def stamp_of(paths: Sequence[Path]) -> str:
    """Returns where files lie and what changes when they are written or replaced, without reading them.

    The time of the last change to a file's entry (`ctime`) cannot be set back, as that of its content can.
    """
    parts = []
    for path in paths:
        about = path.stat()
        parts.append(f"{path.name} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino}")
    return "; ".join(parts)


class _Cache:
    """The identities of one data set in the user's cache folder; where that cannot be used, it is empty.

    Args:
      dataset: the set's name, or its folder.
    """

    def __init__(self, dataset: str):
        self._path = cache_file(dataset, ".json")
        # Another version may decode otherwise.
        self._about = {
            "dataset": dataset,
            "jaxseg": jaxseg.__version__,
            "pillow": PIL.__version__,
            "reading": _READING,
        }
        self._entries: dict[str, list] = {}
        self._changed = False
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            if self._path:
                values = json.loads(self._path.read_text(encoding="utf-8"))
                if values["about"] == self._about:
                    self._entries = dict(values["images"])
                    os.utime(self._path)  # still in use

    def get(self, name: str, stamp: str) -> Identity | None:
        """Returns what an image had when its stamp was the same; None where that is not known."""
        match self._entries.get(name):
            case [known, [str(), str(), str()] as parts] if stamp and known == stamp:
                return Identity(*parts)
        return None

    def put(self, name: str, stamp: str, identity: Identity) -> None:
        """Keeps an image's identity."""
        if stamp:
            self._entries[name] = [stamp, list(identity)]
            self._changed = True

    def save(self) -> None:
        """Writes what is new, and removes caches that nobody uses any more."""
        if not self._changed or self._path is None:
            return
        write_cache(self._path, json.dumps({"about": self._about, "images": self._entries}).encode())
        with contextlib.suppress(OSError):
            for path in self._path.parent.iterdir():
                if time.time() - path.stat().st_mtime > 24 * 3600 * _KEEP_DAYS:
                    path.unlink()


def cache_file(dataset: str, ending: str) -> Path | None:
    """Returns the file in which the user's cache folder keeps something of a data set; None where there is no folder.

    Args:
      dataset: the set's name, or its folder.
      ending: of the file's name, as ".json".
    """
    try:
        return cache_folder().parent / "images" / f"{hash_bytes(dataset.encode())}{ending}"
    except (OSError, RuntimeError):
        return None
