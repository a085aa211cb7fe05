"""predict as a user runs it: every kind of image file, folders, names, sizes, mistakes; the numbers of evaluate."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg import evaluate, predict
from jaxseg.data import open_split
from jaxseg.errors import RunError, UserError
from jaxseg.inference import folder as inference_folder
from jaxseg.inference.inputs import find_images
from jaxseg.metrics import COUNTS, SCORES, scores
from tests.helpers.pictures import pixels, save_noise


@pytest.fixture
def pictures(tmp_path):
    """Returns a folder of images of several sizes and kinds, in subfolders, with a text file and a broken image."""
    folder = tmp_path / "in"
    save_noise(folder, {"a.jpg": (40, 61), "sub/b.png": (33, 32), "c.bmp": (10, 200)})
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 20), dtype=np.uint8)).save(folder / "a.tif")
    (folder / "notes.txt").write_text("not an image")
    (folder / "._a.jpg").write_bytes(b"a Mac's companion file")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails/a.jpg").write_bytes((folder / "a.jpg").read_bytes())
    return folder


@pytest.mark.parametrize("better", [False, True])
def test_saved_masks_score_what_evaluate_says(tiny, tiny_run, other_run, tmp_path, better):
    """If broken, predict makes other masks than evaluate scores, with or without what makes predictions better."""
    flags = ["--workdir", str(tiny_run)]
    if better:
        flags += ["--ensemble", str(other_run), "--tta", "--threshold", "0.4", "--largest-component", "--fill-holes"]
    evaluate.main([*flags, "--split", "test", "--out", str(tmp_path / "scores")])
    metrics = json.loads((tmp_path / "scores/metrics.json").read_text())
    rows = {row["name"]: row for row in csv.DictReader((tmp_path / "scores/per_image.csv").read_text().splitlines())}
    examples = open_split(tiny.data, "test")
    (tmp_path / "in").mkdir()
    for i, name in enumerate(examples.names):
        Image.fromarray(examples.load(i).image).save(tmp_path / f"in/{name}.png")
    assert predict.main([*flags, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 0
    each, pooled = [], dict.fromkeys(COUNTS, 0)
    for i, name in enumerate(examples.names):
        mask, truth = pixels(tmp_path / f"out/{name}_mask.png") > 0, examples.load(i).mask[..., 0] > 0
        pairs = {"tp": mask & truth, "fp": mask & ~truth, "fn": ~mask & truth, "tn": ~mask & ~truth}
        counts = {kind: int(where.sum()) for kind, where in pairs.items()}
        assert counts == {kind: int(rows[name][kind]) for kind in COUNTS}
        pooled = {kind: pooled[kind] + counts[kind] for kind in COUNTS}
        each.append(scores(counts))
    for name in SCORES:
        # The scores are equal; their sum may be taken in another order.
        assert metrics["native"]["per_image"][name] == pytest.approx(np.mean([s[name] for s in each]), rel=1e-14)
        assert metrics["native"]["pooled"][name] == scores(pooled)[name]


def test_predict_keeps_sizes_names_and_folders(tiny_run, pictures, tmp_path):
    """If broken, a mask has the network's size, loses its folder, or overwrites that of a.jpg with that of a.tif."""
    out = tmp_path / "out"
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(out)]
    assert predict.main([*flags, "--overlay", "--probabilities"]) == 0
    sizes = {str(p.relative_to(out)): pixels(p).shape for p in out.rglob("*_mask.png")}
    assert sizes == {
        "a.jpg_mask.png": (40, 61),
        "a.tif_mask.png": (20, 20),
        "c_mask.png": (10, 200),
        "sub/b_mask.png": (33, 32),
    }
    mask = pixels(out / "sub/b_mask.png")
    assert set(np.unique(mask)) <= {0, 255}
    image = pixels(pictures / "sub/b.png")
    probability = jaxseg.Segmenter.load(tiny_run)(image)
    np.testing.assert_array_equal(mask > 0, probability > 0.5)
    saved = pixels(out / "sub/b_probability.png")
    np.testing.assert_allclose(saved / 255, probability, atol=0.5 / 255 + 1e-6)
    assert pixels(out / "c_overlay.png").shape == (10, 200, 3)


def test_a_bad_image_does_not_stop_the_rest(tiny_run, pictures, tmp_path, capsys):
    """If broken, one truncated file among a thousand ends the run, or goes unnoticed."""
    (pictures / "sub/bad.jpg").write_bytes((pictures / "a.jpg").read_bytes()[:300])
    (pictures / "empty.png").write_bytes(b"")
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 1
    *_, summary, first, second = capsys.readouterr().err.splitlines()
    assert "4 of 6 images segmented" in summary
    assert "not segmented:" in first
    assert "empty.png: the file is empty" in first
    assert "bad.jpg: cannot be decoded" in second
    assert len(list((tmp_path / "out").rglob("*_mask.png"))) == 4


def test_a_name_too_long_for_its_results_does_not_stop_the_rest(tiny_run, pictures, tmp_path, capsys):
    """If broken, one long name among a thousand ends the run."""
    (pictures / "a.jpg").rename(pictures / f"{'n' * 245}.jpg")
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 1
    *_, summary, failure = capsys.readouterr().err.splitlines()
    assert "3 of 4 images segmented" in summary
    assert "its name is too long for the names of its results; rename it" in failure


def test_predict_overwrites_nothing(tiny_run, pictures, tmp_path):
    """If broken, a user's corrected masks are replaced by running predict again."""
    flags = ["--workdir", str(tiny_run), "--input", str(pictures / "a.jpg"), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 0
    with pytest.raises(UserError, match=r"a_mask.png: is there already; --overwrite replaces it"):
        predict.main(flags)
    assert predict.main([*flags, "--overwrite"]) == 0


def test_an_output_inside_the_input_is_no_input(tiny_run, pictures):
    """If broken, running twice segments the first run's masks."""
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(pictures / "masks"), "--overwrite"]
    for _ in range(2):
        assert predict.main(flags) == 0
    assert len(list((pictures / "masks").rglob("*.png"))) == 4


def test_photographs_in_the_output_folder_are_told(pictures, heard):
    """If broken, the photographs of a subfolder that is named as the output are left out without a word."""
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(pictures / "sub/late.jpg")
    found = find_images(pictures, pictures / "sub")
    assert "late" not in [image.source.stem for image in found]
    assert "left out 2 pictures in the output folder (b.png, late.jpg); give another --output" in heard.text


def test_pictures_that_are_named_like_masks_are_told(pictures, tmp_path, heard):
    """If broken, who keeps masks beside the photographs gets masks of masks, with trust, and not a word."""
    find_images(pictures, tmp_path / "out")
    assert "named like masks" not in heard.text
    for name in ("a_segmentation.png", "lonely_mask.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(pictures / name)
    assert len(find_images(pictures, tmp_path / "out")) == 6
    assert "1 pictures are named like masks of others, and are segmented" in heard.text
    assert "(a_segmentation.png)" in heard.text


def test_folders_of_masks_are_known_in_any_case(pictures, tmp_path, heard):
    """If broken, masks in Masks/ beside Images/ are segmented like photographs."""
    for name in ("Images/x.jpg", "Masks/x.png"):
        path = pictures / "set" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(path)
    found = [image.source.name for image in find_images(pictures, tmp_path / "out")]
    assert "x.jpg" in found
    assert "x.png" not in found
    assert "left out the masks of 1 data sets in there" in heard.text


def test_no_two_images_share_a_mask(tmp_path):
    """If broken, the mask of one image silently replaces that of another."""
    names = ["a.jpg", "a.png", "a.jpg.png", "b.jpg", "b.jpg.png", "sub/a.jpg", "C.jpg", "c.png"]
    (tmp_path / "in/sub").mkdir(parents=True)
    for name in names:
        (tmp_path / "in" / name).touch()
    images = find_images(tmp_path / "in", tmp_path / "out")
    assert sorted(str(image.source.relative_to(tmp_path / "in")) for image in images) == sorted(names)
    # Without regard to case, as on Windows and macOS.
    assert len({str(image.products["mask"]).casefold() for image in images}) == len(names)


def test_a_mask_that_cannot_be_written_ends_in_one_line(tiny_run, pictures, tmp_path, monkeypatch):
    """If broken, a full disk is a traceback out of a thread, or goes unnoticed."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inference_folder, "save_png", full)
    with pytest.raises(RunError, match=r"a\.jpg_mask\.png: cannot be written \(No space left on device\)"):
        predict.main(["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(tmp_path / "out")])


def test_predict_goes_on_where_it_stopped(tiny_run, pictures, tmp_path, capsys):
    """If broken, a call that ran out of memory or time at image 9,000 of 10,000 begins again, or replaces masks."""
    out = tmp_path / "out"
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(out)]
    assert predict.main(flags) == 0
    whole = {path: path.read_bytes() for path in out.rglob("*.png")}
    (out / "c_mask.png").unlink()
    corrected = out / "sub/b_mask.png"
    Image.fromarray(np.full((33, 32), 255, np.uint8)).save(corrected)
    by_hand = corrected.read_bytes()
    capsys.readouterr()
    assert predict.main([*flags, "--skip-existing", "--batch-size", "1"]) == 0
    said = capsys.readouterr().err
    assert "3 of 4 images were segmented before and are kept" in said
    assert "1 of 1 images segmented" in said
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == {**whole, corrected: by_hand}
    assert predict.main([*flags, "--skip-existing", "--probabilities"]) == 0, "the missing kind alone is written"
    assert corrected.read_bytes() == by_hand
    assert len(list(out.rglob("*_probability.png"))) == 4


@pytest.mark.parametrize("other", [["--threshold", "0.4"], ["--tta"], ["--fill-holes"], ["--workdir"]])
def test_masks_of_two_kinds_are_not_mixed(tiny_run, other_run, pictures, tmp_path, other):
    """If broken, `--skip-existing` leaves a folder of masks by two models or thresholds, and nobody can tell."""
    flags = ["--workdir", str(tiny_run), "--input", str(pictures / "a.jpg"), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 0
    other = [*other, str(other_run)] if other == ["--workdir"] else other
    with pytest.raises(UserError, match=r"a_mask\.png: was made by another model, checkpoint or threshold"):
        predict.main([*flags, *other, "--skip-existing"])
    assert predict.main([*flags, *other, "--overwrite"]) == 0
    assert predict.main([*flags, *other, "--skip-existing"]) == 0


def test_skipping_and_overwriting_exclude_each_other(capsys):
    """If broken, one of two contrary flags is ignored in silence."""
    with pytest.raises(SystemExit):
        predict.main(["--workdir", "w", "--input", "i", "--output", "o", "--overwrite", "--skip-existing"])
    assert "--skip-existing: not allowed with argument --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_a_wrong_batch_size_is_one_line(value, capsys):
    """If broken, an impossible batch size is a traceback after the model was loaded."""
    with pytest.raises(SystemExit):
        predict.main(["--workdir", "w", "--input", "i", "--output", "o", "--batch-size", value])
    assert value in capsys.readouterr().err


def test_a_batch_of_its_own_gives_the_same_masks(tiny_run, pictures, tmp_path):
    """If broken, less memory means other masks."""
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output"]
    assert predict.main([*flags, str(tmp_path / "a")]) == 0
    assert predict.main([*flags, str(tmp_path / "b"), "--batch-size", "3"]) == 0
    for path in (tmp_path / "a").rglob("*.png"):
        # XLA may sum in another order for another size of batch, which may move a pixel at the threshold.
        other = pixels(tmp_path / "b" / path.relative_to(tmp_path / "a"))
        assert np.mean(pixels(path) != other) < 1e-2


def test_a_single_image_may_name_its_mask(tiny_run, pictures, tmp_path):
    """If broken, `--output mask.png` makes a folder of that name."""
    flags = ["--workdir", str(tiny_run), "--input", str(pictures / "a.jpg"), "--output", str(tmp_path / "new/m.png")]
    assert predict.main([*flags, "--overlay"]) == 0
    assert pixels(tmp_path / "new/m.png").shape == (40, 61)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["m.png", "m_overlay.png"]
    with pytest.raises(UserError, match=r"m\.png: is there already"):
        predict.main(flags)
    (tmp_path / "folder.png").mkdir()
    assert predict.main([*flags[:-1], str(tmp_path / "folder.png")]) == 0
    assert (tmp_path / "folder.png/a_mask.png").is_file()


@pytest.mark.parametrize(
    ("source", "output", "said"),
    [
        ("a.jpg", "mask.jpg", r"masks are PNG files; give .*mask\.png, or a folder"),
        ("", "masks.png", "is named like one image, but --input is a folder"),
        ("a.png", "in/a.png", "is the input image; give another file"),
    ],
)
def test_an_output_that_cannot_be_meant_is_one_line(pictures, tmp_path, source, output, said):
    """If broken, a slip makes a folder named like an image, a JPEG mask, or replaces the photograph itself."""
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(pictures / "a.png")
    with pytest.raises(UserError, match=said):
        find_images(pictures / source, tmp_path / output)


def test_what_is_left_out_is_named(tiny_run, pictures, tmp_path, capsys):
    """If broken, photographs vanish without a word: "3 of 3 images segmented", though there were nine (case 08)."""
    picture = Image.open(pictures / "a.tif").convert("RGB")
    for name, kind in {
        "b.jfif": "jpeg",
        "e.jp2": "jpeg2000",
        "d.gif": "gif",
        "IMG_0001": "jpeg",
        "f.ppm": "ppm",
    }.items():
        picture.save(pictures / name, kind)
    (pictures / "x.raw").write_bytes(b"\0" * 100)
    (pictures / "README").write_text("no image")
    (pictures / "Thumbs.db").write_bytes(b"of the system")
    (tmp_path / "elsewhere").mkdir()
    picture.save(tmp_path / "elsewhere/x.png")
    (pictures / "patient2").symlink_to(tmp_path / "elsewhere")
    (pictures / "patient2/again").symlink_to(pictures)
    out = tmp_path / "out"
    assert predict.main(["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(out)]) == 0
    said = capsys.readouterr().err
    assert "10 of 10 images segmented" in said
    masks = {str(path.relative_to(out)) for path in out.rglob("*_mask.png")}
    names = {"a.jpg", "a.tif", "c", "sub/b", "b", "d", "e", "f", "IMG_0001", "patient2/x"}
    assert masks == {f"{name}_mask.png" for name in names}
    (line,) = [line for line in said.splitlines() if "left out" in line]
    for named in ("notes.txt", "x.raw", "README", "patient2/again"):
        assert named in line


def test_of_a_data_set_only_the_images_are_segmented(tiny_run, pictures, tmp_path, capsys):
    """If broken, `predict --input` of a data set segments its masks too, as if they were photographs (case 14)."""
    (pictures / "sub").rename(tmp_path / "images")
    for folder in (tmp_path / "set", tmp_path / "all/train"):
        (folder / "masks").mkdir(parents=True)
        Image.fromarray(np.zeros((33, 32), np.uint8)).save(folder / "masks/b.png")
        (folder / "images").mkdir()
        (folder / "images/b.png").write_bytes((tmp_path / "images/b.png").read_bytes())
    flags = ["--workdir", str(tiny_run), "--input"]
    assert predict.main([*flags, str(tmp_path / "set"), "--output", str(tmp_path / "out")]) == 0
    assert "set is a data set: the images in its images/ are segmented, not its masks" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").rglob("*.png")] == ["b_mask.png"]
    assert predict.main([*flags, str(tmp_path / "all"), "--output", str(tmp_path / "out2")]) == 0
    assert "left out the masks of 1 data sets" in capsys.readouterr().err
    assert [str(p.relative_to(tmp_path / "out2")) for p in (tmp_path / "out2").rglob("*.png")] == [
        "train/images/b_mask.png"
    ]


def test_an_output_that_is_a_file_is_refused(tiny_run, pictures, tmp_path):
    """If broken, --output and --input mixed up ends in a traceback."""
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is a file; give a folder"):
        predict.main(["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(tmp_path / "out")])


@pytest.mark.parametrize(("name", "said"), [("nowhere", "no such file or folder"), ("empty", "no images in there")])
def test_predict_without_images(tiny_run, tmp_path, name, said):
    """If broken, a mistyped input folder is "0 images segmented" with exit code 0."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=said):
        predict.main(["--workdir", str(tiny_run), "--input", str(tmp_path / name), "--output", str(tmp_path / "out")])


def test_what_is_there_but_damaged_or_of_another_image_is_told(pictures, tiny_run, tmp_path, capsys):
    """If broken, `--skip-existing` keeps half a mask, or the mask of an image that was replaced, without a word."""
    (pictures / "a.tif").unlink()
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(tmp_path / "out")]
    assert predict.main(flags) == 0
    masks = [tmp_path / "out" / name for name in ("a_mask.png", "c_mask.png", "sub/b_mask.png")]
    sound = [mask.read_bytes() for mask in masks]
    masks[0].write_bytes(sound[0][:-9])
    masks[1].write_bytes(b"")
    save_noise(pictures, {"sub/b.png": (33, 32)})
    os.utime(pictures / "sub/b.png", (masks[2].stat().st_mtime + 5,) * 2)
    assert predict.main([*flags, "--skip-existing"]) == 0
    assert [mask.read_bytes() for mask in masks] == sound
    said = capsys.readouterr().err
    assert "2 files there are damaged, and are written again, as " in said
    assert "1 images have changed since their masks were made, which are kept all the same (b.png)" in said
    save_noise(pictures, {"c.bmp": (20, 20)})
    assert predict.main([*flags, "--skip-existing"]) == 1
    said = capsys.readouterr().err
    assert f"c_mask.png: has 200x10 pixels, but {pictures / 'c.bmp'} has 20x20; take the mask away" in said


def test_results_beside_the_images_are_no_images(pictures, tiny_run, capsys):
    """If broken, masks of an earlier call that lie in the folder of the images are segmented as photographs."""
    (pictures / "a.tif").unlink()
    flags = ["--workdir", str(tiny_run), "--input", str(pictures), "--output"]
    assert predict.main([*flags, str(pictures / "masks"), "--overlay"]) == 0
    assert predict.main([*flags, str(pictures / "again")]) == 0
    assert "left out 6 pictures that predict made, as masks/a_mask.png" in capsys.readouterr().err
    assert len(list((pictures / "again").rglob("*_mask.png"))) == 3
