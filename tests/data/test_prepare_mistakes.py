"""Preparing: unsound sources, sets that are there already, and the command."""

import json
import shutil
import subprocess
import sys

import pytest

from jaxseg.config import DataConfig
from jaxseg.data import open_split
from jaxseg.data.published.build import prepare
from jaxseg.data.published.ham10000 import read_metadata
from jaxseg.errors import UserError
from jaxseg.prepare import main as prepare_main
from jaxseg.system import lock
from tests.helpers.bad_files import encoded, turned
from tests.helpers.published import PICKED, image_of, lesion, make_isic, make_ph2, mask_of, ph2_config, picture, table

pytestmark = pytest.mark.usefixtures("whole_log")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: mask_of(r, PICKED[1]).unlink(), rf"{PICKED[1]}\.bmp: the mask of {PICKED[1]} is missing"),
        (lambda r: image_of(r, PICKED[1]).write_bytes(b"text"), rf"{PICKED[1]}\.bmp: not an image"),
        (lambda r: mask_of(r, PICKED[1]).write_bytes(b""), rf"{PICKED[1]}_lesion\.bmp: the file is empty"),
        (lambda r: lesion(0, (9, 9)).save(mask_of(r, PICKED[1])), r"has 20x12 pixels but its mask .* has 9x9"),
        (
            lambda r: image_of(r, PICKED[1]).write_bytes(encoded(picture(0), "jpeg", exif=turned(3))),
            r"is turned by its EXIF orientation \(3\), and its mask .* is not",
        ),
        (lambda r: (r / "PH2_dataset.txt").unlink(), r"PH2_dataset\.txt is missing"),
        (lambda r: (r / "PH2_dataset.txt").write_text("nothing"), r"PH2_dataset\.txt: no line with the columns"),
        (
            lambda r: (r / "PH2_dataset.txt").write_text(table(True).replace(PICKED[1], "IMD999")),
            rf"no row for {PICKED[1]}",
        ),
        (
            lambda r: (r / "PH2_dataset.txt").write_text(f"Name\tClinical Diagnosis\n{PICKED[0]}\t7\n"),
            rf"diagnosis of {PICKED[0]} is '7', not 0, 1 or 2",
        ),
        (lambda r: shutil.copytree(r, r / "backup"), r"is there twice"),
        (lambda r: shutil.rmtree(r / "PH2 Dataset images"), r"no images of ph2 in there; get PH2Dataset\.rar"),
        (shutil.rmtree, r"no such folder or archive"),
    ],
)
def test_an_unsound_source_is_named_and_leaves_nothing_behind(spoil, message, tmp_path, out):
    """If broken, a set is prepared with wrong or missing pairs, or half of one is left in the data folder."""
    root = make_ph2(tmp_path)
    spoil(root)
    with pytest.raises(UserError, match=message) as caught:
        prepare("ph2", str(root), str(out))
    assert "\n" not in str(caught.value)
    assert list(out.iterdir()) == []


def test_images_that_ph2_does_not_have_are_left_out_with_a_warning(tmp_path, out, caplog):
    """If broken, a user's own image beside PH2's gets into the training split, or is dropped in silence."""
    root = make_ph2(tmp_path)
    home = root / "PH2 Dataset images"
    shutil.copytree(home / PICKED[0], home / "IMD999")
    for path in sorted((home / "IMD999").rglob(f"{PICKED[0]}*"), reverse=True):
        path.rename(path.with_name(path.name.replace(PICKED[0], "IMD999")))
    assert prepare("ph2", str(root), str(out)) == {"train": 4, "validation": 2}
    assert "left out, as PH2 has no such images: IMD999" in caplog.text


def test_a_prepared_set_is_left_alone_unless_forced(tmp_path, out, caplog):
    """If broken, preparing again destroys a set, or a source that has grown is silently not used."""
    source = make_isic(tmp_path / "isic")
    prepare("isic2016", str(source), str(out))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    prepare("isic2016", str(source), str(out))
    assert "already prepared, and left as it is" in caplog.text
    assert "--force" not in caplog.text
    make_isic(source, "Test", 2)
    prepare("isic2016", str(source), str(out))
    assert "holds more now: test 2 (prepared: 0); add --force" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    config = DataConfig(name="isic2016", data_dir=str(out))
    version = open_split(config, "train").version
    prepare("isic2016", str(source), str(out), force=True)
    assert len(open_split(config, "test")) == 2
    assert open_split(config, "train").version == version
    assert [path.name for path in out.iterdir()] == ["isic2016"]


def test_a_failed_rebuild_keeps_the_old_set(tmp_path, out):
    """If broken, --force with an unsound source destroys a set that was sound."""
    root = make_ph2(tmp_path)
    prepare("ph2", str(root), str(out))
    image_of(root, PICKED[5]).write_bytes(b"text")
    with pytest.raises(UserError, match="not an image"):
        prepare("ph2", str(root), str(out), force=True)
    assert len(open_split(ph2_config(out), "all")) == 6
    assert [path.name for path in out.iterdir()] == ["ph2"]


def test_what_a_killed_preparation_has_left_is_put_in_order(tmp_path, out):
    """If broken, kill -9 leaves gigabytes in a hidden folder, or between two renames costs the set that was there."""
    root = make_ph2(tmp_path)
    prepare("ph2", str(root), str(out))
    left = out / ".preparing-ph2"
    (left / "ph2").mkdir(parents=True)
    (left / "ph2" / "half").write_text("half")
    (out / "ph2" / "1.0.0").rename(left / "old")
    prepare("ph2", str(root), str(out))
    assert len(open_split(ph2_config(out), "all")) == 6
    assert [path.name for path in out.iterdir()] == ["ph2"]


def test_one_preparation_of_a_set_at_a_time(tmp_path, out):
    """If broken, two at once remove each other's files."""
    with lock.held(out / ".preparing-ph2"), pytest.raises(UserError, match=r"is in use: .*another --data-dir"):
        prepare("ph2", str(make_ph2(tmp_path)), str(out))
    assert not out.exists()


def test_the_version_tells_other_files(tmp_path, out):
    """If broken, a run goes on with other images under the same names and nobody notices."""
    root = make_ph2(tmp_path)
    prepare("ph2", str(root), str(out))
    before = open_split(ph2_config(out), "train").fingerprint()
    picture(99).save(image_of(root, PICKED[0]))
    prepare("ph2", str(root), str(out), force=True)
    assert open_split(ph2_config(out), "train").fingerprint() != before


def test_a_damaged_prepared_set_says_how_to_mend_it(tmp_path, out):
    """If broken, a record that cannot be read ends a run with a traceback of TFDS."""
    prepare("ph2", str(make_ph2(tmp_path)), str(out))
    [records] = (out / "ph2" / "1.0.0").glob("ph2-train*")
    records.write_bytes(b"\0" * records.stat().st_size)
    with pytest.raises(UserError, match=rf"damaged.*jaxseg\.prepare ph2 .* --data-dir {out} --force"):
        open_split(ph2_config(out), "train").load(0)


def test_names_and_records_cannot_fall_out_of_step(tmp_path, out):
    """If broken, scores and groups are ascribed to other images than those they belong to."""
    prepare("ph2", str(make_ph2(tmp_path)), str(out))
    metadata = out / "ph2" / "1.0.0" / "metadata.json"
    content = json.loads(metadata.read_text())
    content["splits"]["train"]["names"].reverse()
    metadata.write_text(json.dumps(content))
    with pytest.raises(UserError, match="damaged"):
        open_split(ph2_config(out), "train").load(0)


def test_what_lies_where_the_set_belongs_is_not_touched(tmp_path, out):
    """If broken, a user's own folder of that name is overwritten."""
    (out / "ph2" / "1.0.0").mkdir(parents=True)
    (out / "ph2" / "1.0.0" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not a prepared data set; move it away"):
        prepare("ph2", str(make_ph2(tmp_path)), str(out), force=True)
    assert (out / "ph2" / "1.0.0" / "mine.txt").read_text() == "keep"


def test_a_data_dir_that_cannot_be_is_named(tmp_path):
    """If broken, a mistyped --data-dir gives a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: cannot be written to .*--data-dir"):
        prepare("ph2", str(make_ph2(tmp_path)), str(tmp_path / "file"))


def test_the_command_says_where_the_set_is_and_what_comes_next(tmp_path, out, capsys):
    """If broken, the command is silent about its result, or its progress gets into what scripts read."""
    prepare_main(["ph2", "--source", str(make_ph2(tmp_path)), "--data-dir", str(out)])
    shown = capsys.readouterr()
    [line] = shown.out.splitlines()
    assert line.startswith(f"ph2 is in {out}/ph2/1.0.0 (train 4, validation 2 images); next: python -m jaxseg.train")
    assert "ph2 train: 4/4 images" in shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ph3", "--source", "x"], "did you mean 'ph2'?"),
        (["ph2"], "--source"),
        (["ph2", "--source", "x", "--dta-dir", "y"], "did you mean '--data-dir'?"),
        (["ph2", "--source", "/no/such/place"], "/no/such/place: no such folder or archive"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, said):
    """If broken, a typing mistake ends with a traceback or with an exit code that scripts take for success."""
    done = subprocess.run([sys.executable, "-m", "jaxseg.prepare", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("cut", ["HAM_00", "HAM_1,ISIC_0001", "HAM_1,,mel,histo,50,male,back"])
def test_a_table_that_broke_off_is_one_line(cut):
    """If broken, a download that broke off ends in a traceback, or leaves images without a diagnosis."""
    head = "lesion_id,image_id,dx,dx_type,age,sex,localization"
    with pytest.raises(UserError, match=r"table: line 3 is cut off, or lacks a cell; fetch the table again"):
        read_metadata(f"{head}\nHAM_0,ISIC_0000,nv,histo,50,male,back\n{cut}", "table")


def test_a_source_of_one_split_does_not_replace_both(tmp_path, out, caplog):
    """If broken, following the advice to add --force loses the split that lies in another folder."""
    whole, tests = make_isic(tmp_path / "a"), make_isic(tmp_path / "b", "Test", 2)
    prepare("isic2016", str(tests), str(out))
    prepare("isic2016", str(whole), str(out))
    assert "but it lacks test (2 of 2 images): put the whole set into one folder, point --source at it" in caplog.text
    with pytest.raises(UserError, match=r"lacks some of the prepared set, which would be lost: test \(2 of 2 images\)"):
        prepare("isic2016", str(whole), str(out), force=True)
    assert len(open_split(DataConfig(name="isic2016", data_dir=str(out)), "test")) == 2


def test_other_images_of_the_same_number_do_not_replace_a_set(tmp_path, out):
    """If broken, a set is lost because another folder holds as many images."""
    first, second = make_isic(tmp_path / "a", "Training", 3), make_isic(tmp_path / "b", "Training", 3)
    for path in sorted(second.rglob("ISIC_0*")):
        path.rename(path.with_name(path.name.replace("ISIC_0", "ISIC_9")))
    prepare("isic2016", str(first), str(out))
    with pytest.raises(UserError, match=r"which would be lost: train \(3 of 3 images\)"):
        prepare("isic2016", str(second), str(out), force=True)
