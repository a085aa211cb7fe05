"""Copies of a run's training images in other sets: converted, resized, turned, mirrored."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.config import Config
from jaxseg.data import looks, open_split
from jaxseg.data.identity import identify
from jaxseg.data.looks import fingerprint
from jaxseg.runs import copies, splits, workdir
from tests.helpers.skin import grey, pair, save


def draw(root, numbers, change=lambda picture: picture, kind="png"):
    """Draws pairs of 320 x 240 pixels; the noise of smaller pictures is most of what they show."""
    for number in numbers:
        image, mask = pair(number, 320, 240)
        save(root / "images" / f"{number}.{kind}", change(Image.fromarray(image)))
        save(root / "masks" / f"{number}.png", change(Image.fromarray(grey(mask))))
    return root


def start(folder, run, **changes):
    config = Config().updated({"data.name": str(folder), **changes})
    splits.register(splits.open_splits(config, run), config, run, (lambda *_: None, lambda *_: None), lambda: False)


def found(run, folder):
    """Returns names of the images that are taken for copies."""
    examples = open_split(Config().updated({"data.name": str(folder)}).data, "all")
    pictures = [fingerprint(examples.load(i).image) for i in range(len(examples))]
    return [examples.names[i] for i in copies.find([run], pictures, identify(examples))]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a run that has started, with images 0 to 4 for training and 5 and 6 for validation."""
    root = tmp_path_factory.mktemp("copies")
    draw(root / "d" / "train", range(5))
    draw(root / "d" / "validation", range(5, 7))
    start(root / "d", root / "r")
    return root / "r"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda picture: picture, "jpg"),
        (lambda picture: picture.resize((160, 120)), "png"),
        (lambda picture: picture.resize((480, 360)), "webp"),
        *((lambda picture, how=how: picture.transpose(how), "png") for how in Image.Transpose),
    ],
)
def test_copies_of_training_images_are_told(run, tmp_path, change, kind):
    """If broken, images that were trained on are scored as unseen once they are converted, resized or mirrored."""
    assert found(run, draw(tmp_path, [*range(7), *range(10, 14)], change, kind)) == ["0", "1", "2", "3", "4"]


def test_other_images_and_the_same_ones_are_no_copies(run, tmp_path):
    """If broken, every honest test is called none, or an image is counted as trained on and as a copy."""
    assert found(run, draw(tmp_path, range(30))) == []


def test_what_a_run_starts_with_and_has_lost_counts_too(tmp_path, monkeypatch):
    """If broken, a run forgets what its parent was trained on, or itself before its data changed."""
    parent, child, folder = tmp_path / "parent", tmp_path / "child", draw(tmp_path / "d", range(5))
    start(draw(tmp_path / "first", range(20, 25)), parent)
    start(folder, child, **{"model.init_from": str(parent)})
    inherited = set(copies.read(parent))
    assert len(inherited) == 4
    assert len(copies.read(child)) == 8
    monkeypatch.setattr(splits, "was_started", lambda _: True)
    (child / "config.json").write_text(f'{{"data": {{"dataset": "{folder}"}}}}')
    draw(folder, [30])
    for name in ("images/1.png", "masks/1.png"):
        (folder / name).unlink()
    start(folder, child, **{"data.keep_split": True})
    assert len(copies.read(child)) == 8
    assert inherited < set(copies.read(child))


def test_a_run_without_looks_or_with_damaged_ones_goes_on(tmp_path, heard):
    """If broken, runs of older releases, or with one file damaged, cannot be scored any more."""
    assert copies.find([tmp_path], [fingerprint(pair(0)[0])], []) is None
    (tmp_path / workdir.LOOKS).write_bytes(b"no archive")
    assert copies.find([tmp_path], [fingerprint(pair(0)[0])], []) is None
    assert "looks.npz: cannot be read" in heard.text


def test_turned_pictures_are_found_among_many():
    """If broken, a block boundary, or the coarse look that goes before the fine one, loses a pair."""
    random = np.random.default_rng(0)
    pictures = [fingerprint(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(600)]
    greys = [look.grey.reshape(32, 32) for look in pictures]
    turned = {3: np.rot90(greys[500]), 257: greys[0][::-1], 599: np.rot90(greys[256], 2)}
    second = [
        look._replace(grey=np.ascontiguousarray(turned[i]).ravel() if i in turned else 255 - look.grey)
        for i, look in enumerate(pictures)
    ]
    assert looks.alike_turned(pictures, second) == [(500, 3), (0, 257), (256, 599)]
    assert looks.alike_turned([], second) == looks.alike_turned(pictures, []) == []
