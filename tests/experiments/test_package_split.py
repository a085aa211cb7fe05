"""The images of the model inside the package: none in two parts, the same parts on every machine."""

from pathlib import Path

import pytest

from experiments import package_split


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Returns the publisher's folder, with 30 images, one of them without a mask."""
    for i in range(30):
        for folder, ending in (("Data", ".jpg"), ("GroundTruth", "_Segmentation.png")):
            path = tmp_path / f"source/ISBI2016_ISIC_Part1_Training_{folder}/ISIC_{i:07}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if (i, folder) != (7, "GroundTruth"):
                path.write_text(f"{folder} {i}")
    return tmp_path / "source"


def test_parts_share_no_image(published, tmp_path, capsys):
    """If broken, the packaged model is scored on images that it was trained on, or masks belong to other images."""
    package_split.main(["--source", str(published), "--out", str(tmp_path / "out")])
    assert "held_out: 6 images" in capsys.readouterr().out
    parts = {part: {p.stem for p in (tmp_path / "out" / part / "images").iterdir()} for part in package_split.PARTS}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 29
    assert "ISIC_0000007" not in set.union(*parts.values())
    for part, names in parts.items():
        for name in names:
            mask = tmp_path / "out" / part / "masks" / f"{name}_Segmentation.png"
            assert mask.read_text() == f"GroundTruth {int(name[5:])}"


def test_parts_depend_on_names_alone(published, tmp_path):
    """If broken, another machine, which lists files in another order, holds out images that the weights have seen."""
    package_split.split(published, tmp_path / "out")
    held_out = sorted(p.stem[-2:] for p in (tmp_path / "out/held_out/images").iterdir())
    assert held_out == ["02", "16", "17", "18", "22", "25"]


def test_a_folder_is_never_written_into_twice(published, tmp_path, capsys):
    """If broken, parts of two splits are mixed."""
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit):
        package_split.main(["--source", str(published), "--out", str(tmp_path / "out")])
    assert "exists; name a new folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        package_split.main(["--source", str(tmp_path), "--out", str(tmp_path / "new")])
    assert "no images with masks" in capsys.readouterr().err
