"""The publisher's files: folders and archives, and what is refused in them."""

import stat
import zipfile
from pathlib import Path

import pytest

from jaxseg.data.published.source import find, list_source
from jaxseg.errors import UserError


def zipped(path: Path, name: str, mode: int = stat.S_IFREG | 0o644, size: int | None = None) -> Path:
    """Writes an archive of one member, whose unpacked size is given wrongly if `size` is set."""
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, b"content of the member")
    if size is not None:
        data = bytearray(path.read_bytes())
        at = data.rindex(b"PK\x01\x02") + 24  # the size's place in the central directory
        data[at : at + 4] = size.to_bytes(4, "little")
        path.write_bytes(data)
    return path


def test_an_archive_is_listed_as_if_it_were_unpacked(tmp_path):
    """If broken, files in an archive are not found where they are in the unpacked folder."""
    zipped(tmp_path / "Set_a.zip", "inner\\IM1.jpg")
    zipped(tmp_path / "other.zip", "IM2.jpg")
    (tmp_path / "Set_b").mkdir()
    (tmp_path / "Set_b" / "im3.JPG").write_bytes(b"3")
    (tmp_path / ".IM4.jpg").write_bytes(b"4")
    files = list_source(tmp_path, "Set_*")
    assert sorted(files) == ["Set_a/inner/IM1.jpg", "Set_b/im3.JPG", "other.zip"]
    found = find(files, r"(?P<name>IM\d)\.jpg")
    assert {name: file.read() for name, file in found.items()} == {"IM1": b"content of the member", "IM3": b"3"}


def test_an_archive_that_holds_a_file_twice_is_refused(tmp_path):
    """If broken, it is left to chance which of two pictures of one name is prepared."""
    with zipfile.ZipFile(tmp_path / "Set.zip", "w") as archive:
        archive.writestr("IM1.jpg", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("IM1.jpg", b"2")
    with pytest.raises(UserError, match=r"Set.zip: holds IM1.jpg twice"):
        list_source(tmp_path, "Set*")


def test_folders_that_link_to_themselves_end(tmp_path):
    """If broken, links that lead back up make the search endless, or a file is found twice."""
    (tmp_path / "a.jpg").write_bytes(b"")
    for i in range(30):
        (tmp_path / f"loop{i}").symlink_to(tmp_path)
    assert list(list_source(tmp_path, "*")) == ["a.jpg"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("../evil.jpg", {}, "a link or lies outside"),
        ("/tmp/evil.jpg", {}, "a link or lies outside"),
        ("..\\evil.jpg", {}, "a link or lies outside"),
        ("link.jpg", {"mode": stat.S_IFLNK | 0o777}, "a link or lies outside"),
        ("big.jpg", {"size": 2**31}, r"unpacks to 2,147,483,648 bytes"),
    ],
)
def test_hostile_archives_are_refused(name, options, message, tmp_path):
    """If broken, an archive that no publisher made is taken, or fills the memory."""
    archive = zipped(tmp_path / "isic.zip", name, **options)
    with pytest.raises(UserError, match=message) as caught:
        list_source(archive, "*")
    assert str(caught.value).startswith(f"{archive}: ")


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path):
    """If broken, an archive that understates a size fills the memory."""
    archive = zipped(tmp_path / "isic.zip", "a.jpg", size=4)
    with pytest.raises(UserError, match=r"isic\.zip: a\.jpg: damaged"):
        list_source(archive, "*")["isic/a.jpg"].read()


def test_a_damaged_archive_is_named(tmp_path):
    """If broken, a broken download gives a traceback."""
    archive = zipped(tmp_path / "isic.zip", "a.jpg")
    sound = archive.read_bytes()
    archive.write_bytes(sound.replace(b"content", b"CONTENT"))
    with pytest.raises(UserError, match=r"isic\.zip: a\.jpg: damaged"):
        list_source(archive, "*")["isic/a.jpg"].read()
    archive.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(UserError, match=r"isic\.zip: not a sound zip archive"):
        list_source(archive, "*")
