"""The page of drawn images."""

import numpy as np
import pytest
from PIL import Image

from experiments import drawn_sheet


def discs(key, count: int, height: int, width: int):
    """Stands for the drawing, which takes long to compile: grey image i of brightness 10 i, a disc as its mask."""
    images = np.broadcast_to(np.uint8(10 * np.arange(count))[:, None, None, None], (count, height, width, 3))
    y, x = np.mgrid[:height, :width] - np.array([height, width])[:, None, None] / 2
    masks = np.broadcast_to((np.hypot(y, x) < height / 4)[None, ..., None], (count, height, width, 1))
    return images, masks.astype(np.uint8)


def test_images_lie_in_rows_with_their_outlines(monkeypatch, tmp_path):
    """If broken, outlines lie on other images, or images are cut or mixed."""
    monkeypatch.setattr(drawn_sheet, "draw", discs)
    folder = tmp_path / "real"
    folder.mkdir()
    for i in range(9):
        Image.new("RGB", (40, 30), (200, i, 0)).save(folder / f"{i}.png")
    drawn_sheet.main(["--out", str(tmp_path / "page.png"), "--rows", "2", "--size", "32", "--beside", str(folder)])
    page = np.asarray(Image.open(tmp_path / "page.png"))
    assert page.shape == (3 * 32, 8 * 32, 3)
    assert page[40, 3 * 32 + 2].tolist() == [110, 110, 110]  # image 11: second row, fourth column
    tile = page[:32, :32].astype(int)
    green = (tile == [0, 255, 0]).all(axis=-1)
    assert 20 < green.sum() < 60
    assert not green[14:18, 14:18].any()
    assert page[70, 4].tolist()[0] == 200


def test_a_folder_of_too_few_images_is_refused(monkeypatch, tmp_path, capsys):
    """If broken, a page without the asked-for images looks complete."""
    monkeypatch.setattr(drawn_sheet, "draw", discs)
    with pytest.raises(SystemExit):
        drawn_sheet.main(["--out", str(tmp_path / "page.png"), "--size", "32", "--beside", str(tmp_path)])
    assert "holds fewer than 8 images" in capsys.readouterr().err
