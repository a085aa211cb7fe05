"""Which cases are shown, and that what is stored of them draws the masks that were scored."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from jaxseg.config import Config
from jaxseg.data import Example, Examples
from jaxseg.evaluation.cases import ON_SHEET, draw_cases, outlines, pick
from jaxseg.evaluation.records import Scored
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Member, Segmenter


@pytest.mark.parametrize("images", [1, 2, 3, 7, 35, 36, 37, 200])
def test_worst_median_and_best_are_picked_and_none_twice(images):
    """If broken, a case is shown twice, or the page's worst cases are not the worst."""
    dice = np.random.default_rng(0).permutation(images) / images
    picked = pick(dice)
    everything = [i for indices in picked.values() for i in indices]
    assert len(everything) == len(set(everything)) == min(images, 36)
    values = {kind: dice[indices] for kind, indices in picked.items()}
    assert all((np.diff(v) > 0).all() for v in values.values())
    assert values["worst"][0] == dice.min()
    if images > 2:
        assert values["best"][-1] == dice.max()
        assert np.median(values["median"]) == pytest.approx(np.median(dice), abs=1 / images)


def filled(path: str, size: tuple[int, int], scale: int) -> np.ndarray:
    """Returns the mask that an SVG path encloses by the even-odd rule, bool, `scale` times as large as its picture."""
    result = np.zeros((size[1] * scale, size[0] * scale), bool)
    for part in path.split("Z")[:-1]:
        points = [tuple(scale * float(v) - 0.5 for v in p.split(",")) for p in part.removeprefix("M").split()]
        layer = Image.new("1", (size[0] * scale, size[1] * scale))
        ImageDraw.Draw(layer).polygon(points, fill=1)
        result ^= np.asarray(layer)
    return result


@pytest.mark.parametrize("scale", [1, 4])
def test_outlines_enclose_the_mask(scale):
    """If broken, outlines on the page are shifted, mirrored, coarser than the picture, or open at the border."""
    size = (120, 80)
    rows, columns = np.mgrid[: size[1] * scale, : size[0] * scale] / scale
    ring = np.hypot(rows - 30, columns - 70)
    mask = ((ring < 25) & (ring > 10)) | (np.hypot(rows - 80, columns) < 30)  # a hole, and a part that the frame cuts
    drawn = filled(outlines(mask.astype(np.uint8), size), size, scale)
    assert mask.sum() > 1000 * scale**2
    # Half a picture's pixel along about 400 pixels of outline.
    assert (drawn != mask).sum() < 200 * scale**2
    shifted = np.roll(mask, scale, axis=1)
    assert (drawn != mask).sum() < (drawn != shifted).sum()


def test_outlines_of_empty_and_full_masks():
    """If broken, a prediction of nothing draws something, or one of everything nothing."""
    size = (30, 20)
    assert outlines(np.zeros((200, 300), bool), size) == ""
    assert filled(outlines(np.ones((200, 300), bool), size), size, 2).mean() > 0.99


class Brightness(Segmenter):
    """Takes what is bright for lesion."""

    def __init__(self):
        self.config, self.image_size = Config().updated({"data.name": "ph2"}), 64
        self.members = (Member(Path("run"), self.config, 1),)

    def stream(self, items):  # noqa: D102
        for tag, image in items:
            yield tag, image[..., 0].astype(np.float32) / 255


def a_set(images: int) -> Examples:
    def load(index: int) -> Example:
        mask = np.zeros((600, 900, 1), np.uint8)
        mask[100:400, 200 : 300 + 10 * index] = 1
        return Example(np.repeat(mask * 200, 3, axis=-1), mask)

    names = tuple(f"sub/im {i}" for i in range(images))
    return Examples("ph2", "validation", names, ("naevus",) * images, load)


def test_cases_are_left_for_the_eye_and_for_the_page(tmp_path):
    """If broken, the page shows other images, scores or outlines than were scored, or large files."""
    each = [{"dice": i / 50, "jaccard": i / 60} for i in range(50)]
    scored = [Scored(i, scores, {}, {}, {}, np.zeros(0), trust=i / 70) for i, scores in enumerate(each)]
    draw_cases(Brightness(), Prediction(), scored, a_set(50), tmp_path)
    cases = json.loads((tmp_path / "cases.json").read_text())["cases"]
    kinds = [case["kind"] for case in cases]
    assert {kind: kinds.count(kind) for kind in kinds} == {"worst": 12, "median": 12, "best": 12}
    worst = cases[0]
    assert {k: worst[k] for k in ("name", "group", "scores", "width", "height")} == {
        "name": "sub/im 0",
        "group": "naevus",
        "scores": each[0],
        "width": 480,
        "height": 320,
    }
    for case in cases:
        index = int(case["name"].split()[1])
        assert case["scores"] == each[index]
        assert case["trust"] == index / 70
        truth = a_set(50).load(index).mask[..., 0]
        for name in ("truth", "prediction"):
            drawn = filled(case[name], (480, 320), 1)
            wanted = np.asarray(Image.fromarray(truth).resize((480, 320)))
            assert (drawn & (wanted > 0)).sum() / (drawn | (wanted > 0)).sum() > 0.9
        for name in ("image", "uncertainty"):
            with Image.open(tmp_path / "cases" / case[name]) as picture:
                assert picture.format == "JPEG"
                assert picture.size == (480, 320)
        with Image.open(tmp_path / "cases" / case["uncertainty"]) as picture:
            doubt = np.asarray(picture)
        # 200 of 255 is a probability of 0.78, which the focal loss means as 0.93; skin has a probability of 0.
        assert doubt[wanted > 0].mean() > doubt[wanted == 0].mean() + 50
    assert len(list((tmp_path / "cases").iterdir())) == 2 * 36
    overlays = sorted(p.name for p in (tmp_path / "overlays").iterdir())
    assert len(overlays) == 3 * ON_SHEET
    assert "worst_sub_im 0.png" in overlays
    assert "best_sub_im 49.png" in overlays
    assert (tmp_path / "cases.png").exists()


def test_pictures_go_with_their_evaluation_alone(tmp_path):
    """If broken, `--overwrite` deletes photographs of the user's, or leaves pictures of older scores among the new."""
    scored = [Scored(i, {"dice": i / 5}, {}, {}, {}, np.zeros(0), trust=0.5) for i in range(5)]
    mine = [tmp_path / "cases" / "77.jpg", tmp_path / "overlays" / "best_mine.png"]
    for path in mine:
        path.parent.mkdir()
        path.write_bytes(b"mine")
    draw_cases(Brightness(), Prediction(), scored, a_set(5), tmp_path)
    assert all(path.read_bytes() == b"mine" for path in mine)
    draw_cases(Brightness(), Prediction(), scored[:3], a_set(3), tmp_path)
    assert len(list((tmp_path / "cases").iterdir())) == 2 * 3
    assert len(list((tmp_path / "overlays").iterdir())) == 3


def test_names_that_are_alike_or_long_have_overlays_of_their_own(tmp_path):
    """If broken, one overlay replaces another, or a long name ends an evaluation after its scores."""
    names = ("a/b", "a_b", "long/" * 60)
    examples = dataclasses.replace(a_set(3), names=names)
    scored = [Scored(i, {"dice": 0.5}, {}, {}, {}, np.zeros(0), trust=0.5) for i in range(3)]
    draw_cases(Brightness(), Prediction(), scored, examples, tmp_path)
    assert len(list((tmp_path / "overlays").iterdir())) == 3
