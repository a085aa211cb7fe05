"""Runs that are trained together are those that are trained alone."""

import collections
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.paper import plan, pool, rows, stacked, study, under_way
from experiments.paper.models import FINAL
from experiments.paper.scales import CPU, SMOKE
from jaxseg import data
from jaxseg.data import Examples
from jaxseg.errors import UserError
from jaxseg.inference.segmenter import Segmenter
from jaxseg.train import train_and_evaluate


@pytest.fixture(scope="module")
def looked_at():
    """How often `together` looks for NaN, by where."""
    return collections.Counter()


@pytest.fixture(scope="module")
def together(tmp_path_factory, looked_at):
    """Two seeds of a tiny network, on two devices; they stop early at different epochs."""
    from tests.helpers.runs import tiny_config

    changes = {"train.devices": 2, "train.epochs": 6, "optim.early_stop_patience": 1, "optim.learning_rate": 0.2}
    config = tiny_config().updated(changes)
    train, validation = data.training_splits(config.data)
    members = [stacked.Member(seed, train, validation) for seed in (0, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacked, "check_finite", lambda metrics, step, where: looked_at.update([where]))
        trained, steps = stacked.train_together(config, members, lambda text: None)
    folder = tmp_path_factory.mktemp("row")
    stacked.save_members(trained, folder)
    return config, trained, steps, folder


@pytest.mark.parametrize("seed", [0, 1])
def test_a_member_is_the_run_of_its_seed(together, seed, tmp_path):
    """If broken, a row's runs are others than `jaxseg.train` makes with the same seed: weights, order, draws, stop."""
    config, trained, _, _ = together
    state, summary = train_and_evaluate(config.updated({"train.seed": seed}), tmp_path)
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    mine = trained.progress[seed]
    assert (mine.epoch, mine.early_stop.best_epoch) == (summary["epochs"], summary["best_epoch"])
    for name in ("epoch", "step", "train_loss", "train_dice", "val_loss", "val_dice", "val_jaccard_pooled"):
        np.testing.assert_allclose([line[name] for line in mine.history], [line[name] for line in history], rtol=1e-4)
    ours = jax.tree.map(lambda leaf: leaf[seed], trained.states.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, state.params)


def test_a_row_goes_on_from_its_last_epoch(together, tmp_path):
    """If broken, a row that was ended begins again, or its runs are others than those of a row that was not."""
    config, whole, _, _ = together

    def end_after_the_first(line):
        if "epoch 1 of 6" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stacked.train_together(config, whole.members, end_after_the_first, tmp_path)
    assert under_way.epochs_done(tmp_path) == 1
    other = config.updated({"train.epochs": 7})
    with pytest.raises(UserError, match="begun with other settings"):
        stacked.train_together(other, whole.members, print, tmp_path)
    told = []
    trained, _ = stacked.train_together(config, whole.members, told.append, tmp_path)
    assert told[0].strip() == "goes on after epoch 1 of 6"
    assert "epoch 2 of 6" in told[1]
    assert trained.sessions == [0, 1]
    jax.tree.map(np.testing.assert_array_equal, trained.states, whole.states)
    for mine, theirs in ((trained.progress, whole.progress), (trained.at_best, whole.at_best)):
        for after, before in zip(mine, theirs, strict=True):
            assert (after.plateau, after.early_stop) == (before.plateau, before.early_stop)
            assert list(map(without_times, after.history)) == list(map(without_times, before.history))
    under_way.remove(tmp_path)
    assert not list(tmp_path.iterdir())


def without_times(line):
    return {name: value for name, value in line.items() if name != "images_per_second"}


def test_a_damaged_row_starts_again(together, tmp_path):
    """If broken, a file cut short by a crash ends the study, or is passed over in silence."""
    config, whole, steps, _ = together
    target = stacked._stacked_target(config, steps, 2)
    row = under_way.UnderWay(whole.states, whole.states, whole.progress, whole.at_best)
    with under_way.Saved(tmp_path, {"of": "this"}) as saved:
        saved.save(row)
    for path in (tmp_path / under_way.FOLDER).rglob("*"):
        if path.is_file() and "states" in path.parts:
            path.write_bytes(path.read_bytes()[:7])
    told = []
    with under_way.Saved(tmp_path, {"of": "this"}) as saved:
        assert saved.resume(target, told.append) is None
    assert "cannot be read" in told[0]
    assert told[0].endswith("the row starts again")


def test_the_time_left_of_a_study(tmp_path):
    """If broken, the time that a study tells is that of other rows, or forgets what is saved of a row."""
    network = {"model.encoder": "none"}
    planned = [(rows.Row("a", "", {}), 2), (rows.Row("b", "", network), 2), (rows.Row("c", "", {}, folds=True), 5)]
    assert plan.sentence(tmp_path, planned) == "0 of 3 rows are done; the time left is known after the first"
    for name, seconds in (("a", 600), ("b", 60)):
        (tmp_path / "rows" / name).mkdir(parents=True)
        result = {"seconds": seconds, "members": [{"epochs": 10}] * 2}
        (tmp_path / "rows" / name / "row.json").write_text(json.dumps(result))
    assert plan.sentence(tmp_path, planned) == "2 of 3 rows are done; about 25 min left"
    (tmp_path / "rows" / "c" / under_way.FOLDER / "4").mkdir(parents=True)
    assert plan.sentence(tmp_path, planned).endswith("about 15 min left")


def test_members_stop_by_themselves(together, looked_at):
    """If broken, a run that has stopped goes on while the others train, or takes their best epoch for its own."""
    _, trained, _, _ = together
    ends = [progress.epoch for progress in trained.progress]
    assert len(set(ends)) == 2  # else this test, and the one above, see less than they claim
    assert [p.epoch for p in trained.at_best] == [p.early_stop.best_epoch for p in trained.progress]
    # Diverged, a run that has stopped would end the others.
    assert [looked_at[f"validation of run {i}"] for i in (1, 2)] == ends
    assert looked_at["run 1 of 2"] * ends[1] == looked_at["run 2 of 2"] * ends[0] > 0


def test_saved_members_are_runs(together):
    """If broken, evaluate and predict cannot take a row's runs, or take one for the other."""
    config, trained, steps, folder = together
    _, validation = data.training_splits(config.data)
    images, _ = pool.resized(validation, config)
    found = stacked.predict(steps, trained.states.variables, images, 4)
    assert found.shape == (2, len(validation), 32, 32)
    workdirs = [folder / f"member-{i}" for i in (0, 1)]
    again = stacked.predict(steps, stacked.restore(steps, config, workdirs), images, 4)
    np.testing.assert_array_equal(found, again)
    for i, workdir in enumerate(workdirs):
        segmenter = Segmenter.load(workdir)
        assert segmenter.config.train.seed == i
        for index, probability in segmenter.stream(enumerate(images)):
            np.testing.assert_allclose(probability, found[i, index], atol=1e-5)


def examples_of(groups: list[str]) -> Examples:
    return Examples("made up", "train", tuple(f"image{i}" for i in range(len(groups))), tuple(groups), lambda i: None)


def test_few_images_are_stratified_and_the_epoch_stays():
    """If broken, few images come from one group, are the same for every seed, or make shorter epochs than many."""
    many = examples_of(["nevus"] * 32 + ["melanoma"] * 8)
    chosen = [rows.few(many, 10, seed) for seed in (0, 1)]
    for part in chosen:
        assert len(part) == len(many)
        assert len(set(part.names)) == 10
        assert len({name for name, group in zip(part.names, part.groups, strict=True) if group == "melanoma"}) == 2
    assert set(chosen[0].names) != set(chosen[1].names)
    assert rows.few(many, 0, 0) is many
    most = rows.few(many, 30, 0)  # no whole number of folds
    assert len(set(most.names)) == 30
    assert len({name for name, group in zip(most.names, most.groups, strict=True) if group == "melanoma"}) == 6


def test_score():
    """If broken, a table's Dice per image, pooled Dice or spread is another."""
    truth = np.zeros((2, 4, 4), np.uint8)
    truth[0, :2], truth[1, 0, 0] = 1, 1
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :1], masks[1, 0, :2] = True, True
    score = rows.score(masks, truth)
    first, second = 2 * 4 / (4 + 8), 2 * 1 / (2 + 1)
    assert score["per_image"]["dice"] == pytest.approx((first + second) / 2)
    assert score["per_image_sd"]["dice"] == pytest.approx(abs(first - second) / 2**0.5)
    assert score["pooled"]["dice"] == pytest.approx(2 * 5 / (6 + 9))


def smoke(out: Path, **changes) -> study.Study:
    settings = {
        "encoder": "none",
        "pretrained": "none",
        "train": "synthetic",
        "external": SMOKE.external,
        "data_dir": "",
    }
    return study.Study(out, SMOKE, **{**settings, **changes})


ROW = rows.Row("row", "a row", {"train.epochs": 1}, keep=False)


def test_a_row_is_trained_once(tmp_path, monkeypatch):
    """If broken, a study that is gone on with trains all over again, or passes off a row of other settings."""
    result = smoke(tmp_path).row(ROW)
    assert [run["seed"] for run in result["members"]] == [0, 1]
    assert result["tests"]["external"][0]["images"] == 9
    assert not (smoke(tmp_path).folder(ROW) / "under-way").exists()
    monkeypatch.setattr(study, "train_together", None)
    assert smoke(tmp_path).row(ROW)["tests"] == result["tests"]
    with pytest.raises(UserError, match="other settings"):
        smoke(tmp_path).row(rows.Row("row", "a row", {"train.epochs": 2}))


def test_a_row_without_its_data_says_so(tmp_path):
    """If broken, a study ends where a data set is not prepared, or leaves a row that looks done."""
    of = smoke(tmp_path, external=("isic2016", "test"), data_dir=str(tmp_path / "empty"))
    result = of.row(ROW)
    assert "isic2016" in result["missing"]
    assert not (of.folder(ROW) / "row.json").exists()
    assert rows.tables([result])[0]["rows"][0][:2] == ["a row", "not run"]


def test_the_paper_s_table():
    """If broken, the difference to the paper is that of another row or score, or has the wrong sign."""
    scores = {"dice": 0.9, "jaccard": 0.8, "sensitivity": 0.7, "specificity": 1.0}
    result = {"name": "resnet_augmented", "title": "full", "tests": {"external": [{"pooled": scores}] * 2}}
    lines = {line[1]: line[2:] for line in rows.compared([result])["rows"]}
    assert lines["dice"] == ["0.900 ± 0.000", "0.938", "-0.038"]
    assert lines["specificity"] == ["1.000 ± 0.000", "0.980", "+0.020"]


def test_rows_settings_follow_the_scale(tmp_path):
    """If broken, a row without ImageNet weights starts with them, or the plain U-Net keeps the ResNet's settings."""
    whole = study.Study(tmp_path, CPU, "resnet50", "weights.h5", "ph2", CPU.external, "")
    full = whole.config(rows.Row("r", ""))
    assert (full.model.encoder, full.model.pretrained) == ("resnet50", "weights.h5")
    scratch = whole.config(rows.Row("r", "", pretrained=False))
    assert (scratch.model.encoder, scratch.model.pretrained) == ("resnet50", "none")
    assert scratch.optim.learning_rate == 10 * full.optim.learning_rate
    plain = whole.config(rows.Row("r", "", {"model.encoder": "none", "optim.encoder_rate": 0.1}))
    assert (plain.model.encoder, plain.model.pretrained) == ("none", "none")
    assert plain.model.unet_channels == CPU.plain["model.unet_channels"] != full.model.unet_channels
    assert plain.optim.encoder_rate == full.optim.encoder_rate
    assert whole.config(rows.Row("r", "", folds=True)).data.folds == CPU.folds
    assert full.data.folds == 0


def test_a_row_may_move_to_another_machine(tmp_path):
    """If broken, a finished row is refused because its weights lie in another folder, or its file names that folder."""
    first = smoke(tmp_path, data_dir=str(tmp_path / "sets"))
    result = first.row(ROW)
    assert result["settings"]["data"]["data_dir"] == "sets"
    assert str(tmp_path) not in (first.folder(ROW) / "row.json").read_text()
    assert smoke(tmp_path, data_dir=str(tmp_path / "elsewhere" / "sets")).row(ROW)["tests"] == result["tests"]


def test_the_steps_of_generalise_are_the_preset():
    """If broken, the table's last row is not what `--config generalise` trains."""
    from jaxseg.config import preset

    assert preset("paper").updated(FINAL.changes) == preset("generalise")


def test_best_threshold():
    """If broken, masks are cut at another threshold than the one that is best on validation."""
    from experiments.paper import cuts
    from jaxseg.inference.masks import Prediction

    maps = np.float32([[[0.1, 0.2], [0.3, 0.4]]])
    assert 0.2 <= cuts.with_best_threshold(maps, np.array([[[0, 0], [1, 1]]]), Prediction()).threshold < 0.3
    assert cuts.with_best_threshold(maps + 0.2, np.array([[[0, 0], [0, 1]]]), Prediction()).threshold == 0.5


def test_kept_numbers_are_those_of_the_study(tmp_path, monkeypatch):
    """If broken, the table of RESULTS.md shows other numbers than the study's, or keeps pictures of patients."""
    from experiments.paper import keep as keep_paper

    of = smoke(tmp_path / "study")
    result = of.row(ROW)
    figures = [{"file": "chart.png", "caption": "c", "chart": True}, {"file": "skin.png", "caption": "s"}]
    of.section("losses", title="Losses", about="", figures=figures, missing=["x: why"])
    monkeypatch.setattr(keep_paper, "RESULTS", tmp_path)
    written = {}
    monkeypatch.setattr(keep_paper, "write_between", lambda mark, text, page: written.update({mark: text}))
    monkeypatch.setattr("sys.argv", ["keep", str(tmp_path / "study")])
    with pytest.raises(SystemExit, match=r"lacks charts of losses; draw them with .* --report --only losses"):
        keep_paper.main()
    assert not written
    assert not list(tmp_path.glob("*.json"))
    for figure in figures:
        of.place("losses", figure["file"]).write_bytes(b"png")
    keep_paper.main()
    kept = json.loads((tmp_path / "paper_smoke.json").read_text())
    assert kept["rows"]["row"]["settings"] == result["settings"]
    assert [path.name for path in tmp_path.glob("*.png")] == ["paper_smoke_losses_chart.png"]
    assert rows.cell(result, "external", "pooled", "dice") in written["paper_smoke"]
    assert "- x: why" in written["paper_smoke"]
    first = written.copy()
    monkeypatch.setattr("sys.argv", ["keep", "--scale", "smoke"])
    keep_paper.main()
    assert written == first  # what was kept is enough to write the text again


@pytest.mark.parametrize("in_turn", [False, True])
def test_runs_start_with_those_of_their_own_seed(in_turn, tmp_path):
    """If broken, a row that goes on from another starts from random weights, or all its seeds from one parent."""
    from jaxseg.data.synthetic import GROUPS
    from jaxseg.runs.checkpoint import restore_best
    from jaxseg.steps import state_target
    from jaxseg.system.files import read_json

    of = smoke(tmp_path, in_turn=in_turn)
    drawn = {"data.synthetic_train": len(GROUPS), "train.epochs": 1}
    parent = rows.Row("parent", "a parent", drawn)
    # At this rate a step moves no weight by more than a millionth, so that the child is told by its parent's weights.
    child = rows.Row("child", "a child", {"train.epochs": 1, "optim.learning_rate": 1e-7}, parent=parent)
    result = of.row(child)
    assert [run["parent"] for run in result["members"]] == ["parent/member-0", "parent/member-1"]
    steps, mine = of.restore(child)
    target = state_target(of.config(child), steps).variables
    kept = [restore_best(of.folder(parent) / f"member-{seed}", target)[0]["params"] for seed in (0, 1)]
    distances = [
        [
            max(jax.tree.leaves(jax.tree.map(lambda a, b, i=i: float(abs(a[i] - b).max()), mine["params"], other)))
            for other in kept
        ]
        for i in (0, 1)
    ]
    assert max(distances[0][0], distances[1][1]) < 1e-5
    assert min(distances[0][1], distances[1][0]) > 1e-2
    assert read_json(of.folder(child) / "member-1" / "config.json")["init_from"]["dataset"] == "synthetic"
    other = rows.Row("other", "another network", {"model.unet_channels": (4, 6)}, parent=parent)
    assert "model.unet_channels" in of.row(other)["missing"]


def test_a_section_is_kept_by_itself(tmp_path, monkeypatch):
    """If broken, keeping one section overwrites the numbers of a whole study, or keeps rows of other sections."""
    from experiments.paper import keep as keep_paper

    of = smoke(tmp_path / "study")
    of.row(ROW)
    of.row(rows.Row("other", "a row of another section", {"train.epochs": 1}, keep=False))
    table = {"caption": "c", "head": ["h"], "rows": [["a cell"]]}
    of.section("drawn", title="Drawn", about="What it is.", rows=["row", "not done"], tables=[table])
    of.section("losses", title="Losses", about="")
    monkeypatch.setattr(keep_paper, "RESULTS", tmp_path)
    written = {}
    monkeypatch.setattr(keep_paper, "write_between", lambda mark, text, page: written.update({mark: text}))
    monkeypatch.setattr("sys.argv", ["keep", str(tmp_path / "study"), "--only", "drawn"])
    keep_paper.main()
    assert [path.name for path in tmp_path.glob("*.json")] == ["drawn_smoke.json"]
    kept = json.loads((tmp_path / "drawn_smoke.json").read_text())
    assert (list(kept["rows"]), list(kept["sections"])) == (["row"], ["drawn"])
    assert "What it is." in written["drawn_smoke"]
    assert "| a cell |" in written["drawn_smoke"]
    first = written.copy()
    monkeypatch.setattr("sys.argv", ["keep", "--scale", "smoke", "--only", "drawn"])
    keep_paper.main()
    assert written == first
