"""predictions.csv: what predict says of each mask, kept over several calls, sorted by trust."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg import predict
from jaxseg.errors import RunError, UserError
from jaxseg.inference import table as table_module
from jaxseg.inference.inputs import find_images
from jaxseg.inference.measurements import columns, measure
from jaxseg.inference.table import Table
from tests.helpers.pictures import pixels, save_noise


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture
def pictures(tmp_path):
    """Returns a folder of three images, of which two differ in their ending alone."""
    folder = tmp_path / "in"
    save_noise(folder, {"a.png": (40, 61), "a.bmp": (33, 32), "sub/b.png": (20, 50)})
    return folder


@pytest.fixture
def flags(tiny_run, pictures, tmp_path):
    return ["--workdir", str(tiny_run), "--input", str(pictures), "--output", str(tmp_path / "out")]


def test_every_mask_has_a_line_sorted_by_trust(flags, tmp_path):
    """If broken, lines cannot be joined with masks, or the doubtful masks are not on top."""
    assert predict.main(flags) == 0
    rows = rows_of(tmp_path / "out/predictions.csv")
    assert {row["name"] for row in rows} == {"a.png", "a.bmp", "sub/b"}
    assert all((tmp_path / f"out/{row['name']}_mask.png").exists() for row in rows)
    trust = [float(row["trust"]) for row in rows]
    assert trust == sorted(trust)
    assert all(0 <= value <= 1 for value in trust)
    assert list(rows[0]) == ["name", "trust"]


def test_measurements_are_those_of_the_masks(flags, pictures, tmp_path, capsys):
    """If broken, a line holds the measurements of another image, or of the network's small mask."""
    assert predict.main([*flags, "--measure", "--pixels-per-mm", "12.5"]) == 0
    rows = rows_of(tmp_path / "out/predictions.csv")
    several = sum(int(row["components"]) > 1 for row in rows)
    assert several > 0
    assert f"{several} of 3 masks have several parts, which are measured as one" in capsys.readouterr().err
    for row in rows:
        source = next(pictures / name for name in (row["name"], f"{row['name']}.png") if (pictures / name).is_file())
        mask = pixels(tmp_path / f"out/{row['name']}_mask.png") > 0
        expected = measure(mask, pixels(source), 12.5).as_row()
        assert list(row) == ["name", "trust", *columns(12.5)]
        assert int(row["area_pixels"]) == mask.sum()
        for name in ("area_mm2", "feret_diameter_mm", "solidity", "inside_red_mean"):
            assert float(row[name]) == pytest.approx(expected[name], rel=1e-5), name


def test_lines_of_earlier_calls_are_kept(flags, pictures, tmp_path):
    """If broken, going on after a stopped call, or with more images, loses lines or the user's own columns."""
    out = tmp_path / "out"
    assert predict.main([*flags, "--measure"]) == 0
    before = {row["name"]: row for row in rows_of(out / "predictions.csv")}
    text = (out / "predictions.csv").read_text().splitlines()
    noted = [text[0] + ",note", *(f"{line},seen" for line in text[1:])]
    (out / "predictions.csv").write_text("\n".join(noted) + "\n")
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(pictures / "new.png")
    assert predict.main([*flags, "--measure", "--skip-existing"]) == 0
    after = {row["name"]: row for row in rows_of(out / "predictions.csv")}
    assert after.keys() == {*before, "new"}
    assert {name: {**before[name], "note": "seen"} for name in before} == {n: r for n, r in after.items() if n != "new"}
    assert after["new"]["note"] == ""
    other = tmp_path / "other.png"
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(other)
    assert predict.main([*flags[:2], "--input", str(other), *flags[4:]]) == 0
    assert {row["name"] for row in rows_of(out / "predictions.csv")} == {*after, "other"}


def test_skip_existing_measures_the_masks_that_are_there(flags, tmp_path):
    """If broken, masks corrected by hand are measured as the network made them, or replaced."""
    out = tmp_path / "out"
    assert predict.main(flags) == 0
    corrected = np.zeros((20, 50), np.uint8)
    corrected[5:15, 10:30] = 255
    Image.fromarray(corrected).save(out / "sub/b_mask.png")
    assert predict.main([*flags, "--measure", "--skip-existing"]) == 0
    rows = {row["name"]: row for row in rows_of(out / "predictions.csv")}
    assert rows["sub/b"]["area_pixels"] == "200"
    assert all(row["area_pixels"] for row in rows.values())
    np.testing.assert_array_equal(pixels(out / "sub/b_mask.png"), corrected)


def test_what_was_measured_of_another_mask_does_not_stay(flags, tmp_path):
    """If broken, the table gives the area of a mask that was replaced, or corrected by hand since."""
    out = tmp_path / "out"
    assert predict.main([*flags, "--measure"]) == 0
    assert predict.main([*flags, "--overwrite", "--threshold", "0.9"]) == 0
    assert not any(row.get(column) for row in rows_of(out / "predictions.csv") for column in columns())
    again = [*flags, "--measure", "--skip-existing", "--threshold", "0.9"]
    assert predict.main(again) == 0
    corrected = np.zeros((20, 50), np.uint8)
    corrected[5:15, 10:30] = 255
    Image.fromarray(corrected).save(out / "sub/b_mask.png")
    assert predict.main(again) == 0
    areas = {row["name"]: row["area_pixels"] for row in rows_of(out / "predictions.csv")}
    assert areas == {name: str((pixels(out / f"{name}_mask.png") > 0).sum()) for name in areas}


def test_a_kept_mask_of_another_size_is_told(flags, tmp_path, capsys):
    """If broken, a mask that was exchanged for one of another size ends the whole call in a traceback."""
    assert predict.main(flags) == 0
    Image.fromarray(np.zeros((7, 7), np.uint8)).save(tmp_path / "out/sub/b_mask.png")
    assert predict.main([*flags, "--measure", "--skip-existing"]) == 1
    assert "b_mask.png: has 7x7 pixels, but" in capsys.readouterr().err
    rows = {row["name"]: row for row in rows_of(tmp_path / "out/predictions.csv")}
    assert rows["a.png"]["area_pixels"]


def test_a_single_mask_has_its_table_beside_it(flags, pictures, tmp_path):
    """If broken, `--output mask.png` leaves a table that nobody asked for, or one that hides whose it is."""
    one = [*flags[:2], "--input", str(pictures / "a.png"), "--output", str(tmp_path / "m.png")]
    assert predict.main(one) == 0
    assert not list(tmp_path.glob("*.csv"))
    assert predict.main([*one, "--measure", "--overwrite"]) == 0
    (row,) = rows_of(tmp_path / "m_predictions.csv")
    assert row["name"] == "m"


def test_a_file_of_the_user_is_not_replaced(flags, tmp_path):
    """If broken, a table of the user that has the same name is lost."""
    path = tmp_path / "out/predictions.csv"
    path.parent.mkdir()
    for text in ("patient,age\n1,70\n", "name,trust\na\n", "name,trust\na,1,2\n", "\0", "name,trust\na,1\na,0\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"predictions\.csv: "):
            predict.main(flags)
        assert path.read_text() == text
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name;trust\na;0.9\n", "columns are separated by ';'"),
        ("name\ttrust\na\t0.9\n", "columns are separated by"),
        ('name,trust\na,"0,93"\n', "trust of a is '0,93', with a decimal comma"),
    ],
)
def test_a_table_that_a_spreadsheet_saved_otherwise_is_told(flags, tmp_path, text, said):
    """If broken, its lines are sorted as if nothing were trusted, or predict says that it is no table of its own."""
    path = tmp_path / "out/predictions.csv"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        predict.main(flags)
    assert path.read_text() == text


def test_a_scale_without_measurements_is_refused(flags):
    """If broken, `--pixels-per-mm` is ignored in silence where `--measure` was forgotten."""
    with pytest.raises(UserError, match="give --measure too"):
        predict.main([*flags, "--pixels-per-mm", "20"])


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "wide"])
def test_a_wrong_scale_is_one_line(flags, value, capsys):
    """If broken, millimetres are infinite or negative."""
    with pytest.raises(SystemExit):
        predict.main([*flags, "--measure", "--pixels-per-mm", value])
    assert "is not a number above 0" in capsys.readouterr().err


def test_another_scale_is_measured_again(flags, tmp_path):
    """If broken, `--skip-existing` leaves millimetres of two scales in one table."""
    assert predict.main([*flags, "--measure", "--pixels-per-mm", "10"]) == 0
    assert predict.main([*flags, "--measure", "--pixels-per-mm", "20", "--skip-existing"]) == 0
    assert {row["pixels_per_mm"] for row in rows_of(tmp_path / "out/predictions.csv")} == {"20"}


def test_a_stopped_call_leaves_its_lines(tmp_path, monkeypatch):
    """If broken, a call that is killed at image 9,000 of 10,000 has to segment all of them again."""
    monkeypatch.setattr(table_module, "SAVE_EVERY_SECS", 0)
    (tmp_path / "a.png").touch()
    (image,) = find_images(tmp_path / "a.png", tmp_path / "out")
    Table(tmp_path / "t.csv").add(image, 0.5, {})
    assert Table(tmp_path / "t.csv").holds(image)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    """If broken, a table that cannot be written is a traceback."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table_module, "write_text", full)
    with pytest.raises(RunError, match=r"t\.csv: cannot be written \(No space left on device\)"):
        Table(tmp_path / "t.csv").save()


def test_uncertainty_has_the_size_of_the_image(flags, pictures, tmp_path):
    """If broken, the uncertainty map is of the network's size, or is not highest where the odds are even."""
    assert predict.main([*flags, "--uncertainty", "--probabilities"]) == 0
    for name in ("a.png", "a.bmp", "sub/b"):
        found = pixels(tmp_path / f"out/{name}_uncertainty.png")
        probability = pixels(tmp_path / f"out/{name}_probability.png")
        assert found.dtype == np.uint8
        assert found.shape == probability.shape
        even, sure = np.abs(probability - 127.5), found.astype(float)
        assert np.corrcoef(even.ravel(), sure.ravel())[0, 1] < -0.8
