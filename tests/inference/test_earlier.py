"""What predict finds of earlier calls in its output: nothing of another photograph, mask or model stays in silence."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from jaxseg import predict
from jaxseg.errors import UserError
from tests.helpers.pictures import pixels, save_noise

CORRECTED = np.zeros((40, 61), np.uint8)
CORRECTED[10:20, 10:30] = 255


@pytest.fixture
def photos(tmp_path):
    """Returns a folder of two images."""
    save_noise(tmp_path / "in", {"a.png": (40, 61), "b.png": (40, 61)})
    return tmp_path / "in"


@pytest.fixture
def flags(photos, tiny_run, tmp_path):
    return ["--workdir", str(tiny_run), "--input", str(photos), "--output", str(tmp_path / "out")]


def test_another_photograph_of_the_same_name_is_told(flags, photos, tmp_path, capsys):
    """If broken, a camera's second IMG_0001 with its own, earlier time gets the lesion of the first."""
    assert predict.main([*flags, "--skip-existing"]) == 0
    mask = tmp_path / "out" / "a_mask.png"
    for content, told in ((photos / "b.png", True), (photos / "a.png", False)):
        (tmp_path / "moved.png").write_bytes(content.read_bytes())
        os.utime(tmp_path / "moved.png", (0, 0))
        os.utime(mask, (1, 1))  # as old as a mask of last year
        before = (photos / "a.png").read_bytes()
        (tmp_path / "moved.png").replace(photos / "a.png")
        capsys.readouterr()
        assert predict.main([*flags, "--skip-existing"]) == 0
        assert ("1 images have changed since their masks were made" in capsys.readouterr().err) == told
        (photos / "a.png").write_bytes(before)


def test_a_photograph_of_another_folder_is_told(flags, photos, tmp_path, capsys):
    """If broken, a second patient's IMG_0001, which lay there before the first one's mask was made, gets that mask."""
    save_noise(tmp_path / "b", {"a.png": (40, 61), "c.png": (40, 61)})
    (tmp_path / "b" / "a.png").write_bytes((photos / "b.png").read_bytes())
    assert predict.main(flags) == 0
    flags[flags.index("--input") + 1] = str(tmp_path / "b")
    capsys.readouterr()
    assert predict.main([*flags, "--skip-existing"]) == 0
    assert "1 images have changed since their masks were made, which are kept all the same (a.png)" in (
        capsys.readouterr().err
    )


def test_a_folder_in_the_place_of_a_mask_is_one_line(flags, tmp_path):
    """If broken, a folder that happens to be called like a mask is a traceback."""
    (tmp_path / "out" / "a_mask.png").mkdir(parents=True)
    with pytest.raises(UserError, match=r"a_mask.png: is no picture that can be read; take it away"):
        predict.main([*flags, "--skip-existing"])


@pytest.mark.parametrize("way", [[], ["--skip-existing"], ["--overwrite"]])
def test_results_under_an_earlier_name_are_no_leftovers(flags, photos, tmp_path, way):
    """If broken, a second image of the same name makes a corrected mask the result of no image, and a new one."""
    assert predict.main(flags) == 0
    Image.fromarray(CORRECTED).save(tmp_path / "out" / "a_mask.png")
    save_noise(photos, {"a.jpg": (40, 61)})
    with pytest.raises(UserError, match=r"a_mask.png: is a result by an earlier name of a.jpg, .* a.jpg_mask.png"):
        predict.main([*flags, *way])
    (photos / "a.jpg").unlink()
    (tmp_path / "out" / "a_mask.png").rename(tmp_path / "out" / "a.png_mask.png")
    with pytest.raises(UserError, match=r"a.png_mask.png: is a result by an earlier name of a.png, .* a_mask.png"):
        predict.main([*flags, *way])


def test_a_corrected_mask_is_kept_whatever_program_saved_it(flags, tmp_path):
    """If broken, a mask that reads perfectly is taken for damaged, and the network's is written over it."""
    out = tmp_path / "out"
    assert predict.main(flags) == 0
    Image.fromarray(CORRECTED).save(out / "a_mask.png")
    (out / "a_mask.png").write_bytes((out / "a_mask.png").read_bytes() + b"\n")
    Image.fromarray(CORRECTED).save(out / "b_mask.png", format="BMP")
    assert predict.main([*flags, "--skip-existing", "--measure"]) == 0
    for name in "ab":
        np.testing.assert_array_equal(pixels(out / f"{name}_mask.png"), CORRECTED)
    (out / "b_mask.png").write_text("see Dr. Muster's drawing")
    with pytest.raises(UserError, match=r"b_mask.png: is no picture that can be read; take it away"):
        predict.main([*flags, "--skip-existing"])


@pytest.mark.parametrize("more", [[], ["--overlay"]])
def test_corrected_outlines_are_kept(flags, tmp_path, capsys, more):
    """If broken, outlines that were corrected in the COCO file are drawn anew around the network's mask."""
    path = tmp_path / "out" / "contours_coco.json"
    assert predict.main([*flags, "--contours", "coco", "--threshold", "0.1"]) == 0
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"area": 4, "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]], "corrected_by": "Dr. Muster"}
    path.write_text(json.dumps(content))
    assert predict.main([*flags, "--contours", "coco", "--threshold", "0.1", "--skip-existing", *more]) == 0
    assert json.loads(path.read_text())["annotations"] == content["annotations"]
    assert "the outlines of 1 images are not those of their masks: edited, and kept" in capsys.readouterr().err


def test_outlines_made_otherwise_are_told(flags, tmp_path, capsys):
    """If broken, `--simplify` does nothing beside finished outlines, or they show a mask of another threshold."""
    out, formats = tmp_path / "out", ["--contours", "geojson", "labelme", "svg"]
    said = "6 files of outlines are of another mask, or simplified otherwise than asked for, and are kept"
    assert predict.main([*flags, *formats]) == 0
    assert predict.main([*flags, *formats, "--skip-existing"]) == 0
    assert said not in capsys.readouterr().err
    assert predict.main([*flags, *formats, "--skip-existing", "--simplify", "2"]) == 0
    assert said in capsys.readouterr().err
    for mask in out.glob("*_mask.png"):
        mask.unlink()
    assert predict.main([*flags, *formats, "--skip-existing", "--threshold", "0.9"]) == 0
    assert said in capsys.readouterr().err


def test_a_mask_corrected_by_hand_has_outlines_that_fit(flags, tmp_path, capsys):
    """If broken, outlines of corrected masks are told to be wrong, in every later call."""
    assert predict.main(flags) == 0
    Image.fromarray(CORRECTED).save(tmp_path / "out" / "a_mask.png")
    for _ in range(2):
        assert predict.main([*flags, "--contours", "geojson", "coco", "--skip-existing"]) == 0
    assert "outlines" not in capsys.readouterr().err


def test_coco_outlines_of_another_simplification_are_made_again(flags, tmp_path):
    """If broken, one file holds exact and simplified outlines, and nobody can tell which."""
    path = tmp_path / "out" / "contours_coco.json"
    assert predict.main([*flags, "--contours", "coco", "--threshold", "0.1"]) == 0
    exact = json.loads(path.read_text())["annotations"]
    assert predict.main([*flags, "--contours", "coco", "--threshold", "0.1", "--skip-existing", "--simplify", "4"]) == 0
    simple = json.loads(path.read_text())["annotations"]
    assert len(str(simple)) < len(str(exact))
    assert [a["area"] for a in simple] == [a["area"] for a in exact]


def test_a_mixture_of_thresholds_is_told(flags, photos, tmp_path, capsys):
    """If broken, one table holds areas of two thresholds, and no column tells them apart."""
    save_noise(photos, {"sub/d.png": (40, 61)})
    assert predict.main([*flags, "--measure"]) == 0
    save_noise(tmp_path / "more", {"c.png": (40, 61)})
    more = [*flags[:2], "--input", str(tmp_path / "more"), *flags[4:], "--measure"]
    assert predict.main(more) == 0
    assert "holds lines of" not in capsys.readouterr().err
    assert predict.main([*more, "--threshold", "0.9", "--overwrite"]) == 0
    assert "predictions.csv holds lines of 3 masks by another model, checkpoint or threshold" in capsys.readouterr().err


def test_images_beside_a_data_set_are_told(photos, tiny_run, tmp_path, capsys):
    """If broken, photographs beside images/ are left out, though "3 of 3 images" are segmented."""
    dataset = tmp_path / "set"
    dataset.mkdir()
    photos.rename(dataset / "images")
    others = (
        "loose.png",
        "visit2/c.png",
        "masks/a.png",
        "masks_of_dr_muster/a.png",
        "test/masks/t.png",
        "run/curves.png",
    )
    save_noise(dataset, dict.fromkeys(others, (40, 61)))
    (dataset / "run" / "config.json").write_text("{}")
    flags = ["--workdir", str(tiny_run), "--input", str(dataset), "--output", str(dataset / "out")]
    for way in ([], ["--overwrite"]):
        assert predict.main([*flags, *way]) == 0
        assert "left out 2 images that are not in its images/ (loose.png, visit2/c.png)" in capsys.readouterr().err


def test_labelme_finds_the_image_from_a_linked_folder(photos, tiny_run, tmp_path):
    """If broken, results behind a link name a way to the image that leads nowhere."""
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "far" / "away")
    flags = ["--workdir", str(tiny_run), "--input", str(photos), "--output", str(tmp_path / "out")]
    assert predict.main([*flags, "--contours", "labelme"]) == 0
    path = tmp_path / "out" / "a_contour.json"
    assert (path.resolve().parent / json.loads(path.read_text())["imagePath"]).samefile(photos / "a.png")


def test_outlines_of_a_damaged_mask_are_made_again(flags, tmp_path, capsys):
    """If broken, outlines that nobody has touched are told to be edited, because their mask cannot be read."""
    mask = tmp_path / "out" / "a_mask.png"
    call = [*flags, "--contours", "coco", "--threshold", "0.1", "--skip-existing"]
    assert predict.main(call) == 0
    before = (tmp_path / "out" / "contours_coco.json").read_bytes()
    mask.write_bytes(mask.read_bytes()[:-30])
    assert predict.main(call) == 0
    said = capsys.readouterr().err
    assert "1 files there are damaged, and are written again" in said
    assert "edited" not in said
    assert (tmp_path / "out" / "contours_coco.json").read_bytes() == before
