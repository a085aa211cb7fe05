"""What a run says of its images at its start: near-duplicates across the split, lesions brighter than their skin."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxseg.config import Config
from jaxseg.data import looks
from jaxseg.runs import splits
from tests.helpers.skin import grey, pair, save


def pairs(root, numbers, width=320, height=240):
    # Larger pictures than elsewhere: the noise of small ones is most of what they show.
    for number in numbers:
        image, mask = pair(number, width, height)
        save(root / "images" / f"{number}.png", image)
        save(root / "masks" / f"{number}.png", grey(mask))
    return root


def start(folder, run, **changes):
    """Does what the start of a run does with its images; returns the number of images that are decoded."""
    config = Config().updated({"data.name": str(folder), **changes})
    decoded = []
    keep = (lambda i, _: decoded.append(("train", i)), lambda i, _: decoded.append(("validation", i)))
    splits.register(splits.open_splits(config, run), config, run, keep, lambda: False)
    return len(decoded)


def test_near_duplicates_across_the_split_are_told_at_every_start(tmp_path, heard, monkeypatch):
    """If broken, a copy at another size and quality is trained on and scored, and only `inspect` would tell."""
    folder = tmp_path / "data"
    pairs(folder / "train", range(4))
    pairs(folder / "validation", range(4, 7))
    image, mask = pair(2, 320, 240)
    save(folder / "validation" / "images" / "copy.jpg", Image.fromarray(image).resize((160, 120)), quality=70)
    save(folder / "validation" / "masks" / "copy.png", Image.fromarray(grey(mask)).resize((160, 120)))
    assert start(folder, tmp_path / "first") == 8
    said = "1 of the 4 validation images look like training images (validation/copy like train/2)"
    assert said in heard.text
    heard.clear()
    monkeypatch.setattr(looks, "look_at", lambda example: pytest.fail("decoded once more"))
    assert start(folder, tmp_path / "second") == 0, "hashes are not kept"
    assert said in heard.text


def test_looks_that_are_not_kept_are_taken_again(tmp_path, heard):
    """If broken, a cache that was emptied or damaged makes the warning go, or ends the run."""
    folder = pairs(tmp_path / "data", range(5))
    assert start(folder, tmp_path / "first") == 5
    kept = looks.cache_file(str(folder), ".npz")
    content = kept.read_bytes()
    for change in (kept.unlink, lambda: kept.write_bytes(content[:-40]), lambda: kept.write_bytes(b"")):
        change()
        assert start(folder, tmp_path / "again") == 0
        assert len(np.load(kept)["keys"]) == 5
        (tmp_path / "again" / "images.json").unlink()
    assert not heard.records


@pytest.mark.parametrize("kind", ["negative", "masks for images"])
def test_images_that_do_not_fit_their_masks_are_told(kind, tmp_path, heard):
    """If broken, masks of other images, or the masks copied over the images, train without a word."""
    folder = pairs(tmp_path / "data", range(5))
    for number in range(5):
        image, mask = pair(number, 320, 240)
        save(folder / "images" / f"{number}.png", 255 - image if kind == "negative" else grey(mask))
    start(folder, tmp_path / "run")
    assert "5 of the 5 lesions are brighter than the skin beside them" in heard.text


def test_the_list_is_the_same_with_looks(tmp_path):
    """If broken, looking at images changes what is written of them."""
    folder = pairs(tmp_path / "data", range(5))
    start(folder, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "images.json").read_text())
    assert (len(stored["train"]), len(stored["validation"])) == (4, 1)
