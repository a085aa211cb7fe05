"""The sheet of augmented images: masks go along, equal seeds draw equal sheets, synthetic images are told."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.paper import augmentation_sheet
from jaxseg.data import Example, Examples


@pytest.fixture
def discs() -> Examples:
    """Returns five images of a white disc off the centre, whose mask is the disc."""

    def load(i: int) -> Example:
        y, x = np.mgrid[:60, :80]
        mask = ((y - 20 - 3 * i) ** 2 + (x - 30) ** 2 < 12**2).astype(np.uint8)[..., None]
        return Example(np.repeat(mask * np.uint8(255), 3, axis=-1), mask)

    names = tuple(f"disc{i}" for i in range(5))
    return Examples("discs", "train", names, ("",) * 5, load)


def red_pixels(path: Path) -> int:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int(np.sum((pixels[..., 0] > 180) & (pixels[..., 1:].max(axis=-1) < 60)))


def test_every_outline_is_that_of_what_it_is_drawn_on(tiny, discs, tmp_path, monkeypatch):
    """If broken, the mask is not warped as its image, versions are alike, or rows mix images."""
    drawn, overlay = [], augmentation_sheet.overlay

    def recording(picture, prediction, truth):
        drawn.append((picture, truth))
        return overlay(picture, prediction, truth)

    monkeypatch.setattr(augmentation_sheet, "overlay", recording)
    augmentation_sheet.draw(tiny, discs, tmp_path / "new" / "sheet.png", images=3, draws=4)
    assert len(drawn) == 3 * (1 + 4)
    for picture, truth in drawn:
        assert picture.shape == (32, 32, 3)
        assert np.mean((picture[..., 0] > 127) != truth) < 0.02  # the image is bilinear, the mask nearest
        assert truth.any()
    assert len({picture.tobytes() for picture, _ in drawn}) == len(drawn)
    with Image.open(tmp_path / "new" / "sheet.png") as image:
        assert image.width > 5 * 200
        assert image.height > 3 * 200


def test_the_seed_decides_and_synthetic_images_are_told(tiny, discs, tmp_path):
    """If broken, a sheet cannot be drawn again, or made-up lesions pass for real ones."""
    sheets = {"a": 0, "b": 0, "c": 1}
    for name, seed in sheets.items():
        augmentation_sheet.draw(tiny, discs, tmp_path / name, images=1, draws=1, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in sheets)
    assert a == b != c
    assert red_pixels(tmp_path / "a") == 0
    made_up = dataclasses.replace(discs, dataset="synthetic")
    augmentation_sheet.draw(tiny, made_up, tmp_path / "d", images=1, draws=1)
    assert red_pixels(tmp_path / "d") > 100


def test_the_command(tmp_path, capsys):
    """If broken, the script draws other images than those that training takes, or a mistake is a traceback."""
    argv = ["--config", "demo", "--data.image-size", "32", "--data.synthetic-train", "3", "--out", str(tmp_path / "x")]
    augmentation_sheet.main([*argv, "--seed", "3"])
    assert (tmp_path / "x").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit) as ended:
        augmentation_sheet.main([*argv, "--augment.enabled", "false"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("augment.enabled = false: there is nothing to draw; leave it at true")
