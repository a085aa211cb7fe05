"""No tracked file shows a folder of the machine that wrote it."""

import re
import subprocess

import pytest

from tests.helpers.paths import ROOT

PATH = re.compile(r"(?<![\w.~-])/(?:root|work|Users/\w+|home/\w+)/")
"""Homes and work folders; `~/.keras`, addresses of the web and relative folders are no such paths."""


def found_in(text: str) -> list[str]:
    return [line.strip()[:120] for line in text.splitlines() if PATH.search(line)]


def test_no_file_shows_a_path_of_the_machine():
    """If broken, results, documents or code name folders that no other machine has, and show who ran them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_symlink() or not path.is_file():  # removed, and not committed yet
            continue
        try:
            lines = found_in(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:  # a picture, an array, a checkpoint
            continue
        if lines:
            found[name] = lines[0]
    assert not found


@pytest.mark.parametrize("folder", ["root", "work", "home/anna", "Users/anna"])
def test_such_a_path_would_be_found(folder):
    """If broken, the test above cannot fail."""
    path = "/".join(["", folder, "weights.h5"])
    for text in (path, f"--pretrained {path}", f"--pretrained={path}", f'"{path}"', f"`{path}`"):
        assert found_in(text) == [text]
    for text in (f"~{path}", f"https://example.org{path}", f"runs{path}"):
        assert not found_in(text)
