"""The files of a data set as its publisher ships them: a folder, a zip archive, or a folder of zip archives.

Archives are read in place and never unpacked, so no member can be written anywhere, whatever its name, and nothing has
to be cleaned up.
"""

import dataclasses
import fnmatch
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from jaxseg.errors import UserError, refuse_unreadable

MAX_FILES = 200_000
"""Maximum number of files in a source, a hundred times those of the largest set. Beyond it, `--source /` ends."""

MAX_FILE_BYTES = 256 * 2**20
"""Maximum size of a file, bytes. The largest photograph of ISIC 2016 has 10 MB."""

MAX_DEPTH = 6
"""Maximum number of folder levels below a source that are searched. PH2's masks lie 4 levels below its root."""

UNPACK = "not a zip archive; unpack it (`unrar x`, `7z x` or `bsdtar -xf`) and point --source at the folder it makes"


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes:
      where: name for error messages, such as "/data/x.zip: ISIC_0000000.jpg".
      read: function that returns the content.
    """

    where: str
    read: Callable[[], bytes]


Files = dict[str, SourceFile]
"""Files by their paths within the source, with forward slashes."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask as published.

    Attributes:
      name: name that image and mask share.
      image: file of the image.
      mask: file of the mask.
    """

    name: str
    image: SourceFile
    mask: SourceFile


def list_source(source: str | Path, archives: str) -> Files:
    """Lists the files of a folder (with the zip archives in it) or of a zip archive.

    Args:
      source: the folder or archive.
      archives: glob pattern of the names of the publisher's archives without ".zip", such as "PH2*". Other archives in
        a folder are ignored.

    Returns:
      The files. Their contents are read later.

    Raises:
      UserError: the source does not exist, an archive is not a sound zip file, or there are too many files.
    """
    path = Path(source).expanduser()
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        refuse_unreadable(error)
    if is_folder:
        return _list_folder(path, archives)
    if is_file:
        return _list_archive(path, PurePosixPath(path.stem))
    raise UserError(f"--source {source}: no such folder or archive")


def file_at(path: Path) -> SourceFile:
    """Returns a file on disk as a `SourceFile`."""
    return SourceFile(str(path), lambda: _read_file(path))


def packed(files: Files, archives: str) -> list[SourceFile]:
    """Returns the publisher's archives that are in a format other than zip, such as PH2Dataset.rar.

    Args:
      files: all files of the source, by path.
      archives: glob pattern of the names of the publisher's archives, without ending.
    """
    endings = (".rar", ".7z", ".tar", ".gz", ".tgz")
    return [file for path, file in files.items() if _is_archive(PurePosixPath(path).name, archives, endings)]


def find(files: Files, pattern: str) -> dict[str, SourceFile]:
    """Returns the files whose paths end with a match of the pattern, by the upper-case text of its group "name".

    Args:
      files: all files of the source, by path.
      pattern: regular expression with a group called "name".

    Raises:
      UserError: two files have the same name.
    """
    found: dict[str, SourceFile] = {}
    expression = re.compile(rf"(?:^|/){pattern}$", re.IGNORECASE)
    for path, file in files.items():
        if match := expression.search(path):
            name = match["name"].upper()  # the publishers' names and tables are in upper case
            if name in found:
                raise UserError(f"{name} is there twice: {found[name].where} and {file.where}; point --source at one")
            found[name] = file
    return found


def pair_up(images: dict[str, SourceFile], masks: dict[str, SourceFile]) -> list[Pair]:
    """Pairs images with the masks of the same name, ordered by name.

    Args:
      images: images by name.
      masks: masks by name.

    Raises:
      UserError: an image has no mask.
    """
    for name, image in images.items():
        if name not in masks:
            raise UserError(f"{image.where}: the mask of {name} is missing; fetch it, or take the image out")
    return [Pair(name, images[name], masks[name]) for name in sorted(images)]


def _list_folder(root: Path, archives: str) -> Files:
    files: Files = {}
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=refuse_unreadable):
        here = Path(folder)
        below = here.relative_to(root)
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:  # a link to a parent folder makes endless paths
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and len(below.parts) < MAX_DEPTH)
        for name in sorted(names):
            path = here / name
            if name.startswith("."):  # companion files of macOS look like images
                continue
            if path.exists() and not path.is_file():  # opening a pipe would block for ever
                continue
            if _is_archive(name, archives, (".zip",)) and path.stem not in subfolders:
                files |= _list_archive(path, PurePosixPath(below) / path.stem)
            else:
                files[(below / name).as_posix()] = file_at(path)
        if len(files) > MAX_FILES:
            raise UserError(f"--source {root}: holds over {MAX_FILES:,} files; point it at the data set's own folder")
    return files


def _is_archive(name: str, archives: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings) and fnmatch.fnmatch(name.lower(), f"{archives.lower()}.*")


def _list_archive(path: Path, below: PurePosixPath) -> Files:
    """Lists an archive as if it were unpacked to the folder `below`, which has the archive's name."""
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise UserError(f"{path}: {UNPACK}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except Exception as error:  # zipfile raises many kinds of errors on damaged files
        raise UserError(f"{path}: not a sound zip archive ({error}); fetch it again") from None
    if len(members) > MAX_FILES:
        raise UserError(f"{path}: holds over {MAX_FILES:,} files, so it is not the publisher's archive")
    for member in members:
        _check_member(path, member)
    if twice := [name for name, count in Counter(member.filename for member in members).items() if count > 1]:
        raise UserError(
            f"{path}: holds {twice[0]} twice, so it is not the publisher's archive as it was fetched; unpack it, keep "
            "the right one, and give the folder"
        )
    return {
        str(below / member.filename.replace("\\", "/")): SourceFile(
            f"{path}: {member.filename}", lambda member=member: _read_member(path, member)
        )
        for member in members
    }


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    """Refuses members that no publisher's archive holds. Nothing is unpacked, so only memory is at risk."""
    name = PurePosixPath(member.filename.replace("\\", "/"))
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or is_link:
        raise UserError(
            f"{path}: the member {member.filename!r} is a link or lies outside the archive, so it is not the "
            "publisher's archive; fetch it again from the publisher"
        )
    if member.file_size > MAX_FILE_BYTES:
        raise UserError(
            f"{path}: the member {member.filename!r} unpacks to {member.file_size:,} bytes, more than any image of "
            "the set has; fetch it again from the publisher"
        )


def _read_member(path: Path, member: zipfile.ZipInfo) -> bytes:
    where = f"{path}: {member.filename}"
    try:
        # Opening the archive for each member takes milliseconds, and no file handle outlives this call.
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)  # no more than the size that was checked
    except RuntimeError as error:  # encrypted, or an unknown compression
        raise UserError(f"{where}: cannot be unpacked ({error}); unpack the archive and give the folder") from None
    except Exception as error:  # zipfile and the decompressors raise many kinds
        raise UserError(f"{where}: damaged ({error}); fetch the archive again") from None


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: larger than any image of the set ({MAX_FILE_BYTES:,} bytes); fetch it again")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
