"""Identities of images: the same pixels in other files, what tells an edit, and the cache."""

import dataclasses
import json
import os
import time

import numpy as np
import pytest
from PIL import Image

from jaxseg.config import DataConfig
from jaxseg.data import Example, open_split
from jaxseg.data.identity import Identity, Interrupted, hash_all, hash_pixels, identify
from jaxseg.errors import UserError
from tests.helpers.drawn_folders import draw_folder, reencode


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Gives each test a cache folder of its own, and returns where jaxseg keeps identities in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "jaxseg" / "images"


@pytest.fixture
def folder(tmp_path):
    return draw_folder(tmp_path / "set", range(4))


def opened(folder, **changes):
    return dataclasses.replace(open_split(DataConfig(name=str(folder)), "all"), **changes)


def never(index):
    raise AssertionError("this image was to be known without decoding it")


def test_the_same_pixels_in_other_files_are_the_same_images(folder, tmp_path):
    """If broken, a prepared set of the training images passes for unseen images."""
    first, second = identify(opened(folder)), identify(opened(reencode(folder, tmp_path / "other")))
    for one, other in zip(first, second, strict=True):
        assert (one.image, one.mask) == (other.image, other.mask)
        assert one.file != other.file
        assert one.pairs() & other.pairs()
    assert len({identity.image for identity in first}) == len({identity.mask for identity in first}) == 4
    whole, other = hash_all(first), hash_all(second)
    assert whole["pixels"] == other["pixels"]
    assert whole["files"] != other["files"]
    assert hash_all(first[::-1])["pixels"] != whole["pixels"]


def test_the_shape_of_an_image_counts():
    """If broken, an image of one colour is the same image at every shape."""
    assert hash_pixels(np.zeros((2, 6, 3), np.uint8)) != hash_pixels(np.zeros((6, 2, 3), np.uint8))


def test_what_was_hashed_is_not_decoded_again(folder, cache):
    """If broken, every start decodes all images."""
    first = identify(opened(folder))
    assert len(list(cache.glob("*.json"))) == 1
    assert identify(opened(folder, load=never, read_image=never)) == first


def test_known_files_are_not_decoded(folder, tmp_path):
    """If broken, a folder that moved to another machine is decoded as a whole before training resumes."""
    first = identify(opened(folder))
    (tmp_path / "set").rename(tmp_path / "moved")
    assert identify(opened(tmp_path / "moved", load=never), first) == first
    with pytest.raises(AssertionError):
        identify(opened(draw_folder(tmp_path / "others", [7, 8]), load=never), first)


@pytest.mark.parametrize("part", ["images", "masks"])
def test_an_edit_of_the_same_size_and_time_is_noticed(folder, part):
    """If broken, an edited image or mask keeps the identity that it had before."""
    path = folder / part / "img02.bmp"
    with Image.open(path.with_suffix(".png")) as image:
        pixels = np.array(image)
    path.with_suffix(".png").unlink()
    Image.fromarray(pixels).save(path)
    before, about = identify(opened(folder)), path.stat()
    pixels[-1, -1] = 255 - pixels[-1, -1]
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (about.st_size, about.st_mtime_ns)
    after = identify(opened(folder))
    assert [a.pairs() & b.pairs() == set() for a, b in zip(before, after, strict=True)] == [False, False, True, False]
    edited = before[2].images() & after[2].images()
    assert bool(edited) == (part == "masks")


def test_every_decoded_image_is_handed_on(folder):
    """If broken, the pipeline decodes all images a second time."""
    got = {}
    identify(opened(folder), decoded=lambda index, example: got.update({index: example}))
    examples = opened(folder)
    assert sorted(got) == [0, 1, 2, 3]
    for index, example in got.items():
        np.testing.assert_array_equal(example.image, examples.load(index).image)


def test_a_part_of_a_set_has_the_parts_identities(folder):
    """If broken, a fold's images get the identities of others."""
    examples = opened(folder)
    whole = identify(examples)
    part = examples.select(np.array([3, 1]), "train")
    assert identify(part) == [whole[3], whole[1]]
    both = part.followed_by(examples.select(np.array([0]), "validation"), "all")
    assert both.names == ("img03", "img01", "img00")
    assert identify(both) == [whole[3], whole[1], whole[0]]
    np.testing.assert_array_equal(both.load(2).image, examples.load(0).image)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"about": 1, "images": 2}', "cut"])
def test_a_spoilt_cache_is_no_cache(folder, cache, content):
    """If broken, a cache file that was cut off ends every command in a traceback, or gives wrong identities."""
    first = identify(opened(folder))
    (path,) = cache.glob("*.json")
    path.write_text(path.read_text()[:-20] if content == "cut" else content)
    assert identify(opened(folder)) == first
    entries = json.loads(path.read_text())
    entries["images"]["img01"] = [entries["images"]["img01"][0], ["a", 3, "b"]]
    path.write_text(json.dumps(entries))
    assert identify(opened(folder)) == first


def test_no_cache_folder_is_no_fault(folder, monkeypatch):
    """If broken, training fails where the home folder cannot be written."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert len(identify(opened(folder))) == 4


def test_caches_that_nobody_uses_go(folder, cache):
    """If broken, the caches of all folders ever opened pile up."""
    cache.mkdir(parents=True)
    for name, days in (("old.json", 200), ("young.json", 100)):
        (cache / name).write_text("{}")
        then = time.time() - days * 24 * 3600
        os.utime(cache / name, (then, then))
    identify(opened(folder))
    assert not (cache / "old.json").exists()
    assert (cache / "young.json").exists()


def test_images_that_are_drawn_have_identities(cache):
    """If broken, pictures saved from the synthetic set are not told, or each start draws all of them again."""
    examples = open_split(DataConfig(name="synthetic", synthetic_eval=2), "validation")
    first = identify(examples)
    assert first[0] == Identity(hash_pixels(examples.load(0).image), hash_pixels(examples.load(0).mask))
    assert identify(dataclasses.replace(examples, load=never)) == first
    assert hash_all(first)["files"] is None


def test_a_damaged_image_is_one_line(folder):
    """If broken, a truncated file is a traceback, or is found out in the middle of an epoch."""
    path = folder / "images" / "img01.png"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"img01.png: cannot be decoded"):
        identify(opened(folder))


def test_a_long_reading_stops_when_asked():
    """If broken, Ctrl-C during the first reading of a large set waits until all is read."""
    small = Example(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 1), np.uint8))
    examples = dataclasses.replace(
        open_split(DataConfig(name="synthetic", synthetic_train=2000), "train"), load=lambda index: small
    )
    asked = []
    with pytest.raises(Interrupted):
        identify(examples, stop=lambda: len(asked) > 4 or asked.append(1))
    assert len(asked) == 5
