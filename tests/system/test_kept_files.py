"""Files kept beside compiled programs: found, limited, refused when damaged, and named by all that decides them."""

import os

import pytest

import jaxseg
from jaxseg.system import kept_files
from jaxseg.system.kept_files import KeptFiles, key_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Returns the folder of `KeptFiles("kind", ...)` in this test."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    return tmp_path / "kind"


def test_kept_files_have_a_limit(folder):
    """If broken, the cache folder grows with every run that was ever used, or loses what is in use."""
    files = KeptFiles("kind", 500)
    for i, name in enumerate("abc"):
        files.keep(name, bytes(180))
        os.utime(folder / name, (i, i))
    assert {path.name for path in folder.iterdir()} == {"b", "c"}
    assert files.find("b") == bytes(180)  # used, so that c is the older one
    files.keep("d", bytes(180))
    assert {path.name for path in folder.iterdir()} == {"b", "d"}
    files.keep("e", bytes(501))
    assert files.find("e") is None


def test_a_damaged_file_is_not_used(folder):
    """If broken, half a file of a full disk, or a flipped bit, becomes a program that is run."""
    files = KeptFiles("kind", 500)
    files.keep("a", b"content")
    whole = (folder / "a").read_bytes()
    for content in (b"", whole[:-1], whole[:-1] + b"!"):
        (folder / "a").write_bytes(content)
        assert files.find("a") is None
    files.keep("a", b"content")
    assert files.find("a") == b"content"


@pytest.mark.parametrize(
    "variables", [{"JAX_ENABLE_COMPILATION_CACHE": "false"}, {"JAX_COMPILATION_CACHE_DIR": "gs://b"}]
)
def test_without_a_place_for_them_nothing_is_kept(folder, monkeypatch, variables):
    """If broken, files appear where the user wants none, or a folder named `gs:` in the working folder."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    KeptFiles("kind", 500).keep("a", b"content")
    assert KeptFiles("kind", 500).find("a") is None
    assert not folder.exists()


def test_whatever_decides_a_file_is_in_its_key(tmp_path, monkeypatch):
    """If broken, changed code, another version or other settings get what was made of those before."""
    code = tmp_path / "models" / "unet.py"
    code.parent.mkdir()
    code.write_text("a = 1")
    monkeypatch.setattr(jaxseg, "__file__", str(tmp_path / "__init__.py"))

    def key(number: int = 1, package: str = "jax", sources: str = "**/*.py") -> str:
        return key_of({"a": number}, packages=[package], sources=[sources])

    keys = [key(), key(2), key(package="flax")]
    (tmp_path / "train.py").write_text("b = 1")
    assert key(sources="models/*.py") == keys[0]
    keys.append(key())
    code.write_text("a = 2")
    keys.append(key())
    monkeypatch.setattr(kept_files, "_version", lambda package: "9.9")
    keys.append(key())
    monkeypatch.setattr(jaxseg, "__version__", "9.9")
    keys.append(key())
    assert len(set(keys)) == len(keys)
