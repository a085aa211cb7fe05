"""Preparing: from a publisher's folder or archive, made up here, to a TFDS set that is read back."""

import contextlib
import importlib
import io
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxseg.config import DataConfig
from jaxseg.data import open_split, resolve_name, training_splits
from jaxseg.data.published.build import prepare
from jaxseg.errors import UserError
from tests.helpers.published import CODES, DIAGNOSES, PICKED, lesion, make_isic, make_ph2, ph2_config, picture, zip_up

pytestmark = pytest.mark.usefixtures("whole_log")


@pytest.mark.parametrize("bars", [True, False])
def test_ph2_is_built_and_read_back(bars, tmp_path, out, caplog):
    """If broken, PH2 cannot be prepared, or pixels, masks, names, splits or diagnoses are not as published."""
    prepare("ph2", str(make_ph2(tmp_path, bars)), str(out))
    assert "partial copy of ph2: train 4 of 160, validation 2 of 40" in caplog.text
    config = ph2_config(out)
    assert resolve_name(DataConfig(data_dir=str(out))) == "ph2"
    examples = open_split(config, "all")
    assert examples.names == tuple(PICKED)
    assert examples.groups == tuple(DIAGNOSES[CODES[name]] for name in PICKED)
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(examples.load, range(len(PICKED))))
    for i, (image, mask) in enumerate(loaded):
        np.testing.assert_array_equal(image, np.asarray(picture(i)))
        np.testing.assert_array_equal(mask[..., 0], np.asarray(lesion(i)))
        assert mask.dtype == np.uint8
    train, validation = training_splits(config)
    assert (train.names, validation.names) == (tuple(PICKED[:4]), tuple(PICKED[4:]))
    fold_train, fold_validation = training_splits(ph2_config(out, folds=3, fold=1))
    assert sorted(fold_train.names + fold_validation.names) == sorted(PICKED)
    fingerprints = {e.fingerprint() for e in (train, validation, fold_train, fold_validation)}
    assert len(fingerprints) == 4


def test_plain_tfds_reads_ph2(tmp_path, out):
    """If broken, who uses TFDS without jaxseg's own loading gets masks that are not {0, 255} or no images."""
    import tensorflow_datasets as tfds

    importlib.import_module("jaxseg.data.published.ph2")  # registers the set

    prepare("ph2", str(make_ph2(tmp_path)), str(out))
    sources = [
        tfds.data_source("ph2", split="train", data_dir=out),
        tfds.builder_from_directory(out / "ph2" / "1.0.0").as_data_source("train"),
    ]
    for source in sources:
        assert len(source) == 4
        record = source[1]
        np.testing.assert_array_equal(record["image"], np.asarray(picture(1)))
        np.testing.assert_array_equal(record["mask"], np.asarray(lesion(1))[..., None] * np.uint8(255))
        assert (record["name"].decode(), record["diagnosis"]) == (PICKED[1], 1)
    assert len(tfds.data_source("ph2", split="train+validation", data_dir=out)) == 6
    assert "tensorflow" not in sys.modules


def test_tfds_own_way_of_preparing_works(tmp_path, out):
    """If broken, the builders need jaxseg's command and are no TFDS builders of their own right."""
    import tensorflow_datasets as tfds

    importlib.import_module("jaxseg.data.published.isic2016")  # registers the set

    builder = tfds.builder("isic2016", data_dir=out)
    config = tfds.download.DownloadConfig(manual_dir=make_isic(tmp_path / "isic"), try_download_gcs=False)
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_config=config)
    assert len(open_split(DataConfig(name="isic2016", data_dir=str(out)), "train")) == 3


def test_isic_is_built_as_published(tmp_path, out, caplog):
    """If broken, ISIC's JPEGs are encoded anew, or its splits are not the publisher's."""
    import tensorflow_datasets as tfds

    source = make_isic(make_isic(tmp_path / "isic", "Training", 6), "Test", 2)
    prepare("isic2016", str(source), str(out))
    assert "train 6 of 900, test 2 of 379" in caplog.text
    config = DataConfig(name="isic2016", data_dir=str(out))
    assert [len(open_split(config, s)) for s in ("train", "test", "validation")] == [6, 2, 2]
    train, validation = training_splits(config)
    assert sorted(train.names + validation.names) == list(open_split(config, "train").names)
    raw = tfds.data_source("isic2016", split="test", data_dir=out, decoders={"image": tfds.decode.SkipDecoding()})
    assert raw[0]["image"] == (source / "ISBI2016_ISIC_Part1_Test_Data" / "ISIC_0000.jpg").read_bytes()
    np.testing.assert_array_equal(open_split(config, "test").load(1).mask[..., 0], np.asarray(lesion(1)))


def test_one_split_of_isic_is_enough(tmp_path, out):
    """If broken, who has only the training set cannot use it, or does not learn what is missing."""
    prepare("isic2016", str(make_isic(tmp_path / "isic")), str(out))
    config = DataConfig(name="isic2016", data_dir=str(out))
    assert len(open_split(config, "train")) == 3
    with pytest.raises(UserError, match=r"without the split test \(there are: train\); .*--force"):
        open_split(config, "test")


LAYOUTS = {
    "isic2017": ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth", ("Training", "Validation", "Test_v2")),
    "isic2018": ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth", ("Training", "Validation", "Test")),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_later_isic_challenges_are_built_as_published(name, zipped, tmp_path, out, caplog):
    """If broken, ISIC 2017 or 2018 as downloaded cannot be prepared, is split otherwise, or loses images in silence."""
    images, masks, splits = LAYOUTS[name]
    source = tmp_path / "isic"
    for number, split in enumerate(splits):
        for i in range(3):
            stem = f"ISIC_{number}00{i}"
            for folder, file, content in (
                (images, f"{stem}.jpg", picture(i)),
                (images, f"{stem}_superpixels.png", picture(i)),
                (masks, f"{stem}_segmentation.png", lesion(10 * number + i).convert("L")),
            ):
                path = source / folder.format(split) / file
                path.parent.mkdir(parents=True, exist_ok=True)
                content.save(path)
    if zipped:
        for folder in sorted(source.iterdir()):
            zip_up(folder, source / f"{folder.name}.zip")
            shutil.rmtree(folder)
    assert prepare(name, str(source), str(out)) == {"train": 3, "validation": 3, "test": 3}
    assert "left out 9 superpixels (" in caplog.text
    config = DataConfig(name=name, data_dir=str(out))
    train, validation = training_splits(config)
    assert train.names == ("ISIC_0000", "ISIC_0001", "ISIC_0002")
    assert validation.names == ("ISIC_1000", "ISIC_1001", "ISIC_1002")
    np.testing.assert_array_equal(open_split(config, "test").load(1).mask[..., 0], np.asarray(lesion(21)))


def test_images_of_a_lesion_of_ham10000_stay_together(tmp_path, out):
    """If broken, half of HAM10000's lesions are trained on and scored."""
    source = tmp_path / "ham"
    for folder in ("HAM10000_images_part_1", "HAM10000_images_part_2", "HAM10000_segmentations_lesion_tschandl"):
        (source / folder).mkdir(parents=True)
    rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for i in range(10):
        picture(i).save(source / f"HAM10000_images_part_{1 + i % 2}" / f"ISIC_002{i}.jpg")
        lesion(i).convert("L").save(source / "HAM10000_segmentations_lesion_tschandl" / f"ISIC_002{i}_segmentation.png")
        rows.append(f"HAM_{i // 2},ISIC_002{i},{'mel' if i < 4 else 'nv'},histo,50,male,back")
    (source / "HAM10000_metadata.csv").write_text("\n".join(rows))
    assert prepare("ham10000", str(source), str(out)) == {"train": 10}
    config = DataConfig(name="ham10000", data_dir=str(out))
    assert open_split(config, "all").groups == ("mel",) * 4 + ("nv",) * 6
    for settings in ({}, {"folds": 2}, {"folds": 5, "fold": 3}):
        train, validation = training_splits(DataConfig(**vars(config) | settings))
        assert not set(train.kept_together) & set(validation.kept_together)
        assert len(train) + len(validation) == 10


@pytest.mark.parametrize("inner", ["", "PH2Dataset", "PH2Dataset/PH2 Dataset images"])
def test_ph2_is_found_from_its_root_its_parent_and_its_images(inner, tmp_path, out):
    """If broken, which of the nested folders of PH2 is meant must be guessed."""
    home = tmp_path / "home"
    make_ph2(home)
    assert prepare("ph2", str(home / inner), str(out)) == {"train": 4, "validation": 2}


def test_zip_archives_are_read(tmp_path, out):
    """If broken, the publisher's zips must be unpacked by hand."""
    ph2 = zip_up(make_ph2(tmp_path / "a"), tmp_path / "PH2Dataset.zip")
    assert prepare("ph2", str(ph2), str(out)) == {"train": 4, "validation": 2}
    source, zips = make_isic(tmp_path / "isic"), tmp_path / "zips"
    whole = zip_up(source, tmp_path / "all.zip")
    zips.mkdir()
    for folder in source.iterdir():
        zip_up(folder, zips / f"{folder.name}.zip")
    assert prepare("isic2016", str(whole), str(tmp_path / "whole")) == {"train": 3}
    assert prepare("isic2016", str(zips), str(tmp_path / "parts")) == {"train": 3}
    # Unpacked beside its archive, the folder is taken.
    shutil.copytree(source, zips, dirs_exist_ok=True)
    assert prepare("isic2016", str(zips), str(tmp_path / "both")) == {"train": 3}


@pytest.mark.parametrize("in_folder", [True, False])
def test_the_rar_of_ph2_is_answered_with_how_to_unpack_it(in_folder, tmp_path, out):
    """If broken, who gives PH2 as it is downloaded is not told what to do with it."""
    archive = tmp_path / "PH2Dataset.rar"
    archive.write_bytes(b"Rar!\x1a\x07\x00")
    with pytest.raises(UserError, match=r"PH2Dataset\.rar: not a zip archive; unpack it \(`unrar x`.*bsdtar"):
        prepare("ph2", str(tmp_path if in_folder else archive), str(out))


def test_a_hostile_archive_writes_nothing(tmp_path, out):
    """If broken, an archive from somewhere writes outside its folder, or leaves something behind."""
    with zipfile.ZipFile(tmp_path / "isic.zip", "w") as archive:
        archive.writestr("../evil.jpg", b"evil")
    with pytest.raises(UserError, match="lies outside"):
        prepare("isic2016", str(tmp_path / "isic.zip"), str(out))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["isic.zip", "tfds"]


def test_a_preparation_that_is_ended_leaves_nothing_behind(tmp_path, out):
    """If broken, SIGTERM, as schedulers send it, leaves gigabytes in a hidden folder that nobody clears away."""
    argv = ["isic2016", "--source", str(make_isic(tmp_path / "in", count=40)), "--data-dir", str(out)]
    with subprocess.Popen(
        [sys.executable, "-m", "jaxseg.prepare", *argv], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not list(out.glob(".preparing-*/[!.]*")):
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, said.splitlines()[-1]) == (143, "python -m jaxseg.prepare: ended by SIGTERM")
    assert "Traceback" not in said
    assert not list(out.glob(".preparing-*"))
