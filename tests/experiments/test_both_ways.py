"""What the study says of style: of outlines that one set's annotators draw closer than another's."""

import numpy as np
import pytest

from experiments.paper import models, style
from experiments.paper.scales import SMOKE
from experiments.paper.sections import both_ways, in_domain
from experiments.paper.study import Study


def disc(radius: int) -> np.ndarray:
    rows, columns = np.ogrid[-40:41, -40:41]
    return rows**2 + columns**2 <= radius**2


def test_style_and_misses_are_told_apart():
    """If broken, a network whose outlines are all wide looks like one that fails, or the other way round."""
    truth = np.stack([disc(20)] * 4)
    wide = np.stack([disc(22)] * 4)
    median, mean, outside, failed = style.of_masks(wide, truth)
    assert median == mean == pytest.approx(1.21, abs=0.02)
    assert outside == pytest.approx(2 / 40, abs=0.015)
    assert failed == 0
    one_missed = np.stack([disc(20)] * 3 + [np.zeros((81, 81), bool)])
    median, mean, outside, failed = style.of_masks(one_missed, truth)
    assert (median, mean, outside, failed) == (1.0, 0.75, 0.0, 0.25)
    nothing = style.of_masks(np.zeros_like(wide), truth)
    assert nothing == (0.0, 0.0, None, 1.0)
    assert style.cells([nothing]) == ["0.000", "0.000", "-", "100.0 %"]
    assert style.cells([nothing, style.of_masks(truth, truth)])[2] == "0.000"


def test_each_run_is_tested_on_images_that_it_was_not_trained_on(tmp_path, monkeypatch):
    """If broken, style is read from the images that a network has learned by heart, or from one set twice."""
    study = Study(tmp_path, SMOKE, "none", "none", "synthetic", SMOKE.external, "", runs=2)
    tested, plain = [], both_ways.resized
    monkeypatch.setattr(both_ways, "resized", lambda part, config: tested.append(part) or plain(part, config))
    for row in (models.FULL, in_domain.rows_of(study)[0]):
        result = study.row(row)
        found = both_ways.measure(study, row)
        assert len(found) == 2
        for entry, validation in zip(found, result["tests"]["validation"], strict=True):
            assert entry[both_ways.OWN]["dice"] == pytest.approx(validation["per_image"]["dice"], abs=1e-4)
        if not row.folds:
            for entry, external in zip(found, result["tests"]["external"], strict=True):
                assert entry[both_ways.OTHER]["dice"] == pytest.approx(external["per_image"]["dice"])
    of_folds = tested[-4:]
    assert not set(of_folds[0].names) & set(of_folds[2].names)  # the folds' own
    home = study.splits(study.config(models.FULL))
    assert of_folds[1].names == of_folds[3].names == home[0].names + home[1].names
