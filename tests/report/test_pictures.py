"""Pictures: valid files, outlines where the masks' edges are, and no surprise in what a run may hold."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxseg.report import curves as report
from jaxseg.report.curves import plot_curves
from jaxseg.report.figures import save_png
from jaxseg.report.overlays import BOTH_COLOUR, PREDICTION_COLOUR, TRUTH_COLOUR, Case, overlay, overlay_sheet

RED = (208, 0, 0)  # of the synthetic note


def read(path) -> np.ndarray:
    """Returns a PNG's pixels, uint8 [H, W, 3]."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((pixels == np.uint8(colour)).all(axis=-1).sum())


def a_history(epochs: int) -> list[dict]:
    lines = []
    for epoch in range(1, epochs + 1):
        loss = 0.1 + (epoch - 7) ** 2 / 100
        lines.append(
            {
                "epoch": epoch,
                "train_loss": 1 / epoch,
                "val_loss": loss,
                "val_dice": 1 - loss / 2,
                "val_jaccard": 1 - loss,
                "learning_rate": 1e-4 if epoch < 9 else 2e-5,
            }
        )
    return lines


def a_disc(height: int, width: int, row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return ((rows - row) ** 2 + (columns - column) ** 2 < radius**2).astype(np.uint8)


def a_grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def a_case(name: str, dice: float = 0.5, height: int = 96, width: int = 128) -> Case:
    truth, prediction = a_disc(height, width, 40, 50, 25), a_disc(height, width, 50, 60, 25)
    return Case(name, a_grey(height, width), truth, prediction, dice)


def test_curves_are_a_picture_of_the_promised_size(tmp_path):
    """If broken, a run has no curves, or they are blank."""
    path = tmp_path / "new" / "curves.png"
    plot_curves(a_history(12), path, title="resnet50v2 on ph2")
    pixels = read(path)
    assert pixels.shape == (450, 1300, 3)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert count(pixels, colour) > 100
    assert [p.name for p in path.parent.iterdir()] == ["curves.png"]


def test_synthetic_note_is_red_and_only_where_asked_for(tmp_path):
    """If broken, a synthetic score passes for a real one, or a real one for synthetic."""
    for name, synthetic in (("real", False), ("synthetic", True)):
        plot_curves(a_history(3), tmp_path / f"{name}.png", title="t", synthetic=synthetic)
        overlay_sheet([a_case("a")], tmp_path / f"{name}_sheet.png", "t", synthetic=synthetic)
    for kind in ("", "_sheet"):
        assert count(read(tmp_path / f"synthetic{kind}.png"), RED) > 100
        assert count(read(tmp_path / f"real{kind}.png"), RED) == 0


def test_best_epoch_is_that_of_the_lowest_validation_loss(tmp_path):
    """If broken, the mark is beside the epoch whose weights are kept."""
    for name, best in (("default", None), ("seventh", 7), ("third", 3)):
        plot_curves(a_history(12), tmp_path / name, best_epoch=best)
    default, seventh, third = ((tmp_path / n).read_bytes() for n in ("default", "seventh", "third"))
    assert default == seventh != third
    # Ties go to the first, as in early stopping; an unknown loss is never the best.
    assert report._best_epoch(np.array([1.0, 2, 3, 4]), np.array([math.nan, 2, 1, 1])) == 3


@pytest.mark.parametrize(
    "history",
    [
        [],
        a_history(1),
        [{"epoch": 1}],
        [{"epoch": 1, "train_loss": math.nan, "val_loss": math.inf, "val_dice": None, "learning_rate": 0.0}],
        [{**line, "val_loss": None if line["epoch"] == 3 else line["val_loss"]} for line in a_history(5)],
        [{**line, "train_loss": 10.0 ** -line["epoch"], "learning_rate": 0} for line in a_history(8)],
        [{**line, "train_loss": -1.0} for line in a_history(4)],
        a_history(200),
    ],
    ids=["no epoch", "one epoch", "no values", "not finite", "gap", "many decades", "negative", "long"],
)
def test_curves_take_what_a_run_may_hold(tmp_path, history):
    """If broken, a run ends in a plot's traceback or in warnings, which are errors here."""
    plot_curves(history, tmp_path / "curves.png")
    assert read(tmp_path / "curves.png").shape == (450, 1300, 3)


def test_gaps_stay_gaps():
    """If broken, missing values are drawn as zeros."""
    column = report._column([{"a": 1}, {}, {"a": None}, {"a": -math.inf}, {"a": 2.5}], "a")
    np.testing.assert_array_equal(column, [1, math.nan, math.nan, math.nan, 2.5])


def test_drawing_needs_neither_pyplot_nor_display(tmp_path):
    """If broken, training on a server without a display fails, or figures pile up in pyplot's memory."""
    program = (
        "import sys; from jaxseg.report import curves; assert 'matplotlib' not in sys.modules, 'a slow import';"
        f"curves.plot_curves([], {str(tmp_path / 'c.png')!r}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"} | {"MPLBACKEND": "TkAgg"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


@pytest.mark.parametrize(("height", "width", "line"), [(96, 128, 1), (576, 768, 2), (300, 1600, 4)])
def test_outline_lies_within_its_mask_at_the_edge(height, width, line):
    """If broken, outlines are off the edge, open, or too thin to see on a large image."""
    image, mask = a_grey(height, width), a_disc(height, width, height / 2, width / 2, height / 3)
    drawn = (overlay(image, mask) != image).any(axis=-1)
    assert not (drawn & (mask == 0)).any()
    # Steps to the outside, counted the slow way: a pixel is drawn where moving up to `line` steps leaves the mask.
    near = np.zeros_like(drawn)
    for dy in range(-line, line + 1):
        for dx in range(-line + abs(dy), line - abs(dy) + 1):
            near |= np.roll(mask, (dy, dx), (0, 1)) == 0
    np.testing.assert_array_equal(drawn, near & (mask == 1))


def test_colours_name_truth_prediction_and_both():
    """If broken, truth and prediction are taken for each other."""
    image = a_grey(96, 128)
    truth, prediction = a_disc(96, 128, 40, 50, 25), a_disc(96, 128, 50, 60, 25)
    result = overlay(image, prediction, truth)
    for colour, inside, outside in ((TRUTH_COLOUR, truth, prediction), (PREDICTION_COLOUR, prediction, truth)):
        at = (result == np.uint8(colour)).all(axis=-1)
        assert at.sum() > 50
        assert inside[at].all()
        assert not outside[at].all()
    assert count(overlay(image, truth, truth), BOTH_COLOUR) > 50
    assert count(overlay(image, truth, truth), PREDICTION_COLOUR) == 0
    assert count(overlay(image, prediction), TRUTH_COLOUR) == 0
    assert (image == 90).all()  # the caller's image is left alone


def test_empty_and_full_masks():
    """If broken, a model that finds nothing, or everything, cannot be looked at."""
    image = a_grey(60, 80)
    empty, full = np.zeros((60, 80), np.uint8), np.ones((60, 80), bool)
    np.testing.assert_array_equal(overlay(image, empty, empty), image)
    frame = np.ones((60, 80), bool)
    frame[1:-1, 1:-1] = False
    np.testing.assert_array_equal((overlay(image, full) != image).any(axis=-1), frame)


def test_mask_at_the_border_has_a_closed_outline():
    """If broken, a lesion that the picture cuts has an open outline, or one that wraps round to the other side."""
    mask = a_disc(60, 80, 0, 30, 20)
    drawn = (overlay(a_grey(60, 80), mask) != 90).any(axis=-1)
    np.testing.assert_array_equal(drawn[0], mask[0] == 1)
    assert not drawn[30:].any()


@pytest.mark.parametrize(
    ("image", "prediction", "message"),
    [
        (a_grey(6, 8).astype(np.float32), np.zeros((6, 8)), "image is float32"),
        (a_grey(6, 8)[..., 0], np.zeros((6, 8)), "image is uint8"),
        (a_grey(6, 8), np.zeros((8, 6)), r"prediction is \[8, 6\]: must be \[6, 8\]"),
        (a_grey(6, 8), np.full((6, 8), 255, np.uint8), "from 255 to 255"),
        (a_grey(6, 8), np.full((6, 8), 0.4), "from 0.4 to 0.4"),
    ],
)
def test_overlay_refuses_what_it_would_draw_wrongly(image, prediction, message):
    """If broken, probabilities or {0, 255} masks are drawn as if they were {0, 1}."""
    with pytest.raises(ValueError, match=message):
        overlay(image, prediction)


@pytest.mark.parametrize(("cases", "size"), [(1, (810, 335)), (3, (810, 805)), (5, (1620, 805))])
def test_sheet_is_a_picture_of_the_promised_size(tmp_path, cases, size):
    """If broken, the sheet is cut, or cases are missing."""
    path = tmp_path / "sheet.png"
    overlay_sheet([a_case(f"case {i}") for i in range(cases)], path, "a title")
    pixels = read(path)
    assert pixels.shape == (size[1], size[0], 3)
    # Each case has three pictures, each about 2.6 by 1.95 inches at 100 dpi, nearly all of it grey image.
    assert count(pixels, (90, 90, 90)) > cases * 3 * 0.8 * 260 * 195 * 0.95


def test_sheet_takes_images_of_any_size_and_any_name(tmp_path):
    """If broken, a camera's large image, a name with a dollar sign, or another script ends evaluation."""
    cases = [
        a_case("a$b_{c$", math.nan),
        a_case("病变", 1.0),
        a_case("n" * 300, 0.0, height=900, width=1300),
        a_case("tall", 0.2, height=400, width=100),
    ]
    overlay_sheet(cases, tmp_path / "sheet.png", "100 $ & 5 _")
    assert read(tmp_path / "sheet.png").shape[1] == 810


def test_sheet_of_nothing_is_an_error(tmp_path):
    """If broken, an empty picture looks like a result."""
    with pytest.raises(ValueError, match="at least one case"):
        overlay_sheet([], tmp_path / "sheet.png")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    """If broken, a full disk leaves half a picture in place of a whole one."""
    path = tmp_path / "a.png"
    save_png(a_grey(6, 8), path)
    before = path.read_bytes()

    def fail(self, file, **_):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_png(a_grey(6, 8), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_save_png_keeps_pixels(tmp_path):
    """If broken, saved masks or overlays are not what was computed."""
    rng = np.random.default_rng(0)
    for shape in ((6, 8, 3), (6, 8)):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        save_png(pixels, tmp_path / "deep" / "a.png")
        with Image.open(tmp_path / "deep" / "a.png") as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
