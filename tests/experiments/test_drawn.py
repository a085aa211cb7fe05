"""What the study says of drawn images."""

import dataclasses
from pathlib import Path

import pytest

from experiments.paper import drawn_models, study
from experiments.paper.models import FINAL, PHOTOGRAPHS
from experiments.paper.scales import CPU, SMOKE
from experiments.paper.sections import drawn, drawn_few
from jaxseg.config import preset


def whole(out: Path, scale=CPU) -> study.Study:
    return study.Study(out, scale, "resnet50", "weights.h5", "ph2", CPU.external, "")


def test_rows_differ_in_drawn_images_alone(tmp_path):
    """If broken, a row's gain may come from more steps, or from another recipe, and not from drawn images."""
    of = whole(tmp_path)
    steps = {}
    for share in (0.0, *CPU.drawn.shares):
        config = of.config(drawn_models.share_row(of, share) if share else PHOTOGRAPHS)
        steps[share] = config.train.epochs * (160 // (16 - config.drawn_per_step))
        same = {"data.synthetic_share": 0.0, "train.epochs": CPU.settings["train.epochs"]}
        assert config.updated(same) == of.config(PHOTOGRAPHS)
    assert min(steps.values()) == 100
    assert max(steps.values()) <= 120
    for config in map(of.config, (FINAL, drawn_models.longer_row(of))):
        assert config.train.epochs * (160 // (16 - config.drawn_per_step)) == 200
    assert all(row in drawn_models.models(of).values() for row in (FINAL, drawn_models.longer_row(of)))
    alone, beside, after = (of.config(drawn_models.few_row(of, 160, kind)) for kind in drawn_models.KINDS)
    assert alone.train.epochs * 160 == CPU.drawn.seen[0]
    assert beside.train.epochs * 320 == pytest.approx(CPU.drawn.seen[0], rel=0.05)
    for config in (alone, beside, after, of.config(drawn_models.alone_row(of, 960))):
        assert config.augment == preset("generalise").augment
        assert (config.model.encoder, config.model.pretrained) == ("none", "none")


def test_drawn_images_are_as_many_as_the_title_says(tmp_path):
    """If broken, the curve over the number of drawn images has wrong numbers."""
    of = whole(tmp_path)
    for seen in CPU.drawn.seen:
        config = of.config(drawn_models.alone_row(of, seen))
        assert config.drawn_per_step == config.train.batch_size
        assert config.data.synthetic_train // 16 * 16 * config.train.epochs == seen
    pretrained = of.config(drawn_models.pretrained_alone_row(of, 4000))
    small = of.config(drawn_models.alone_row(of, 4000))
    assert pretrained.data == small.data
    assert (pretrained.model, pretrained.optim) == (of.config(PHOTOGRAPHS).model, of.config(PHOTOGRAPHS).optim)


def test_every_row_is_in_the_work_once_and_after_its_parent(tmp_path):
    """If broken, a table has a line that is never trained."""
    of = whole(tmp_path)
    for section in (drawn, drawn_few):
        names = [row.name for row in section.rows_of(of)]
        assert len(set(names)) == len(names)
        for row in section.rows_of(of):
            assert not row.parent or names.index(row.parent.name) < names.index(row.name)
    assert {row.name for row in drawn_models.models(of).values()} == {row.name for row in drawn.rows_of(of)}


def test_a_curve_shows_what_is_there(tmp_path):
    """If broken, a row that was not run has a point, or no image of PH2 counts as some."""
    of = whole(tmp_path, dataclasses.replace(CPU, drawn=dataclasses.replace(CPU.drawn, few=(10, 5))))

    def scored(*dice: float) -> dict:
        return {"tests": {"external": [{"per_image": {"dice": value}} for value in dice]}}

    results = {
        drawn_models.alone_row(of, CPU.drawn.seen[0]).name: scored(0.5, 0.7),
        drawn_models.few_row(of, 10, "alone").name: scored(0.4),
        drawn_models.few_row(of, 5, "alone").name: {"missing": "why"},
        drawn_models.few_row(of, 10, "after drawn images").name: scored(0.8, 0.8),
    }
    few = drawn_few.few_points(of, results)
    assert few["alone"] == [(10, 0.4, 0.0)]
    assert few["after drawn images"] == [(0, pytest.approx(0.6), pytest.approx(0.1414, abs=1e-4)), (10, 0.8, 0.0)]
    table = drawn_few.few_table(of, few, "Dice")
    assert table["rows"] == [
        ["0", "-", "0.600 ± 0.141", "0.600 ± 0.141"],
        ["5", "-", "-", "-"],
        ["10", "0.400 ± 0.000", "-", "0.800 ± 0.000"],
    ]


def test_a_section_without_rows_says_what_is_missing(tmp_path):
    """If broken, a study that is cut short has no section, or one that looks complete."""
    of = dataclasses.replace(
        study.Study(tmp_path, SMOKE, "none", "none", "synthetic", SMOKE.external, ""),
        report=True,
    )
    drawn.run(of)
    section = study.json.loads((tmp_path / "sections" / "drawn" / "section.json").read_text())
    assert section["rows"] == [row.name for row in drawn.rows_of(of)]
    assert {text.partition(": was not")[0] for text in section["missing"]} == set(drawn_models.models(of))
    assert {line[1] for line in section["tables"][0]["rows"]} == {"not run"}
