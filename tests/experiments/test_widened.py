"""What the study says of more various training images."""

import numpy as np

from experiments.paper import study
from experiments.paper.models import PHOTOGRAPHS
from experiments.paper.scales import CPU
from experiments.paper.sections import widened
from jaxseg.config import AugmentConfig


def test_rows_differ_from_the_preset_in_one_change_and_the_last_in_all(tmp_path):
    """If broken, a row's gain comes from something that its title does not name."""
    of = study.Study(tmp_path, CPU, "resnet50", "weights.h5", "ph2", CPU.external, "")
    base, *single, together = widened.rows_of(of)
    assert base is PHOTOGRAPHS
    assert set(CPU.widened) == set(widened.CHANGES) == set(widened.TITLES)
    off = {f"augment.{name}": getattr(AugmentConfig(), name) for name in widened.CHANGES}
    on = [{name for name in off if name in row.changes} for row in (*single, together)]
    assert [len(names) for names in on] == [1] * len(off) + [len(off)]
    assert set.union(*on[:-1]) == on[-1]
    for row in (*single, together):
        assert of.config(row) != of.config(PHOTOGRAPHS)
        assert of.config(row).updated(off) == of.config(PHOTOGRAPHS)


def test_means_are_of_single_runs_of_all_and_of_both_rows():
    """If broken, an ensemble is shown under the title of another."""
    found = {"a": {"external": np.zeros((3, 2, 4, 4))}, "b": {"external": np.arange(3.0)[:, None, None, None]}}
    members = widened._members(found)
    assert [part["external"].shape[0] for part in members["b"]] == [3]
    assert [part["external"].ravel().tolist() for part in members["b: all runs"]] == [[1.0]]
    assert members["the mean with a: b"] == [found["a"], found["b"]]
