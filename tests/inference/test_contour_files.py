"""Files of outlines that predict leaves: one for each image, or one COCO file for the folder, which grows."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from jaxseg import predict
from jaxseg.data.outlines import read_outlines
from jaxseg.errors import UserError
from tests.helpers.pictures import pixels, save_noise


@pytest.fixture
def flags(tiny_run, tmp_path):
    """Returns flags for a folder of two images."""
    save_noise(tmp_path / "in", {"a.png": (40, 61), "sub/b.bmp": (40, 61)})
    return ["--workdir", str(tiny_run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]


def test_every_format_is_written_at_once(flags, tmp_path):
    """If broken, a format is missing, or is of another name than --help says."""
    assert predict.main([*flags, "--contours", "geojson", "coco", "labelme", "svg"]) == 0
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    endings = ("mask.png", "contour.geojson", "contour.json", "contour.svg")
    assert found == {
        *(f"{name}_{ending}" for name in ("a", "sub/b") for ending in endings),
        "contours_coco.json",
        "predictions.csv",
    }


def test_outlines_follow_a_mask_corrected_by_hand(flags, tmp_path):
    """If broken, `--skip-existing` draws the outline of what the network found around a corrected mask."""
    out = tmp_path / "out"
    assert predict.main(flags) == 0
    mask = np.zeros((40, 61), np.uint8)
    mask[10:20, 10:30] = 255
    Image.fromarray(mask).save(out / "a_mask.png")
    assert predict.main([*flags, "--skip-existing", "--contours", "coco", "labelme"]) == 0
    for path, name in ((out / "contours_coco.json", "a.png"), (out / "a_contour.json", "")):
        np.testing.assert_array_equal(read_outlines(path)[name].mask()[..., 0] * 255, mask)


def test_outlines_of_masks_that_are_replaced_are_told(flags, tmp_path, capsys):
    """If broken, outlines of other masks lie beside the masks, and nobody is told."""
    out = tmp_path / "out"
    assert predict.main([*flags, "--contours", "coco", "geojson"]) == 0
    assert predict.main([*flags, "--overwrite", "--threshold", "0.9"]) == 0
    assert "3 files of an earlier call show the masks that are replaced now, and stay, as" in capsys.readouterr().err
    for path in out.rglob("*.geojson"):
        os.utime(path, (0, 0))
    assert predict.main([*flags, "--skip-existing", "--threshold", "0.9", "--contours", "coco", "geojson"]) == 0
    assert "2 files are older than the masks that they show, and are kept all the same" in capsys.readouterr().err
    found = read_outlines(out / "contours_coco.json")["a.png"].mask()[..., 0]
    np.testing.assert_array_equal(found > 0, pixels(out / "a_mask.png") > 0)


def test_the_coco_file_grows(flags, tmp_path):
    """If broken, images of an earlier call vanish from the folder's COCO file, or are in it twice."""
    assert predict.main([*flags, "--contours", "coco"]) == 0
    path = tmp_path / "out/contours_coco.json"
    before = json.loads(path.read_text())
    assert [image["file_name"] for image in before["images"]] == ["a.png", "sub/b.bmp"]
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "in/new.png")
    assert predict.main([*flags, "--contours", "coco", "--skip-existing"]) == 0
    after = json.loads(path.read_text())
    assert [image["file_name"] for image in after["images"]] == ["a.png", "new.png", "sub/b.bmp"]
    file_names = {image["id"]: image["file_name"] for image in after["images"]}
    drawn = {file_names[a["image_id"]]: a["segmentation"] for a in after["annotations"]}
    names = {image["id"]: image["file_name"] for image in before["images"]}
    assert all(drawn[names[a["image_id"]]] == a["segmentation"] for a in before["annotations"])
    assert len({a["id"] for a in after["annotations"]}) == len(after["annotations"])


def test_a_coco_file_of_the_user_is_not_replaced(flags, tmp_path):
    """If broken, annotations that took days are lost."""
    path = tmp_path / "out/contours_coco.json"
    path.parent.mkdir()
    for text in ('{"images": [], "annotations": [], "categories": [], "info": {"description": "mine"}}', "{", "[]"):
        path.write_text(text)
        with pytest.raises(UserError, match="is no COCO file by predict"):
            predict.main([*flags, "--contours", "coco", "--overwrite"])
        assert path.read_text() == text


def test_simplified_outlines_have_fewer_corners(flags, tmp_path):
    """If broken, `--simplify` does nothing, or is taken without outlines to simplify."""

    def corners() -> int:
        found = json.loads((tmp_path / "out/a_contour.geojson").read_text())
        return sum(len(ring) for feature in found["features"] for ring in feature["geometry"]["coordinates"])

    assert predict.main([*flags, "--contours", "geojson"]) == 0
    exact = corners()
    assert predict.main([*flags, "--contours", "geojson", "--simplify", "2", "--overwrite"]) == 0
    assert corners() < exact
    with pytest.raises(UserError, match="give --contours too"):
        predict.main([*flags, "--simplify", "2"])


@pytest.mark.parametrize("argv", [["--simplify", "-1"], ["--simplify", "nan"], ["--contours", "dxf"], ["--contours"]])
def test_a_wrong_option_is_one_line(flags, argv):
    """If broken, a slip of the keyboard is a traceback."""
    with pytest.raises(SystemExit) as left:
        predict.main([*flags, *argv])
    assert left.value.code == 2
