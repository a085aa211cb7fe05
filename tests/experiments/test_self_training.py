"""Self-training: pupils see half of the external set, never its masks, and are tested on the other half."""

import json

import numpy as np
import pytest

from experiments.paper import teaching
from experiments.paper.models import ON_PHOTOGRAPHS
from experiments.paper.scales import SMOKE
from experiments.paper.sections import self_training
from experiments.paper.study import MAPS, Study, load_maps


@pytest.fixture
def study(tmp_path) -> Study:
    return Study(tmp_path, SMOKE, "none", "none", "synthetic", SMOKE.external, "", runs=2)


def test_pupils_learn_labels_and_not_the_truth(study):
    """If broken, the row learns from the outlines of the set that it is said not to have seen."""
    _, pupil = self_training.rows_of(study)
    config = study.config(pupil)
    external = study.external_set(config)
    learned, tested = teaching.halves(external)
    assert sorted([*learned, *tested]) == list(range(len(external)))
    train, validation = study.splits(config)
    side = config.data.image_size
    maps = {
        "external": np.zeros((len(external), side, side), np.float32),
        "validation": teaching.resized(validation, config)[1][..., 0].astype(np.float32),
    }
    maps["external"][:, :3, :5] = 0.9  # nowhere near a lesion
    whole = teaching.taught(train, validation, external, maps, config)
    assert whole.names == train.names + tuple(f"synthetic/{external.names[i]}" for i in learned)
    for place, i in enumerate(learned, start=len(train)):
        example = whole.load(place)
        np.testing.assert_array_equal(example.image, teaching.resized(external, config)[0][i])
        assert example.mask.sum() == example.mask[:3, :5].sum() == 15
    maps["external"][:, 3] = 0.9
    assert whole.fingerprint() != teaching.taught(train, validation, external, maps, config).fingerprint()


def test_the_section_scores_teachers_and_pupils_on_the_same_half(study):
    """If broken, pupils are tested on images that they have seen, or beside teachers on others."""
    self_training.run(study)
    section = json.loads((study.out / "sections" / "self_training" / "section.json").read_text())
    [table] = section["tables"]
    assert [line[0] for line in table["rows"]] == [
        *[ON_PHOTOGRAPHS] * 2,
        *["its pupils"] * 2,
        f"{ON_PHOTOGRAPHS}, mean map of its runs",
        "its pupils, mean map of its runs",
    ]
    assert section["missing"] == []
    teacher, pupil = self_training.rows_of(study)
    external = study.external_set(study.config(pupil))
    _, tested = teaching.halves(external)
    result = json.loads((study.folder(pupil) / "row.json").read_text())
    assert result["data"]["external"]["images"] == len(tested) < len(external)
    assert load_maps(study.folder(pupil) / MAPS)["external"].shape[1] == len(tested)
    entries = json.loads((study.folder(pupil) / "self_training.json").read_text())
    found = [entry[self_training.PLAIN]["external"]["per_image"]["dice"] for entry in entries]
    assert found == pytest.approx([run["per_image"]["dice"] for run in result["tests"]["external"]], abs=0.01)
    entries = json.loads((study.folder(teacher) / "self_training.json").read_text())
    assert entries[0][self_training.CHOSEN]["external"]["images"] == len(tested)


def test_without_the_teachers_maps_the_row_says_so(study):
    """If broken, a study that goes on on another machine ends in a traceback."""
    teacher, pupil = self_training.rows_of(study)
    study.row(teacher)
    (study.folder(teacher) / MAPS).unlink()
    assert "has no maps on this machine" in study.row(pupil)["missing"]
