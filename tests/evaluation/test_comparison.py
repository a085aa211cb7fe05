"""compare: differences against scipy and a plain loop, which evaluations are taken, mistakes in one line."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from jaxseg import compare, evaluate
from jaxseg.errors import UserError
from jaxseg.evaluation.records import NATIVE_SCORES, per_image_csv, read_per_image, score_image
from jaxseg.evaluation.significance import correct, differences, holm, wilcoxon
from jaxseg.runs.workdir import METRICS, PER_IMAGE


def write(folder, seed, images=12, dataset="ph2", fingerprint="f", synthetic=False, trained_on=0, chosen_on=None):
    """Writes an evaluation: the same lesions for every seed, found more or less well."""
    rng, y, records = np.random.default_rng(seed), np.arange(24)[:, None], []
    for i in range(images):
        truth = (y - 12) ** 2 + (np.arange(24) - 12) ** 2 < (3 + i % 7) ** 2
        shift = rng.integers(0, 4, 2)
        prediction = np.roll(truth, shift, (0, 1)) & (rng.random((24, 24)) < 0.97)
        masks = prediction, truth
        records.append(score_image(i, masks, masks, prediction.astype(np.float32)))
    names = [f"image {i}" for i in range(images)]
    folder.mkdir(parents=True)
    (folder / PER_IMAGE).write_text(per_image_csv(records, names, [""] * images))
    data = {"dataset": dataset, "split": "validation", "images": images, "synthetic": synthetic}
    options = {"largest_component": False, "fill_holes": False, "threshold": 0.5}
    options["test_time_augmentation"] = chosen_on is not None
    metrics = {
        "data": data | {"fingerprint": fingerprint, "trained_on": trained_on},
        "prediction": options | {"ensemble": [{"workdir": "runs/x", "step": 7}], "threshold_chosen_on": chosen_on},
    }
    (folder / METRICS).write_text(json.dumps(metrics))
    return folder


@pytest.fixture
def pair(tmp_path):
    """Returns the folders of two runs with one evaluation each, of the same images."""
    for seed, run in enumerate(("a", "b")):
        write(tmp_path / run / "evaluation" / "ph2-validation", seed)
    return tmp_path / "a", tmp_path / "b"


def said(capsys, *args):
    compare.main([str(arg) for arg in args])
    return capsys.readouterr().out


def test_differences_equal_scipys(pair):
    """If broken, runs are subtracted the wrong way round, or the bootstrap draws each run's images by themselves."""
    first, second = (read_per_image(run / "evaluation/ph2-validation") for run in pair)
    lines = {(line.score, line.kind): line for line in differences(first, second)}
    assert list(lines) == [*((n, "per_image") for n in NATIVE_SCORES), ("dice", "pooled"), ("jaccard", "pooled")]
    for name in NATIVE_SCORES:
        line, a, b = lines[name, "per_image"], first.values[name], second.values[name]
        assert (line.first, line.second) == (pytest.approx(a.mean()), pytest.approx(b.mean()))
        assert line.p == pytest.approx(scipy.stats.wilcoxon(b, a).pvalue)
    # Other draws than ours: their ends differ by a hundredth of the spread.
    a, b = first.values["dice"], second.values["dice"]
    interval = scipy.stats.bootstrap(
        (b, a), lambda x, y, axis: (x - y).mean(axis), paired=True, method="percentile", n_resamples=20_000, rng=0
    ).confidence_interval
    line = lines["dice", "per_image"]
    np.testing.assert_allclose((line.low, line.high), interval, atol=0.03 * (interval.high - interval.low))


def test_pooled_difference_equals_a_plain_loop(pair):
    """If broken, pooled scores are averaged, or the two runs' replicates are of different images."""
    runs = [read_per_image(run / "evaluation/ph2-validation").values for run in pair]

    def jaccard(run, drawn):
        tp, fp, fn = (run[name][drawn].sum() for name in ("tp", "fp", "fn"))
        return tp / (tp + fp + fn)

    rng = np.random.default_rng(3)
    draws = [rng.integers(0, 12, 12) for _ in range(4000)]
    expected = np.percentile([jaccard(runs[1], d) - jaccard(runs[0], d) for d in draws], [2.5, 97.5])
    line = differences(*(read_per_image(run / "evaluation/ph2-validation") for run in pair))[-1]
    assert line.difference == pytest.approx(jaccard(runs[1], slice(None)) - jaccard(runs[0], slice(None)))
    np.testing.assert_allclose((line.low, line.high), expected, atol=0.06 * (expected[1] - expected[0]))


def test_a_run_does_not_differ_from_itself(pair, capsys):
    """If broken, differences that are all zero crash Wilcoxon's test, warn, or come out as significant."""
    folder = pair[0] / "evaluation/ph2-validation"
    text = said(capsys, folder, folder)
    assert "**the same evaluation as A**" in text
    assert text.count("| +0.0000 | [+0.0000, +0.0000] | 1.0000 |") == len(NATIVE_SCORES) - 1
    assert text.count("| +0.0000 | [+0.0000, +0.0000] |  |") == 2


@pytest.mark.parametrize("values", [[0.1], [0, 0, 0.2], [0.1, 0.1, 0.1, -0.1], [0.0, 0.0]])
def test_few_images_and_ties(values):
    """If broken, a single image, or differences that are equal, end in a warning or in NaN."""
    assert 0 < wilcoxon(np.array(values)) <= 1


def test_holm_by_hand():
    """If broken, p values are corrected by their place in the list, or one comes out smaller than a smaller one's."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([0.2]) == [0.2]


def test_more_than_two_runs(pair, tmp_path, capsys):
    """If broken, the third run is compared with the second, or p values are not corrected for their number."""
    write(tmp_path / "c" / "evaluation" / "ph2-validation", 2)
    text = said(capsys, *pair, tmp_path / "c", "--out", tmp_path / "out")
    assert text.count("| Score | A |") == 2
    assert "corrected by Holm for the 2 runs" in text
    tables = [read_per_image(tmp_path / run / "evaluation/ph2-validation") for run in "abc"]
    plain = [differences(tables[0], other) for other in tables[1:]]
    corrected = correct(plain)
    for i in range(len(NATIVE_SCORES)):
        assert [c[i].p for c in corrected] == holm([c[i].p for c in plain])
    with (tmp_path / "out" / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["second_run"][-27:-26] for row in rows] == ["b"] * 11 + ["c"] * 11
    assert float(rows[12]["difference"]) == pytest.approx(plain[1][1].difference)
    assert float(rows[12]["p"]) == pytest.approx(corrected[1][1].p)


def test_results_are_written_only_where_asked(pair, tmp_path, capsys):
    """If broken, compare leaves files in a run's folder or the current one, or the file is not what is printed."""
    before = sorted(tmp_path.rglob("*"))
    text = said(capsys, *pair)
    assert sorted(tmp_path.rglob("*")) == before
    assert said(capsys, *pair, "--out", tmp_path / "new" / "out") == text
    assert (tmp_path / "new" / "out" / "compare.md").read_text() == text


def test_only_an_earlier_report_is_replaced(pair, tmp_path, capsys):
    """If broken, a file of the user's with the report's name is lost."""
    for _ in range(2):
        said(capsys, *pair, "--out", tmp_path / "out")
    for name in ("compare.md", "compare.csv"):
        (tmp_path / "out" / name).write_text("# mine")
        with pytest.raises(UserError, match=f"{name}: is not by jaxseg.compare"):
            said(capsys, *pair, "--out", tmp_path / "out")
        assert (tmp_path / "out" / name).read_text() == "# mine"
        with pytest.raises(UserError, match=f"{name}: is a file; give a folder"):
            said(capsys, *pair, "--out", tmp_path / "out" / name)
        (tmp_path / "out" / name).unlink()
    text = said(capsys, *pair, "--out", tmp_path / "out")
    for others in (pair[::-1], (*pair, pair[0])):
        with pytest.raises(UserError, match=r"compare.md: compares other evaluations, and would be replaced"):
            said(capsys, *others, "--out", tmp_path / "out")
        assert (tmp_path / "out" / "compare.md").read_text() == text


def test_what_makes_a_score_worthless_is_said(pair, tmp_path, capsys):
    """If broken, a comparison on synthetic or on training images passes for one on real, unseen lesions."""
    assert "SYNTHETIC" not in said(capsys, *pair)
    folder = write(tmp_path / "c", 2, synthetic=True, trained_on=3, chosen_on={"scored_images": 5})
    text = said(capsys, folder, folder)
    assert "SYNTHETIC DATA" in text
    assert "3 of these images were TRAINED ON" in text
    assert "CHOSEN ON 5 of these images" in text
    assert "threshold 0.5, test-time augmentation, **" in text
    path = folder / METRICS
    metrics = json.loads(path.read_text())
    metrics["data"]["trained_on"], metrics["identity"] = None, {"copies": 4, "validated_on": 6, "pixels": "p"}
    path.write_text(json.dumps(metrics))
    text = said(capsys, folder, folder)
    assert "it cannot be told whether some of these images were TRAINED ON" in text
    assert "4 of these images LOOK LIKE TRAINING IMAGES" in text
    assert "6 of these images chose the epoch" in text


def test_which_evaluation_is_taken(pair, tmp_path, capsys):
    """If broken, of several evaluations the first is taken without a word, or --data and --split do not choose."""
    a, b = pair
    write(a / "evaluation" / "only-a", 0, dataset="only", fingerprint="a")
    assert "ph2 validation" in said(capsys, a, b)
    mine = tmp_path / "mine"
    for run in pair:
        write(run / "evaluation" / "mine-all", 0, dataset=str(mine.resolve()), fingerprint="m")
    with pytest.raises(UserError, match=r"several evaluations are shared: mine-all, ph2-validation; choose"):
        compare.main([str(a), str(b)])
    assert "ph2 validation" in said(capsys, a, b, "--data", "ph2")
    assert "ph2 validation" in said(capsys, a, b / "evaluation/ph2-validation")
    mine.mkdir()
    assert "mine validation" in said(capsys, a, b, "--data", mine)
    with pytest.raises(UserError, match="an evaluation itself: leave out --data and --split"):
        compare.main([*2 * [str(a / "evaluation/ph2-validation")], "--data", "mine"])
    with pytest.raises(UserError, match=r"no evaluation as asked for is shared: .*a has mine-all, only-a, ph2-val"):
        compare.main([str(a), str(b), "--split", "test"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: write(b.parent / "c", 1, fingerprint="other"), "not of the same images"),
        (lambda b: write(b.parent / "c", 1, images=11), "not of the same images"),
        (lambda b: b.parent / "nowhere", "nowhere: no such folder"),
        (lambda b: b.parent, "holds no evaluation; make one first"),
        (lambda b: spoilt(b, METRICS, "{}"), "not what evaluate writes; evaluate again"),
        (lambda b: spoilt(b, METRICS, "{"), "cannot be read"),
        (lambda b: spoilt(b, METRICS, '"prediction"', '"p"'), "an older jaxseg wrote it; evaluate again"),
        (lambda b: spoilt(b, PER_IMAGE, "boundary_iou", "iou"), "no column 'boundary_iou'"),
    ],
)
def test_refused_in_one_line(pair, change, message):
    """If broken, runs on different images are compared, or a wrong folder ends in a traceback."""
    with pytest.raises(UserError, match=message) as error:
        compare.main([str(pair[0]), str(change(pair[1]))])
    assert "\n" not in str(error.value)


def spoilt(run, name, old, new=None):
    """Replaces all of a file of a run's evaluation, or a word in it."""
    path = run / "evaluation" / "ph2-validation" / name
    path.write_text(old if new is None else path.read_text().replace(old, new))
    return run


@pytest.mark.parametrize("how", ["sorted", "of another run", "half of a line"])
def test_scores_of_other_images_are_not_paired(tiny_run, tmp_path, how):
    """If broken, a table that was sorted, mixed up or cut pairs one image's score with another's, in silence."""
    for out in ("a", "b"):
        evaluate.main(["--workdir", str(tiny_run), "--out", str(tmp_path / out)])
    table = tmp_path / "b" / PER_IMAGE
    head, *lines = table.read_text().splitlines()
    changed = {"sorted": lines[::-1], "of another run": [lines[0], *lines[:-1]], "half of a line": lines[:-1]}[how]
    table.write_text("\n".join([head, *changed]) + "\n")
    with pytest.raises(UserError, match=r"b/per_image.csv: is not as evaluate wrote it with metrics.json"):
        compare.main([str(tmp_path / "a"), str(tmp_path / "b")])


def test_an_older_table_in_another_order_is_refused(pair):
    """If broken, images are paired by line where `evaluate` did not yet record what tells that the lines moved."""
    table = pair[1] / "evaluation/ph2-validation" / PER_IMAGE
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head, *lines[::-1]]) + "\n")
    path = pair[0] / "evaluation/ph2-validation" / METRICS
    for folder in (path.parent, table.parent):
        metrics = json.loads((folder / METRICS).read_text())
        (folder / METRICS).write_text(json.dumps({**metrics, "identity": {"pixels": "p"}}))
    with pytest.raises(UserError, match="list the same images in another order"):
        compare.main([str(run) for run in pair])


def test_a_full_disk_leaves_no_mixture(tiny_run, tmp_path, monkeypatch):
    """If broken, an evaluation that fails between its two files leaves scores of one run beside those of another."""
    for out in ("a", "b"):
        evaluate.main(["--workdir", str(tiny_run), "--out", str(tmp_path / out)])

    def full(path, values):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("jaxseg.evaluation.scoring.write_json", full)
    with pytest.raises(OSError, match="No space left"):
        evaluate.main(["--workdir", str(tiny_run), "--out", str(tmp_path / "b"), "--threshold", "0.3", "--overwrite"])
    with pytest.raises(UserError, match="is not as evaluate wrote it"):
        compare.main([str(tmp_path / "a"), str(tmp_path / "b")])


def test_a_table_saved_by_a_spreadsheet_is_told(pair):
    """If broken, a byte order mark at the table's beginning reads as a table of an older jaxseg."""
    table = pair[1] / "evaluation/ph2-validation" / PER_IMAGE
    table.write_text(table.read_text(), encoding="utf-8-sig")
    compare.main([str(run) for run in pair])


def test_one_run_is_not_compared(pair):
    """If broken, a single run gives an empty table."""
    with pytest.raises(UserError, match="name at least two runs"):
        compare.main([str(pair[0])])


def test_needs_no_jax(pair):
    """If broken, reading two tables takes seconds, or the memory of an accelerator."""
    code = "import sys; from jaxseg import compare; compare.main(sys.argv[1:]); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, *pair], capture_output=True).returncode == 0


def test_takes_what_evaluate_writes(tiny_run, tmp_path, capsys):
    """If broken, evaluate's files have changed and compare cannot read them."""
    for out in ("a", "b"):
        evaluate.main(["--workdir", str(tiny_run), "--out", str(tmp_path / out)])
    assert "# synthetic test, 6 images" in said(capsys, tmp_path / "a", tmp_path / "b")
