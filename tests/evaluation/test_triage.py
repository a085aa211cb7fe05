"""What the trust score is worth: how many failures are among the least trusted images."""

import csv
import json

import numpy as np
import pytest

from jaxseg import evaluate
from jaxseg.data import open_split
from jaxseg.evaluation.triage import worth_of_trust
from jaxseg.inference.segmenter import Segmenter
from jaxseg.inference.trust import trust_of
from jaxseg.report.charts import triage


def test_a_perfect_order_finds_all_failures():
    """If broken, the share that is found counts other images than the least trusted fifth."""
    jaccard = np.linspace(0.5, 1, 50)  # 15 failures
    found = worth_of_trust(jaccard, jaccard, jaccard)
    assert found["spearman_dice"] == pytest.approx(1)
    assert (found["images_looked_at"], found["failures"], found["failures_found"]) == (10, 15, 10)
    assert found["share_of_failures_found"] == found["share_at_best"] == 10 / 15
    assert worth_of_trust(-jaccard, jaccard, jaccard)["failures_found"] == 0
    assert worth_of_trust(-jaccard, jaccard, jaccard)["spearman_dice"] == pytest.approx(-1)


def test_a_random_order_finds_a_fifth():
    """If broken, a score that knows nothing looks useful."""
    rng = np.random.default_rng(0)
    jaccard = rng.uniform(0.3, 1, 5000)
    found = worth_of_trust(rng.random(5000), jaccard, jaccard)
    assert found["share_of_failures_found"] == pytest.approx(0.2, abs=0.03)
    assert found["spearman_dice"] == pytest.approx(0, abs=0.05)


def test_nothing_can_be_told_of_equal_scores():
    """If broken, one image, or a set without failures, ends in NaN, which strict JSON refuses."""
    found = worth_of_trust([0.9], [0.8], [0.7])
    assert found == {
        "spearman_dice": None,
        "images_looked_at": 1,
        "failures": 0,
        "failures_found": 0,
        "share_of_failures_found": None,
        "share_at_best": None,
    }
    assert worth_of_trust([0.5] * 9, [0.8] * 9, [0.1] * 9)["spearman_dice"] is None


def test_evaluate_says_what_trust_is_worth(tiny, tiny_run, tmp_path):
    """If broken, trust in `per_image.csv` is not predict's, or metrics.json sums up another column."""
    evaluate.main(["--workdir", str(tiny_run), "--split", "test", "--out", str(tmp_path)])
    rows = list(csv.DictReader((tmp_path / "per_image.csv").read_text().splitlines()))
    segmenter, examples = Segmenter.load(tiny_run), open_split(tiny.data, "test")
    images = (segmenter.resize(examples.load(i).image) for i in range(len(examples)))
    for row, (_, probability) in zip(rows, segmenter.stream((None, image) for image in images), strict=True):
        assert float(row["trust"]) == pytest.approx(trust_of(segmenter).score(probability), abs=1e-6)
    columns = ([float(row[name]) for row in rows] for name in ("trust", "dice", "jaccard"))
    assert json.loads((tmp_path / "metrics.json").read_text())["trust"] == pytest.approx(worth_of_trust(*columns))
    page = (tmp_path / "report.html").read_text()
    assert "how uncertain each pixel is" in page
    assert "· trust 0." in page


def test_the_chart_ends_without_failures_left():
    """If broken, the curve of the page does not begin at all failures and end at none."""
    rng = np.random.default_rng(0)
    chart = triage(rng.random(40).tolist(), rng.uniform(0.4, 1, 40).tolist(), "x-")
    assert chart.startswith("<svg")
    assert "by trust" in chart
    assert "failures left" in chart
