"""The image files in a folder, and by name and reason every file that is left out.

`list_images(folder)` is the one way in which jaxseg looks for images: training, evaluation and prediction use it, so
they accept the same files. `Listing.sentence()` is the line to log.
"""

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jaxseg.errors import UserError, printable, refuse_unreadable

SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf"),
    *(".jpg", ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""Endings of the files that are taken for images and masks, in lower or upper case: all formats of `decode_image`."""

HEIF_SUFFIXES = (".heic", ".heif", ".hif")
"""Endings of the photographs of telephones, which are read where the package pillow-heif is installed."""

HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None

_SIGNATURES = (
    b"BM",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    *(b"P%d" % digit + space for digit in range(1, 7) for space in (b"\n", b" ")),
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
)
"""First bytes of BMP, GIF, TIFF, PNM, PNG, JPEG and JPEG 2000 files. WebP and AVIF have theirs further in."""

_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"}
"""Files and folders, in lower case, that operating systems leave in a folder of images."""

SUPERPIXELS = "_superpixels"
"""What the ISIC challenges add to the names of pictures that are neither images nor masks."""


MASK_SUFFIXES = ("_segmentation", "_lesion", "_mask", "_contour")
"""What a mask's name may add to its image's, in lower or upper case."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
      folder: the folder.
      images: the image files, sorted by path.
      left_out: the other files, by the reason for which they are left out.
      system: number of hidden files and of files of the operating system, which nobody misses.
    """

    folder: Path
    images: tuple[Path, ...]
    left_out: Mapping[str, tuple[Path, ...]]
    system: int = 0

    def sentence(self) -> str:
        """Returns one line that counts and names what is left out; empty if nothing is."""
        if not self.left_out:
            return ""
        count = sum(map(len, self.left_out.values()))
        parts = [f"{len(paths)} {reason} ({self._some(paths)})" for reason, paths in self.left_out.items()]
        besides = f"; not counted: {self.system} hidden or system files" if self.system else ""
        return f"{self.folder}: left out {count} of {count + len(self.images)} files: {', '.join(parts)}{besides}"

    def _some(self, paths: Iterable[Path]) -> str:
        return named([path.relative_to(self.folder).as_posix() for path in paths])


_NAMED = 3
"""Names of a list that a message shows."""


def named(names: Iterable[str]) -> str:
    """Returns the first names of a list for a message, as "a, b, c and 4 more".

    Args:
      names: the names.
    """
    listed = list(names)
    rest = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return printable(", ".join(listed[:_NAMED])) + rest


def list_images(
    folder: Path, skip_folder: Callable[[Path], bool] = lambda _: False, *, also: Sequence[str] = ()
) -> Listing:
    """Looks for image files in a folder and its subfolders; links to files and folders are followed.

    An image is known by its ending, a file without an ending by its first bytes. Left out, and told: files with another
    ending or content or a name that is not UTF-8, HEIC where pillow-heif is not installed, the superpixels of the ISIC
    challenges, what is no regular file, and links that lead in a circle.
    Links to nowhere count as images, so that whoever opens them says so.

    Args:
      folder: where to look.
      skip_folder: tells of a subfolder whether to leave it out without a word, such as the folder of the results.
      also: endings, in lower case, of other files to take.

    Returns:
      The images and what is left out.

    Raises:
      UserError: a folder that cannot be read.
    """
    images: list[Path] = []
    left_out: dict[str, list[Path]] = {}
    system = 0
    seen: set[tuple[int, int]] = set()
    for here, subfolders, names in os.walk(folder, followlinks=True, onerror=refuse_unreadable):
        status = Path(here).stat()
        if (status.st_dev, status.st_ino) in seen:
            left_out.setdefault("folders that were met before, by a link", []).append(Path(here))
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        system += sum(is_system_file(name) for name in (*subfolders, *names))
        subfolders[:] = sorted(s for s in subfolders if not is_system_file(s) and not skip_folder(Path(here, s)))
        for path in (Path(here, name) for name in names if not is_system_file(name)):
            if not _is_utf8(path.relative_to(folder)):
                left_out.setdefault("with a name that is not UTF-8: rename it", []).append(path)
            elif path.suffix.lower() not in also and (reason := why_left_out(path)):
                left_out.setdefault(reason, []).append(path)
            else:
                images.append(path)
    return Listing(
        folder, tuple(sorted(images)), {reason: tuple(sorted(left_out[reason])) for reason in sorted(left_out)}, system
    )


SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing")
"""Names of subfolders by which jaxseg and other tools tell splits."""


def refuse_within(out: Path, dataset: str, flag: str) -> None:
    """Checks that results do not go among the images or masks of a data set, which would be found as more of them.

    Args:
      out: folder for results.
      dataset: name of a data set, or its folder.
      flag: the flag that names `out`, for the message.

    Raises:
      UserError: it is the images/ or masks/ of the data set, or within.
    """
    root = Path(dataset).expanduser().resolve()
    below = out.resolve().relative_to(root).parts if out.resolve().is_relative_to(root) else ()
    side = below[0] if below and below[0].lower() in SPLIT_NAMES else ""
    if below[bool(side) : bool(side) + 1] in (("images",), ("masks",)) and root.is_dir():
        raise UserError(
            f"{flag} {out}: lies among the {below[bool(side)]} of {dataset}, which would hold the results for more of "
            "them; give a folder of its own"
        )


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # e.g. from an archive that was packed on an old system
        return False
    return True


def is_system_file(name: str) -> bool:
    """Returns whether a file or folder is hidden or the operating system's, as ".DS_Store" and "Thumbs.db"."""
    return name.startswith(".") or name.lower() in _SYSTEM


def why_left_out(path: Path) -> str:
    """Returns why a file is not taken for an image, as a phrase that follows a number; empty if it is taken."""
    suffix = path.suffix.lower()
    if path.stem.lower().endswith(SUPERPIXELS):
        return "superpixels of ISIC, which are no images"
    if suffix in HEIF_SUFFIXES and not HAS_HEIF:
        return "HEIC, which `pip install pillow-heif` makes readable"
    if suffix and suffix not in SUFFIXES + HEIF_SUFFIXES:
        return f"with the ending {suffix}"
    if path.exists() and not path.is_file():
        return "that are no regular files"
    if not suffix and not begins_like_an_image(path):
        return "without an ending"
    return ""


def begins_like_an_image(path: Path) -> bool:
    """Returns whether a file begins with the signature of a format that `decode_image` reads."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return head.startswith(_SIGNATURES) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP") or head[4:12] == b"ftypavif"


def refuse_empty(listing: Listing, called: str) -> None:
    """Checks that a listing holds an image.

    Args:
      listing: what a folder holds.
      called: what to call the folder.

    Raises:
      UserError: there is no image; the message says what there is instead.
    """
    if not listing.images:
        sentence = listing.sentence()
        instead = f"; {sentence}" if sentence else ""
        raise UserError(f"{called}: no images in there (files that end in {' '.join(SUFFIXES)}){instead}")
