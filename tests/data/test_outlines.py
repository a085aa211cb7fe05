"""Outlines in COCO and labelme files as the masks of a folder data set."""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg import predict
from jaxseg.config import DataConfig
from jaxseg.data.folder import open_folder
from jaxseg.data.identity import identify
from jaxseg.data.outlines import NoOutlinesError, fill, read_outlines
from jaxseg.errors import UserError
from tests.helpers.bad_files import png_of

SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]
"""A polygon of 20 x 20 pixels in an image of 40 x 30."""

TRUTH = np.zeros((30, 40), np.uint8)
TRUTH[5:25, 10:30] = 1


HUGE = base64.b64encode(png_of(60_000, 60_000)).decode()


def labelme_file(path: Path, *shapes: dict, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"shapes": list(shapes), "imagePath": "a.jpg", "imageHeight": 30, "imageWidth": 40, **changes}
    path.write_text(json.dumps(values))
    return path


def shape(points, label="lesion", kind="polygon", **more) -> dict:
    return {"label": label, "points": points, "shape_type": kind, **more}


def coco_file(path: Path, *segmentations, names=("a.png",), **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": 7 + i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)]
    annotations = [
        {"id": i, "image_id": 7, "category_id": 3, "segmentation": segmentation}
        for i, segmentation in enumerate(segmentations)
    ]
    categories = [{"id": 3, "name": "naevus"}, {"id": 4, "name": "unused"}]
    values = {"images": images, "annotations": annotations, "categories": categories, **changes}
    path.write_text(json.dumps(values))
    return path


def flat(points) -> list[float]:
    return [value for point in points for value in point]


def mask_of(path: Path, name: str = "") -> np.ndarray:
    return read_outlines(path)[name].mask()[..., 0]


@pytest.fixture
def data_set(tmp_path):
    """Returns a data set folder of one image, without a mask."""
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set/masks").mkdir()
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / "set/images/a.png")
    return tmp_path / "set"


def test_pixels_whose_middle_is_inside_are_filled():
    """If broken, masks of outlines are a pixel too large, or shifted by half of one."""
    np.testing.assert_array_equal(fill([np.array(SQUARE)], (30, 40)), TRUTH)
    inner = np.array(SQUARE) + 0.4
    np.testing.assert_array_equal(fill([inner], (30, 40)), TRUTH)
    np.testing.assert_array_equal(fill([np.array(SQUARE) + 0.6], (30, 40)), np.roll(TRUTH, (1, 1), (0, 1)))
    beyond = fill([np.array([[-50, -50], [20, -50], [20, 99], [-50, 99]])], (30, 40))
    np.testing.assert_array_equal(beyond, np.broadcast_to(np.arange(40) < 20, (30, 40)))


def test_labelme_shapes(tmp_path):
    """If broken, a rectangle, a circle, a drawn mask or a hole by labelme is read as something else."""
    path = tmp_path / "a.json"
    hole = shape([[15, 10], [20, 10], [20, 20], [15, 20]], label="_background_")
    expected = TRUTH.copy()
    expected[10:20, 15:20] = 0
    np.testing.assert_array_equal(mask_of(labelme_file(path, shape(SQUARE), hole)), expected)
    np.testing.assert_array_equal(mask_of(labelme_file(path, shape([[30, 25], [10, 5]], kind="rectangle"))), TRUTH)
    circle = mask_of(labelme_file(path, shape([[20, 15], [20, 25]], kind="circle")))
    assert circle.sum() == pytest.approx(np.pi * 100, rel=0.02)
    picture = io.BytesIO()
    Image.fromarray(np.ones((20, 20), bool)).save(picture, "png")
    text = base64.b64encode(picture.getvalue()).decode()
    drawn = shape([[10, 5], [29, 24]], kind="mask", mask=text)
    np.testing.assert_array_equal(mask_of(labelme_file(path, drawn)), TRUTH)


def test_coco_polygons_and_run_lengths(tmp_path):
    """If broken, a COCO file by another tool is read with other pixels; counts run down the columns."""
    path = tmp_path / "coco.json"
    left, right = [[10, 5], [20, 5], [20, 25], [10, 25]], [[20, 5], [30, 5], [30, 25], [20, 25]]
    np.testing.assert_array_equal(mask_of(coco_file(path, [flat(left)], [flat(right)]), "a.png"), TRUTH)
    np.testing.assert_array_equal(mask_of(coco_file(path, [flat(left), flat(right)]), "a.png"), TRUTH)
    counts = [305, 20, *[10, 20] * 19, 305]
    plain = {"size": [30, 40], "counts": counts}
    np.testing.assert_array_equal(mask_of(coco_file(path, plain), "a.png"), TRUTH)
    # By pycocotools 2.0: mask.encode(np.asfortranarray(TRUTH))["counts"].
    packed = {"size": [30, 40], "counts": "a9d0:0000000000000000000000000000000000000W9"}
    np.testing.assert_array_equal(mask_of(coco_file(path, packed), "a.png"), TRUTH)


def test_the_one_called_lesion_is_taken(tmp_path):
    """If broken, hairs or rulers that somebody annotated besides become lesion."""
    ruler = shape([[0, 0], [40, 0], [40, 3]], label="ruler")
    path = labelme_file(tmp_path / "a.json", shape(SQUARE), ruler)
    np.testing.assert_array_equal(mask_of(path), TRUTH)
    path = labelme_file(tmp_path / "a.json", shape(SQUARE, label="naevus"), ruler)
    with pytest.raises(UserError, match=r"labels naevus, ruler: call that of lesions 'lesion'"):
        read_outlines(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shapes": [shape([[1, 1], [2, 2]])]}, "a polygon of 2 points"),
        ({"shapes": [shape([[1, 1], [2, 2]], kind="line")]}, "has a line, which has no area"),
        ({"shapes": [shape([[1, 1], [2, float("nan")], [3, 3]])]}, "no pairs of numbers"),
        ({"shapes": [shape([[1, 1], [2, 1e30], [3, 3]])]}, "no pairs of numbers"),
        ({"shapes": [shape([[1, 1]], kind="mask", mask="!!")]}, "cannot be decoded"),
        ({"shapes": [shape([["x", 1]])]}, "cannot be read"),
        ({"shapes": [shape([[1, 1], [2, 10**400], [3, 3]])]}, "cannot be read"),
        ({"shapes": [shape([[1, 1]], kind="mask", mask=HUGE)]}, "cannot be decoded"),
        ({"shapes": [{}]}, "not as COCO or labelme write it"),
        ({"shapes": 7}, "not as COCO or labelme write it"),
        ({"imageHeight": None}, "an image of 40xNone pixels"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, change, said):
    """If broken, a slip in a JSON file is a traceback, or a mask of nonsense."""
    path = labelme_file(tmp_path / "a.json", shape(SQUARE), **change)
    with pytest.raises(UserError, match=said) as caught:
        read_outlines(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": [{"id": 1, "file_name": f"{n}.png", "width": 4, "height": 3} for n in "ab"]}, "image id 1 twice"),
        ({"categories": [{"id": 3, "name": "naevus"}, {"id": 3, "name": "lesion"}]}, "category id 3 twice"),
        ({"images": [{"id": 7, "file_name": ".", "width": 40, "height": 30}]}, "the file_name '.'"),
        ({"images": [{"id": 999, "file_name": "a.png", "width": 40, "height": 30}]}, "image id 7, which none of its"),
    ],
)
def test_a_coco_file_that_was_joined_by_hand_is_refused(tmp_path, change, said):
    """If broken, outlines go to another image of the same number."""
    path = coco_file(tmp_path / "a.json", [flat(SQUARE)], **change)
    with pytest.raises(UserError, match=said):
        read_outlines(path)


def test_lesion_may_be_spelt_with_a_capital(data_set, caplog):
    """If broken, the images of an annotator who writes "Lesion" train as without one."""
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(data_set / "images/b.png")
    labelme_file(data_set / "masks/a.json", shape(SQUARE))
    labelme_file(data_set / "masks/b.json", shape(SQUARE, label="Lesion"))
    examples = open_folder(DataConfig(name=str(data_set)))
    assert [int(examples.load_mask(i).sum()) for i in range(2)] == [400, 400]
    assert "labels" not in caplog.text


def test_labels_count_over_all_files_of_a_set(data_set, caplog):
    """If broken, an image on which somebody drew hairs alone has these hairs as its lesion."""
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(data_set / "images/b.png")
    labelme_file(data_set / "masks/a.json", shape(SQUARE))
    labelme_file(data_set / "masks/b.json", shape(SQUARE, label="hair"))
    examples = open_folder(DataConfig(name=str(data_set)))
    assert [int(examples.load_mask(i).sum()) for i in range(2)] == [400, 0]
    assert "labels 'lesion' (a.json), 'hair' (b.json); only 'lesion' is taken" in caplog.text
    labelme_file(data_set / "masks/a.json", shape(SQUARE, label="naevus"))
    examples = open_folder(DataConfig(name=str(data_set)))
    assert [int(examples.load_mask(i).sum()) for i in range(2)] == [400, 400]
    assert "a file's only label is taken for lesion, whatever it is; call lesions 'lesion'" in caplog.text


def test_labels_count_over_both_sides_of_a_set(data_set, tmp_path):
    """If broken, validation images on which hairs alone were drawn are scored against these hairs."""
    for side, label in (("train", "lesion"), ("validation", "hair")):
        shutil.copytree(data_set, tmp_path / "both" / side)
        labelme_file(tmp_path / "both" / side / "masks/a.json", shape(SQUARE, label=label))
    for split, area in (("train", 400), ("validation", 0)):
        assert open_folder(DataConfig(name=str(tmp_path / "both")), split).load_mask(0).sum() == area


def test_a_declared_lesion_that_is_never_drawn_leaves_images_without(tmp_path):
    """If broken, a COCO file of images whose hairs alone are annotated has hairs for lesions."""
    categories = [{"id": 3, "name": "hair"}, {"id": 4, "name": "lesion"}]
    assert not mask_of(coco_file(tmp_path / "c.json", [flat(SQUARE)], categories=categories), "a.png").any()


def test_a_box_without_an_outline_is_no_empty_mask(tmp_path):
    """If broken, an image whose lesion has a box alone is learned as one without lesion."""
    path = coco_file(tmp_path / "c.json", [])
    values = json.loads(path.read_text())
    values["annotations"][0]["bbox"] = [1, 2, 3, 4]
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="a box and no outline"):
        read_outlines(path)


def test_run_lengths_of_another_size_are_refused(tmp_path):
    """If broken, a mask that was made for another size of the image is read askew."""
    for counts in ([10, 20], [1200, -1, 1], "abc"):
        with pytest.raises(UserError, match="run-length mask that is not of 40x30"):
            read_outlines(coco_file(tmp_path / "c.json", {"size": [30, 40], "counts": counts}))


def test_a_folder_reads_outlines_as_masks(data_set):
    """If broken, corrected outlines do not come back as training data."""
    for write in (
        lambda: labelme_file(data_set / "masks/a.json", shape(SQUARE)),
        lambda: labelme_file(data_set / "masks/a_contour.json", shape(SQUARE)),
        lambda: coco_file(data_set / "masks/instances_default.json", [flat(SQUARE)]),
        lambda: coco_file(data_set / "masks/coco.json", [flat(SQUARE)], names=["images\\a.png", "gone.png"]),
    ):
        path = write()
        examples = open_folder(DataConfig(name=str(data_set)))
        np.testing.assert_array_equal(examples.load(0).mask[..., 0], TRUTH)
        np.testing.assert_array_equal(examples.load_mask(0)[..., 0], TRUTH)
        inverted = open_folder(DataConfig(name=str(data_set), mask_invert=True))
        np.testing.assert_array_equal(inverted.load(0).mask[..., 0], 1 - TRUTH)
        path.unlink()


def test_an_image_of_a_coco_file_without_annotations_has_no_lesion(data_set):
    """If broken, an image that was looked at and has no lesion has no mask."""
    coco_file(data_set / "masks/c.json")
    assert not open_folder(DataConfig(name=str(data_set))).load(0).mask.any()


def test_two_masks_of_one_image_are_refused(data_set):
    """If broken, it is left to chance whether the corrected outline or the old mask is trained on."""
    labelme_file(data_set / "masks/a.json", shape(SQUARE))
    Image.fromarray(TRUTH * 255).save(data_set / "masks/a.png")
    with pytest.raises(UserError, match="has also the mask"):
        open_folder(DataConfig(name=str(data_set)))


def test_an_image_that_a_coco_file_names_twice_is_told(data_set):
    """If broken, the file is said to stand beside itself, and nobody finds the two entries."""
    coco_file(data_set / "masks/all.json", [flat(SQUARE)], names=("a.png", "photos/a.png"))
    with pytest.raises(UserError, match=r"all.json: names the image a.png twice, as a and photos/a; keep one"):
        open_folder(DataConfig(name=str(data_set)))


def test_a_mask_that_lies_among_the_images_too_is_told(data_set):
    """If broken, a mask copied into images/ takes its own mask away from the photograph, and the advice is wrong."""
    for folder in ("images", "masks"):
        Image.fromarray(TRUTH * 255).save(data_set / folder / "a_mask.png")
    with pytest.raises(
        UserError, match=r"a.png: its mask a_mask.png went to a_mask.png, which lies in .*images as well"
    ):
        open_folder(DataConfig(name=str(data_set)))


def test_outlines_that_were_drawn_on_another_image_are_told(data_set, heard):
    """If broken, files of outlines that changed their names put one lesion's outline on another, in silence."""
    Image.open(data_set / "images/a.png").save(data_set / "images/b.png")
    labelme_file(data_set / "masks/a.json", shape(SQUARE), imagePath="..\\images\\a.png")
    labelme_file(data_set / "masks/b.json", shape(SQUARE), imagePath="photo 7.png")
    open_folder(DataConfig(name=str(data_set)))
    assert "were drawn on another" not in heard.text
    labelme_file(data_set / "masks/b.json", shape(SQUARE), imagePath="../images/a.png")
    open_folder(DataConfig(name=str(data_set)))
    assert "1 labelme files are called like one image, but were drawn on another" in heard.text
    assert "b.json on a.png" in heard.text


def test_outlines_of_another_size_are_refused(data_set):
    """If broken, an outline drawn on a shrunk copy is laid over the large image."""
    labelme_file(data_set / "masks/a.json", shape(SQUARE), imageHeight=15, imageWidth=20)
    with pytest.raises(UserError, match=r"40x30 pixels, but its mask .* has 20x15"):
        open_folder(DataConfig(name=str(data_set)))


def test_other_json_files_are_left_out_and_told(data_set, caplog):
    """If broken, a file of metadata beside the masks ends training, or nobody learns that it is not read."""
    Image.fromarray(TRUTH * 255).save(data_set / "masks/a.png")
    (data_set / "masks/about.json").write_text('{"licence": "CC-0"}')
    assert len(open_folder(DataConfig(name=str(data_set)))) == 1
    assert "left out: " in caplog.text
    with pytest.raises(NoOutlinesError):
        read_outlines(data_set / "masks/about.json")


@pytest.mark.parametrize("orientation", [3, 6])
def test_outlines_are_those_of_the_upright_image(data_set, orientation):
    """If broken, outlines on a photograph with an EXIF orientation are turned away from the lesion."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.rot90(np.full((30, 40, 3), 200, np.uint8), 1 if orientation == 6 else 2)
    (data_set / "images/a.png").unlink()
    Image.fromarray(np.ascontiguousarray(stored)).save(data_set / "images/a.jpg", exif=exif)
    labelme_file(data_set / "masks/a.json", shape(SQUARE))
    example = open_folder(DataConfig(name=str(data_set))).load(0)
    assert example.image.shape == (30, 40, 3)
    np.testing.assert_array_equal(example.mask[..., 0], TRUTH)


@pytest.mark.parametrize("kind", ["labelme", "coco"])
def test_what_predict_writes_comes_back_as_training_data(tiny_run, tmp_path, kind):
    """If broken, the loop of segmenting, correcting and training again changes masks; also of turned photographs."""
    rng = np.random.default_rng(0)
    folder, out = tmp_path / "set/images", tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.png", "sub/b.jpg", "c.jpg"):
        picture = Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
        picture.save(folder / name, **({"exif": exif} if name == "c.jpg" else {}))
    flags = ["--workdir", str(tiny_run), "--input", str(folder), "--output", str(out), "--contours", kind]
    assert predict.main(flags) == 0
    for path in out.rglob("*.json"):
        target = tmp_path / "set/masks" / path.relative_to(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    examples = open_folder(DataConfig(name=str(tmp_path / "set")))
    assert examples.names == ("a", "c", "sub/b")
    for i, name in enumerate(examples.names):
        with Image.open(out / f"{name}_mask.png") as image:
            mask = np.asarray(image) > 0
        assert 0 < mask.mean() < 1
        np.testing.assert_array_equal(examples.load(i).mask[..., 0] > 0, mask)


def test_outlines_of_another_folder_are_another_images(data_set):
    """If broken, a rejected outline becomes the mask of an image that has none, by its file's name."""
    labelme_file(data_set / "masks/rejected/a.json", shape(SQUARE))
    with pytest.raises(UserError, match=r"images/a\.png: no mask in"):
        open_folder(DataConfig(name=str(data_set)))


def test_coco_names_images_and_not_masks(data_set):
    """If broken, what is drawn on the picture a_lesion.png becomes the mask of a.png."""
    coco_file(data_set / "masks/all.json", [flat(SQUARE)], names=("a_lesion.png",))
    with pytest.raises(UserError, match=r"images/a\.png: no mask in"):
        open_folder(DataConfig(name=str(data_set)))


@pytest.mark.parametrize(("names", "told"), [(("images/a.png", "images/b.png"), False), (("a.png", "P2/b.png"), True)])
def test_folders_that_coco_names_are_told_where_they_differ(data_set, heard, names, told):
    """If broken, patient 2's picture gets the outline of another patient's of the same name, in silence."""
    shutil.copy(data_set / "images/a.png", data_set / "images/b.png")
    coco_file(data_set / "masks/all.json", [flat(SQUARE)], names=names)
    assert open_folder(DataConfig(name=str(data_set))).names == ("a", "b")
    assert ("outlines name images in 2 folders that are not below images/" in heard.text) == told


def test_a_mask_setting_that_outlines_do_not_have_is_told(data_set, heard):
    """If broken, `--data.mask-lesion 7` seems to choose a label, and chooses nothing."""
    labelme_file(data_set / "masks/a.json", shape(SQUARE))
    open_folder(DataConfig(name=str(data_set), mask_lesion="7"))
    assert "--data.mask-lesion: says nothing of 1 files of outlines (a.json)" in heard.text


def test_another_file_may_change_what_is_lesion(data_set, tmp_path, monkeypatch):
    """If broken, a run goes on although other files' outlines have lost their lesions: their hashes are kept ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copy(data_set / "images/a.png", data_set / "images/b.png")
    for name in "ab":
        labelme_file(data_set / f"masks/{name}.json", shape(SQUARE, "naevus"))
    before = identify(open_folder(DataConfig(name=str(data_set))))
    labelme_file(data_set / "masks/b.json", shape(SQUARE, "lesion"))
    after = identify(open_folder(DataConfig(name=str(data_set))))
    assert before[0].mask != after[0].mask  # nothing of a.json is lesion now


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([[0.2, 0.2], [0.8, 0.2], [0.8, 0.8]], "coordinates from 0 to 1, shares of the image's sides"),
        ([[2010, 5], [2030, 5], [2030, 25]], "a lesion outside of its image of 40x30 pixels"),
    ],
)
def test_a_lesion_of_which_nothing_lies_in_its_image_is_refused(tmp_path, points, said):
    """If broken, it becomes an empty mask, and the image trains as one without lesion."""
    with pytest.raises(UserError, match=said):
        mask_of(labelme_file(tmp_path / "a.json", shape(points)))
    with pytest.raises(UserError, match=said):
        mask_of(coco_file(tmp_path / "b.json", [flat(points)]), "a.png")
