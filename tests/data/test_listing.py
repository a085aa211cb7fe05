"""Which files count as images, and that every other one is named and counted."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.config import DataConfig
from jaxseg.config.datasets import DATA_SETS, nearest
from jaxseg.data import absolute, open_split, training_splits
from jaxseg.data.folds import folds
from jaxseg.data.images import decode_image
from jaxseg.data.listing import SUFFIXES, list_images
from jaxseg.errors import UserError
from tests.helpers.skin import folder, grey, pair, save


def test_names_that_are_no_utf8_are_left_out_and_told(tmp_path):
    """If broken, a name from an old archive ends a run in a traceback, hours later."""
    folder(tmp_path)
    for part in ("images", "masks"):
        (tmp_path / part / "img03.png").rename(os.fsdecode(os.fsencode(tmp_path / part) + b"/caf\xe9.png"))
    listing = list_images(tmp_path / "images")
    assert len(listing.images) == 9
    assert "1 with a name that is not UTF-8: rename it (caf\N{REPLACEMENT CHARACTER}.png)" in listing.sentence()
    assert len(open_split(DataConfig(name=str(tmp_path)), "all")) == 9


def test_names_cannot_break_a_line(tmp_path):
    """If broken, a file's name writes lines and colours of its own into the log."""
    (tmp_path / "a\nb\x1b[31m.txt").write_bytes(b"x")
    assert list_images(tmp_path).sentence().isprintable()


def test_what_is_left_out_is_named_and_counted(tmp_path, monkeypatch):
    """If broken, images that jaxseg does not read are missing from results, and nobody is told."""
    monkeypatch.setattr("jaxseg.data.listing.HAS_HEIF", False)
    image = pair(0)[0]
    for name in ("a.jpg", "b.jfif.jpg", "c.jp2", "d.GIF", "part/e.png"):
        save(tmp_path / name, image)
    (tmp_path / "b.jfif.jpg").rename(tmp_path / "b.jfif")
    for name in ("IMG_0001", "phone.HEIC", "notes.txt", "f_superpixels.png", "Thumbs.db", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "linked").symlink_to(tmp_path / "part")
    (tmp_path / "part" / "round").symlink_to(tmp_path)
    listing = list_images(tmp_path)
    assert [path.name for path in listing.images] == ["a.jpg", "b.jfif", "c.jp2", "d.GIF", "e.png"]
    sentence = listing.sentence()
    for said in (
        "1 without an ending (IMG_0001)",
        "1 HEIC, which `pip install pillow-heif`",
        "notes.txt",
        "superpixels",
    ):
        assert said in sentence
    assert "not counted: 2 hidden or system files" in sentence
    assert "\n" not in sentence


def test_a_folder_of_images_alone_leaves_nothing_to_say(tmp_path):
    """If broken, every run begins with a line about nothing."""
    save(tmp_path / "a.png", pair(0)[0])
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert list_images(tmp_path).sentence() == ""


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s not in (".avif", ".j2c", ".jpc", ".j2k", ".jpf", ".jpx")])
def test_every_ending_that_counts_can_be_read(suffix, tmp_path):
    """If broken, a file is listed as an image and then ends the run."""
    kind = {".jfif": "jpeg", ".jpe": "jpeg", ".apng": "png", ".jp2": "jpeg2000"}.get(suffix)
    image = Image.fromarray(pair(0)[0])
    mode = {".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")
    path = save(tmp_path / f"a{suffix}", image.convert(mode), **({"format": kind} if kind else {}))
    assert list_images(tmp_path).images == (path,)
    assert decode_image(path).shape == (48, 64, 3)


def test_subfolders_have_their_twins_in_masks(tmp_path):
    """If broken, half of the images are not trained on, without a word."""
    folder(tmp_path, 3)
    for number in (3, 4):
        image, mask = pair(number)
        save(tmp_path / "images" / "part_2" / f"img{number:02d}.png", image)
        save(tmp_path / "masks" / "part_2" / f"img{number:02d}_mask.png", grey(mask))
    examples = open_split(DataConfig(name=str(tmp_path)), "all")
    assert examples.names == ("img00", "img01", "img02", "part_2/img03", "part_2/img04")
    np.testing.assert_array_equal(examples.load(4).mask[..., 0], pair(4)[1])


def test_heic_is_trained_on_where_pillow_heif_is_installed(tmp_path):
    """If broken, photographs of a telephone are left out although the package for them is there."""
    heif = pytest.importorskip("pillow_heif", reason="the extra `heic`")
    folder(tmp_path, 3)
    image, mask = pair(3)
    heif.from_pillow(Image.fromarray(image)).save(tmp_path / "images" / "phone.HEIC", quality=95)
    save(tmp_path / "masks" / "phone.png", grey(mask))
    examples = open_split(DataConfig(name=str(tmp_path)), "all")
    assert examples.names == ("img00", "img01", "img02", "phone")
    assert np.abs(examples.load(3).image.astype(int) - image).mean() < 12


def test_superpixels_beside_the_images_are_left_out(tmp_path, heard):
    """If broken, ISIC 2017 as unpacked is refused for want of masks of its superpixels."""
    folder(tmp_path, 3)
    save(tmp_path / "images" / "img00_superpixels.png", pair(0)[0])
    assert len(open_split(DataConfig(name=str(tmp_path)), "all")) == 3
    assert "1 superpixels of ISIC" in heard.text


def test_decomposed_names_of_macos_pair_up(tmp_path):
    """If broken, an image with an accent in its name has no mask once one of both came from a Mac."""
    image, mask = pair(0)
    for name in ("é", "ñandú"):
        save(tmp_path / "images" / f"{unicodedata.normalize('NFD', name)}.png", image)
        save(tmp_path / "masks" / f"{unicodedata.normalize('NFC', name)}.png", grey(mask))
    assert sorted(open_split(DataConfig(name=str(tmp_path)), "all").names) == ["é", "ñandú"]


@pytest.mark.parametrize("typed", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_a_folder_is_found_in_either_form_of_unicode(typed, stored, tmp_path):
    """If broken, a folder from a Mac is "no folder" although it is listed under the very name that was typed."""
    root = folder(tmp_path / unicodedata.normalize(stored, "Läsionen") / "é", 3)
    config = absolute(DataConfig(name=unicodedata.normalize(typed, f"{tmp_path}/Läsionen/é")))
    assert config.name == str(root.resolve())
    assert len(open_split(config, "all")) == 3


def test_the_folder_of_the_images_names_its_parent(tmp_path):
    """If broken, who gives images/ itself is told of layouts, and not what to type."""
    folder(tmp_path, 3)
    with pytest.raises(UserError, match=rf"has no folder images/ in it.*; give {tmp_path}$"):
        open_split(DataConfig(name=str(tmp_path / "images")), "all")


def test_a_known_name_goes_before_a_folder(tmp_path, monkeypatch, heard):
    """If broken, `--data synthetic` means another set in another working folder."""
    folder(tmp_path / "synthetic", 3)
    monkeypatch.chdir(tmp_path)
    assert absolute(DataConfig(name="synthetic")).name == "synthetic"
    assert "synthetic is the known data set; the folder of that name" in heard.text
    assert open_split(DataConfig(name="synthetic", synthetic_eval=2), "test").dataset == "synthetic"
    assert absolute(DataConfig(name="./synthetic")).name == str(tmp_path / "synthetic")
    assert len(open_split(DataConfig(name="./synthetic"), "all")) == 3


@pytest.mark.parametrize(
    ("typed", "said"),
    [("phd2", "'ph2'"), ("PH2", "'ph2'"), ("isic2061", "'isic2016'"), ("isic2019", ""), ("isic2020", "")],
)
def test_another_year_is_never_suggested(typed, said):
    """If broken, who asks for ISIC 2019 is sent to ISIC 2016, which is another set."""
    assert nearest(typed) == (f"; did you mean {said}?" if said else "")
    assert {"isic2017", "isic2018"} <= DATA_SETS.keys()


def own_sides(root: Path) -> DataConfig:
    folder(root / "train", 6)
    folder(root / "validation", 3, first=4)
    return DataConfig(name=str(root))


def test_own_validation_images_validate(tmp_path):
    """If broken, the images that a user has set aside for validation are trained on."""
    config = own_sides(tmp_path)
    train, validation = training_splits(config)
    assert train.names == tuple(f"train/img{i:02d}" for i in range(6))
    assert validation.names == tuple(f"validation/img{i:02d}" for i in (4, 5, 6))
    assert len(open_split(config, "all")) == 9
    np.testing.assert_array_equal(validation.load(2).mask[..., 0], pair(6)[1])


def test_three_images_train_with_a_sentence(tmp_path, heard):
    """If broken, who tries three images is told of five folds that nobody asked for."""
    train, validation = training_splits(DataConfig(name=str(folder(tmp_path, 3))))
    assert (len(train), len(validation), train.few) == (2, 1, True)
    assert "only 3 images: one is held out" in heard.text


def csv_of(path: Path, rows: dict[str, str], header: str = "") -> str:
    path.write_text("".join(f"{line}\n" for line in [header, *(f"{k},{v}" for k, v in rows.items())] if line))
    return str(path)


@pytest.mark.parametrize("header", ["", "image,group", "image_id,lesion_id"])
def test_groups_stay_on_one_side(header, tmp_path):
    """If broken, one lesion is trained on and scored, and the score is too good."""
    folder(tmp_path, 12)
    groups = {f"img{i:02d}.png": f"lesion{i // 3}" for i in range(12)}
    config = DataConfig(name=str(tmp_path), groups=csv_of(tmp_path / "groups.csv", groups, header))
    scored = []
    for settings in ({}, *({"folds": 4, "fold": fold} for fold in range(4))):
        train, validation = training_splits(DataConfig(**{**vars(config), **settings}))
        assert not set(train.kept_together) & set(validation.kept_together)
        assert len(train) + len(validation) == 12
        scored += validation.names if settings else ()
    assert sorted(scored) == [f"img{i:02d}" for i in range(12)]


@pytest.mark.parametrize("path", [r"C:\data\images\{}.JPG", "images/{}.png", "/data/images/{}", "./{}.png"])
def test_groups_may_name_images_by_their_paths(path, tmp_path):
    """If broken, a table of another machine, whose paths end in the images' names, is refused."""
    folder(tmp_path, 6)
    rows = {path.format(f"img{i:02d}"): f"p{i // 2}.0" for i in range(6)}
    groups = csv_of(tmp_path / "groups.csv", rows, "\nimage,group")
    examples = open_split(DataConfig(name=str(tmp_path), groups=groups), "all")
    assert examples.kept_together == ("p0.0", "p0.0", "p1.0", "p1.0", "p2.0", "p2.0")


def test_groups_that_pandas_wrote_as_decimals_are_whole_numbers(tmp_path):
    """If broken, patient 7 is trained on, and patient 7.0 is scored."""
    folder(tmp_path, 4)
    groups = csv_of(tmp_path / "groups.csv", {"img00": "7", "img01": "7.0", "img02": "70", "img03": "8"})
    examples = open_split(DataConfig(name=str(tmp_path), groups=groups), "all")
    assert examples.kept_together == ("7", "7", "70", "8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("img01,b\nimg1,a\n", "(img00, img02), but other images have (img1)"),
        ("img00,a\nimg01,b\n", "1 of 3 images have no line in it (img02)"),
        ("img00,a\nimg01,b\nimg02\n", "line 3 has no group"),
        ("img00,a\nimg01,b\nimg02,c\nimg00,c\n", "puts img00 in group c, an earlier line in a"),
        ("img00,a,x\n", "has 3 columns"),
        ("", "is empty"),
    ],
)
def test_an_unsound_groups_file_is_one_line(content, said, tmp_path):
    """If broken, an image without a group is split as if it were a lesion of its own."""
    folder(tmp_path, 3)
    (tmp_path / "groups.csv").write_text(content)
    with pytest.raises(UserError, match=r"--data\.groups") as caught:
        training_splits(DataConfig(name=str(tmp_path), groups=str(tmp_path / "groups.csv")))
    assert said in str(caught.value)


@pytest.mark.parametrize("unknown", ["nan", "NA", "None", "unknown"])
def test_what_stands_for_no_group_is_no_group(unknown, tmp_path):
    """If broken, all images of unknown patients are one group, which trains or validates as a whole."""
    folder(tmp_path, 3)
    groups = csv_of(tmp_path / "groups.csv", {"img00": "a", "img01": unknown, "img02": unknown})
    with pytest.raises(UserError, match=f"line 2 has no group but '{unknown}'.*a group of its own"):
        training_splits(DataConfig(name=str(tmp_path), groups=groups))


def test_groups_that_are_spelt_differently_stay_on_one_side(tmp_path):
    """If broken, a patient whose number is written in two ways is trained on and validated on."""
    folder(tmp_path / "train", 4)
    folder(tmp_path / "validation", 4, first=4)
    groups = {f"{'train' if i < 4 else 'validation'}/img{i:02d}": f"P{i}" for i in range(8)}
    config = DataConfig(name=str(tmp_path), groups=csv_of(tmp_path / "groups.csv", groups | {"validation/img06": "p2"}))
    with pytest.raises(UserError, match=r"as P2 \(train/img02 and validation/img06\)"):
        training_splits(config)


def test_groups_that_are_spelt_differently_are_one(tmp_path, heard):
    """If broken, patient "P7" is trained on and patient "p7 " is scored."""
    folder(tmp_path, 12)
    groups = {f"img{i:02d}": f"p{i // 2}" if i % 2 else f" P {i // 2}" for i in range(12)}
    config = DataConfig(name=str(tmp_path), groups=csv_of(tmp_path / "groups.csv", groups))
    train, validation = training_splits(config)
    assert sorted(validation.names)[::2] == [f"img{int(name[3:]) - 1:02d}" for name in sorted(validation.names)[1::2]]
    assert (len(set(train.kept_together)), len(set(validation.kept_together))) == (len(train) / 2, len(validation) / 2)
    assert "differ in case or spaces alone are taken for one: 'p0' and 'P 0'" in heard.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_of_two_columns_of_groups_the_one_that_counts_is_told(encoding, tmp_path, heard):
    """If broken, images are grouped by lesion where the patient was meant, or a spreadsheet's mark hides a column."""
    folder(tmp_path, 6)
    lines = ["image;lesion_id;patient_id", *(f"img{i:02d}.JPG;l{i};p{i // 3}" for i in range(6))]
    (tmp_path / "groups.csv").write_text("\n".join(lines), encoding=encoding)
    examples = open_split(DataConfig(name=str(tmp_path), groups=str(tmp_path / "groups.csv")), "all")
    assert examples.kept_together == tuple(f"l{i}" for i in range(6))
    assert "the groups are those of the column lesion_id, not of patient_id" in heard.text


@pytest.mark.parametrize(("sides", "said"), [((), "train/ and validation/"), (("train", "validation"), "test/")])
def test_images_in_other_folders_are_told(sides, said, tmp_path, heard):
    """If broken, `train/` and `validation/` beside `images/`, or a `test/`, are left out in silence."""
    for side in sides or ("train", "validation", "."):
        folder(tmp_path / side, 6)
    if sides:
        folder(tmp_path / "test", 2)
    training_splits(DataConfig(name=str(tmp_path)))
    assert heard.text.count("with images/ of their own") == 1
    assert f"left out {said}, with images/ of their own" in heard.text


def test_images_of_several_frames_are_told(tmp_path, heard):
    """If broken, one frame of an animation or one page of a scan is trained on, and nobody knows which."""
    folder(tmp_path, 3)
    frames = [Image.fromarray(pair(number)[0]) for number in range(2)]
    frames[0].save(tmp_path / "images" / "img00.png", save_all=True, append_images=frames[1:])
    examples = open_split(DataConfig(name=str(tmp_path)), "all")
    assert "1 images hold several pictures (frames or pages), of which the first is taken: img00.png" in heard.text
    np.testing.assert_array_equal(examples.load(0).image, pair(0)[0])


def test_images_of_more_than_8_bits_are_told(tmp_path, heard):
    """If broken, two images of one microscope are brightened by different factors, and nobody knows."""
    folder(tmp_path, 3)
    grey = pair(1)[0][..., 0].astype(np.uint16) * 16
    Image.fromarray(grey).save(tmp_path / "images" / "img01.png")
    with heard.at_level("INFO"):
        examples = open_split(DataConfig(name=str(tmp_path)), "all")
    assert "1 images have more than 8 bits; each is brought to 8 by the smallest range" in heard.text
    assert heard.text.rstrip().endswith("img01.png")
    assert np.abs(examples.load(1).image[..., 0].astype(int) - pair(1)[0][..., 0]).max() <= 1


def test_a_group_on_both_of_the_users_sides_is_refused(tmp_path):
    """If broken, a user's own split with one patient on both sides trains without a word."""
    config = own_sides(tmp_path)
    names = open_split(config, "all").names
    groups = {name: "same" if name in ("train/img00", "validation/img06") else name for name in names}
    with pytest.raises(UserError, match="1 groups have images in training and in validation, as same"):
        training_splits(DataConfig(name=str(tmp_path), groups=csv_of(tmp_path / "groups.csv", groups)))


def test_folds_of_groups_are_about_equal_and_hold_for_good():
    """If broken, a fold is empty or twice as large as another, or changes with the order of the files."""
    names = [f"n{i}" for i in range(40)]
    lesions = [f"l{i // 4 if i < 20 else i}" for i in range(40)]
    parts = folds(names, [""] * 40, 5, kept_together=lesions)
    assert [len(part) for part in parts] == [8] * 5
    order = np.random.default_rng(0).permutation(40)
    shuffled = folds([names[i] for i in order], [""] * 40, 5, kept_together=[lesions[i] for i in order])
    assert [{names[i] for i in part} for part in parts] == [{names[order[i]] for i in part} for part in shuffled]
