"""Groups from the user's CSV file: what spreadsheets leave in it is read rightly, or refused."""

import numpy as np
import pytest

from jaxseg.config import DataConfig
from jaxseg.data import training_splits
from jaxseg.data.groups import read_groups
from jaxseg.errors import UserError
from tests.helpers.drawn_folders import draw_folder

NAMES = [f"img{i:02d}" for i in range(6)]


def written(tmp_path, text: str) -> str:
    (tmp_path / "groups.csv").write_text(text)
    return str(tmp_path / "groups.csv")


@pytest.mark.parametrize("note", ["", "sep=;\r\n", "SEP=;\n"])
def test_excels_note_of_the_separator_is_no_line(tmp_path, note):
    """If broken, the age next to the image becomes the patient, and patients stand on both sides of the split."""
    lines = [f"{name}.png;{60 + i};P{i // 2}" for i, name in enumerate(NAMES)]
    file = written(tmp_path, note + "\n".join(["image;age;patient_id", *lines]))
    assert read_groups(file, NAMES) == ("P0", "P0", "P1", "P1", "P2", "P2")
    broken = written(tmp_path, note + "\n".join(["image;patient_id", *lines[:2], "img02.png;"]).replace(";60", ""))
    with pytest.raises(UserError, match=rf"line {3 + bool(note)} has 3 cells and line {1 + bool(note)} has 2"):
        read_groups(broken, NAMES)


@pytest.mark.parametrize(
    "lines",
    [
        ["Study;2024", "image;age;patient_id", *(f"{name};60;P1" for name in NAMES)],
        ["img00,Smith", *(f"{name},Smith, Anna" for name in NAMES[1:])],
    ],
)
def test_more_cells_than_the_first_line_has_are_refused(tmp_path, lines):
    """If broken, the second column is taken for the group, whatever it is."""
    with pytest.raises(UserError, match=r"line 2 has 3 cells and line 1 has 2, so which is the group is not clear"):
        read_groups(written(tmp_path, "\n".join(lines)), NAMES)


@pytest.mark.parametrize("cell", ["#N/A", "#NV", "<NA>", "missing", "#REF!", "NaN", "n.a."])
def test_a_failed_lookup_is_no_patient(tmp_path, cell):
    """If broken, all images whose patient is not known become one patient, who is the whole validation set."""
    lines = [f"{name},{cell if i < 4 else f'P{i}'}" for i, name in enumerate(NAMES)]
    with pytest.raises(UserError, match=r"line 2 has no group but"):
        read_groups(written(tmp_path, "\n".join(["image,patient_id", *lines])), NAMES)


def test_a_group_that_fills_the_validation_is_told(tmp_path, heard):
    """If broken, one patient with most of the images validates alone, and nobody hears of it."""
    folder = draw_folder(tmp_path / "set", range(10))
    lines = [f"img{i:02d},{'big' if i < 6 else i}" for i in range(10)]
    groups = written(tmp_path, "\n".join(lines))
    _, validation = training_splits(DataConfig(name=str(folder), groups=groups))
    assert len(validation) == 6
    assert "6 of 10 images validate, because groups stay together: the largest, 'big', has 6" in heard.text
    heard.clear()
    even = written(tmp_path, "\n".join(f"img{i:02d},{i // 2}" for i in range(10)))
    assert len(training_splits(DataConfig(name=str(folder), groups=even))[1]) == 2
    assert not heard.text
    assert np.unique(read_groups(even, [f"img{i:02d}" for i in range(10)])).size == 5


@pytest.mark.parametrize("path", ["/data/set/train/images/a.png", "train/images/a.png", "train/a", "set/train/a.png"])
def test_paths_of_a_set_with_its_own_validation_are_found(tmp_path, path):
    """If broken, a table of the files' true paths has "no line" for any image of a set with train/ and validation/."""
    assert read_groups(written(tmp_path, f"image,group\n{path},P1"), ["train/a"]) == ("P1",)
