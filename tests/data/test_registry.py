"""Folders, folds, the committed split and the names by which data sets are opened."""

import collections
import importlib.util
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxseg.data
from jaxseg.config import DataConfig
from jaxseg.data import default_split, open_split, resolve_name, splits_of, training_splits
from jaxseg.data.folds import committed_split, folds, make_split
from jaxseg.errors import UserError
from tests.helpers.paths import ROOT
from tests.helpers.paths import SHARED as NEIGHBOUR

SHARED = NEIGHBOUR / "data"
needs_shared = pytest.mark.skipif(not (SHARED / "ph2").is_dir(), reason=f"real data are not in {SHARED}")


def write_pair(folder: Path, image: str, mask: str, size: tuple[int, int] = (8, 6), value: int = 0) -> None:
    """Writes an image and a mask file, whose pixels are `value`; a mask with 255 at the top left."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(folder / "images" / image)
    picture = Image.new("L", size)
    picture.putpixel((0, 0), 255)
    picture.save(folder / "masks" / mask)


@pytest.fixture
def folder(tmp_path):
    """Ten pairs with names and endings of every kind that is allowed."""
    masks = ["{}.png", "{}_Segmentation.PNG", "{}_lesion.bmp", "{}_mask.tif", "{}_MASK.tiff"]
    endings = ["png", "PNG", "bmp", "tif", "jpeg"]
    for i in range(10):
        write_pair(tmp_path, f"im{i}.{endings[i % 5]}", masks[i % 5].format(f"im{i}"), value=i)
    return tmp_path


def config_of(folder: Path, **settings) -> DataConfig:
    return DataConfig(name=str(folder), **settings)


def test_a_folder_pairs_images_with_masks(folder):
    """If broken, images are shown with other images' masks, or a customary way of naming masks is refused."""
    examples = open_split(config_of(folder), "all")
    assert examples.names == tuple(f"im{i}" for i in range(10))
    assert set(examples.groups) == {""}
    for i in range(len(examples)):
        image, mask = examples.load(i)
        assert image.shape == (6, 8, 3)
        assert np.abs(image.astype(int) - i).max() <= 1  # JPEG may be off by one
        assert mask.shape == (6, 8, 1)
        assert mask.sum() == mask[0, 0, 0] == 1


def test_a_mask_belongs_to_the_image_of_its_very_name(tmp_path):
    """If broken, the masks of images a and a_mask are confused."""
    write_pair(tmp_path, "a.png", "a.png", size=(8, 6))
    write_pair(tmp_path, "a_mask.png", "a_mask.png", size=(9, 6))
    examples = open_split(config_of(tmp_path), "all")
    assert [examples.load(i).mask.shape for i in range(2)] == [(6, 8, 1), (6, 9, 1)]


def test_a_folder_changes_its_fingerprint_with_its_files(folder):
    """If broken, a run goes on with other data than it began with and nobody notices."""
    before = open_split(config_of(folder), "all").fingerprint()
    assert open_split(config_of(folder), "all").fingerprint() == before
    Image.effect_noise((8, 6), 90).convert("RGB").save(folder / "images" / "im0.png")
    assert open_split(config_of(folder), "all").fingerprint() != before


def spoil_size(folder: Path) -> None:
    Image.new("L", (8, 7)).save(folder / "masks" / "im0.png")


def spoil_second_mask(folder: Path) -> None:
    Image.new("L", (8, 6)).save(folder / "masks" / "im0_lesion.png")


def spoil_second_image(folder: Path) -> None:
    Image.new("RGB", (8, 6)).save(folder / "images" / "im0.bmp")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "masks" / "im0.png").unlink(), r"images/im0\.png: no mask in .*masks; name it im0\.png"),
        (spoil_size, r"images/im0\.png: 8x6 pixels, but its mask .*masks/im0\.png has 8x7"),
        (spoil_second_mask, r"masks/im0_lesion\.png: im0\.png has also the mask im0\.png"),
        (spoil_second_image, r"images/im0\.png: there is also im0\.bmp"),
        (lambda f: (f / "images" / "im0.png").write_text("text"), r"images/im0\.png: not an image"),
        (lambda f: (f / "masks" / "im0.png").write_bytes(b""), r"masks/im0\.png: the file is empty"),
        (lambda f: (f / "images").rename(f / "pictures"), r"has no folder images/"),
        (lambda f: (f / "masks").rename(f / "truth"), r"has no folder masks/"),
        (lambda f: [p.unlink() for p in (f / "images").iterdir()], r"images: no images in there"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_when_it_is_opened(folder, spoil, message):
    """If broken, a run starts on an unsound folder and dies, or learns nonsense, later."""
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        open_split(config_of(folder), "all")
    assert "\n" not in str(caught.value)


def test_a_file_damaged_behind_its_header_is_named_when_loaded(folder):
    """If broken, a truncated file ends a run without being named."""
    path = folder / "images" / "im0.png"
    Image.effect_noise((8, 6), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:80])
    examples = open_split(config_of(folder), "all")
    with pytest.raises(UserError, match=r"im0\.png: cannot be decoded"):
        examples.load(0)


def test_what_a_folder_holds_besides_is_ignored_with_a_warning(folder, caplog, monkeypatch):
    """If broken, a stray mask or text file stops a run, or vanishes in silence; or a Mac's hidden file is read."""
    monkeypatch.setattr(logging.getLogger("jaxseg"), "propagate", True)  # whatever a command before has set
    Image.new("L", (8, 6)).save(folder / "masks" / "stray.png")
    (folder / "images" / "notes.txt").write_text("x")
    (folder / "images" / "._im0.png").write_text("x")
    assert len(open_split(config_of(folder), "all")) == 10
    assert "ignored masks without an image: 1, as stray.png" in caplog.text
    assert "images: left out 1 of 11 files: 1 with the ending .txt (notes.txt); not counted: 1 hidden" in caplog.text


@pytest.mark.parametrize(("parts", "said"), [(("train", "test"), "train/ are not separate splits"), (("b",), "")])
def test_subfolders_that_other_tools_take_for_splits_are_told(tmp_path, parts, said, caplog):
    """If broken, a user's test images are trained on without a word."""
    for part in parts:
        for name in ("images", "masks"):
            (tmp_path / name / part).mkdir(parents=True)
        write_pair(tmp_path, f"{part}/a.png", f"{part}/a.png")
    open_split(config_of(tmp_path), "all")
    assert bool(caplog.text) == bool(said)
    assert said in caplog.text


@pytest.mark.parametrize(("name", "said"), [("phd2", "did you mean 'ph2'?"), ("no/where", "no/where")])
def test_an_unknown_name_says_what_was_looked_for(name, said, tmp_path, monkeypatch):
    """If broken, who mistypes a name or a path gets no hint what went wrong."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="neither a known data set") as caught:
        open_split(DataConfig(name=name), "all")
    assert said in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_folder_holds_out_a_fifth(folder):
    """If broken, a run on a folder validates on images it trains on, or on none."""
    train, validation = training_splits(config_of(folder))
    assert (len(train), len(validation)) == (8, 2)
    assert sorted(train.names + validation.names) == sorted(open_split(config_of(folder), "all").names)
    assert open_split(config_of(folder), "validation").names == validation.names
    assert open_split(config_of(folder), "train").names == train.names


def test_the_folds_of_a_config_partition_the_images(folder):
    """If broken, cross-validation scores an image twice or never, or evaluation scores another fold's images."""
    scored = []
    for fold in range(3):
        config = config_of(folder, folds=3, fold=fold)
        train, validation = training_splits(config)
        assert not set(train.names) & set(validation.names)
        assert len(train) + len(validation) == 10
        assert open_split(config, "validation").names == validation.names
        scored += validation.names
    assert sorted(scored) == sorted(open_split(config_of(folder), "all").names)


def test_too_few_images_for_the_folds_are_refused(folder):
    """If broken, a fold without images divides by zero."""
    with pytest.raises(UserError, match="10 images are too few for 11 folds"):
        training_splits(config_of(folder, folds=11))


@pytest.mark.parametrize("name", ["ph2", "isic2016", "synthetic", "/some/folder"])
def test_an_unknown_split_names_those_there_are(name):
    """If broken, a mistyped split gives a traceback, or another split is scored."""
    assert default_split(name) in splits_of(name)
    with pytest.raises(UserError, match="no such split") as caught:
        open_split(DataConfig(name=name), "tset")
    assert all(split in str(caught.value) for split in splits_of(name))


def test_auto_is_the_synthetic_set_where_ph2_is_not_prepared(tmp_path):
    """If broken, training on a fresh machine stops for want of data."""
    assert resolve_name(DataConfig(data_dir=str(tmp_path))) == "synthetic"
    train, validation = training_splits(DataConfig(data_dir=str(tmp_path), synthetic_train=5, synthetic_eval=2))
    assert (train.dataset, len(train), len(validation)) == ("synthetic", 5, 2)


@pytest.mark.parametrize("name", ["ph2", "isic2016"])
def test_an_unprepared_set_says_how_to_prepare_it(name, tmp_path):
    """If broken, who has the download but not the TFDS set does not learn the next step."""
    with pytest.raises(UserError) as caught:
        training_splits(DataConfig(name=name, data_dir=str(tmp_path)))
    command = f"python -m jaxseg.prepare {name} --source DIR_OR_ARCHIVE --data-dir {tmp_path}"
    assert str(caught.value).endswith(command)


def test_a_remote_data_dir_is_refused():
    """If broken, a folder named "gs:" is looked for in the working directory."""
    with pytest.raises(UserError, match="must be a file or folder on this machine"):
        resolve_name(DataConfig(data_dir="gs://bucket/data"))


def test_importing_the_registry_is_cheap():
    """If broken, `--help` and typing mistakes take seconds to answer."""
    program = "import sys, jaxseg.data; print(*{'jax', 'tensorflow_datasets', 'grain'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.strip() == b""


GROUPS = ("a",) * 40 + ("b",) * 41 + ("c",) * 7
NAMES = tuple(f"im{i:03d}" for i in range(len(GROUPS)))


@pytest.mark.parametrize("k", [2, 5, 7])
def test_folds_are_a_stratified_partition(k):
    """If broken, images validate twice or never, or a fold lacks a diagnosis."""
    parts = folds(NAMES, GROUPS, k)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(NAMES)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for group, total in collections.Counter(GROUPS).items():
        shares = [sum(GROUPS[i] == group for i in part) for part in parts]
        assert max(shares) - min(shares) <= 1, (group, shares)
        assert sum(shares) == total


def test_folds_depend_on_names_alone():
    """If broken, another file system or machine trains on other images under the same settings."""
    order = np.random.default_rng(0).permutation(len(NAMES))
    names, groups = [NAMES[i] for i in order], [GROUPS[i] for i in order]
    for part, shuffled in zip(folds(NAMES, GROUPS, 5), folds(names, groups, 5), strict=True):
        assert {NAMES[i] for i in part} == {names[i] for i in shuffled}
    # Pinned: a change would silently move the folds of runs that exist.
    assert folds(NAMES[:6], GROUPS[:6], 3)[0].tolist() == [3, 5]
    assert folds(NAMES, GROUPS, 5, seed=1)[0].tolist() != folds(NAMES, GROUPS, 5)[0].tolist()


def test_the_committed_split_is_160_and_40_and_disjoint():
    """If broken, PH2's validation images are trained on, or some are lost."""
    split = committed_split("ph2")
    train, validation = split["train"], split["validation"]
    assert (len(train), len(validation)) == (160, 40)
    assert len(set(train) | set(validation)) == 200
    assert all(name.startswith("IMD") for name in train + validation)


def load_split_script():
    spec = importlib.util.spec_from_file_location("ph2_split", ROOT / "experiments" / "paper" / "ph2_split.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_shared
def test_the_committed_split_can_be_made_again_and_is_stratified():
    """If broken, nobody can tell where the split came from, or a diagnosis is over-represented in it."""
    from jaxseg.data.published.ph2 import read_table

    table = SHARED / "ph2" / "PH2_dataset.txt"
    committed = json.loads((Path(jaxseg.data.__file__).parent / "splits" / "ph2.json").read_text())
    assert load_split_script().split_of(table) == committed
    diagnoses = read_table(table.read_text(), "table")
    assert make_split("ph2", list(diagnoses), list(diagnoses.values())) == committed
    for split, counts in [("train", (64, 64, 32)), ("validation", (16, 16, 8))]:
        found = collections.Counter(diagnoses[name] for name in committed[split])
        assert (found["common_nevus"], found["atypical_nevus"], found["melanoma"]) == counts


@needs_shared
@pytest.mark.parametrize(("part", "count"), [("ph2", 200), ("isic2016_train", 746)])
def test_real_folders_pair_up(part, count):
    """If broken, real images and masks as they are passed around cannot be used as a folder."""
    examples = open_split(DataConfig(name=str(SHARED / part)), "all")
    assert len(examples) == count
    image, mask = examples.load(count // 2)
    assert image.shape[:2] == mask.shape[:2]
    assert 0.001 < mask.mean() < 0.999
