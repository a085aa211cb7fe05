"""Scores against the official scorer of the ISIC challenges, which reads the masks that `predict` writes."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from jaxseg import evaluate, predict
from jaxseg.config import DataConfig
from jaxseg.data import open_split

SCORES = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "jaccard": "jaccard",
    "threshold_jaccard": "thresholded_jaccard",
    "dice": "dice",
}
"""Our names by the official ones."""


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # the scorer is older than pandas 3
def test_scores_equal_the_official_scorers(tiny_run, tmp_path):
    """If broken, a challenge's server gives other scores than evaluate for the masks that predict wrote."""
    pytest.importorskip("isic_challenge_scoring", reason="pip install isic-challenge-scoring")
    from isic_challenge_scoring.load_image import iter_image_pairs
    from isic_challenge_scoring.segmentation import SegmentationScore

    examples = open_split(DataConfig(name="synthetic", synthetic_eval=6), "test")
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
    for i in range(len(examples)):
        image, mask = examples.load(i)
        if i == 5:  # an empty mask, where conventions differ
            mask = np.zeros_like(mask)
        Image.fromarray(image).save(tmp_path / "set" / "images" / f"ISIC_{i:07d}.png")
        Image.fromarray(mask[..., 0] * np.uint8(255)).save(
            tmp_path / "set" / "masks" / f"ISIC_{i:07d}_segmentation.png"
        )
    workdir, out, masks = str(tiny_run), tmp_path / "scores", tmp_path / "predicted"
    evaluate.main(["--workdir", workdir, "--data", str(tmp_path / "set"), "--out", str(out)])
    predict.main(["--workdir", workdir, "--input", str(tmp_path / "set" / "images"), "--output", str(masks)])
    pairs = list(iter_image_pairs(tmp_path / "set" / "masks", masks))
    rows = list(csv.DictReader((out / "per_image.csv").read_text().splitlines()))
    assert len(pairs) == len(rows) == 6
    for pair, row in zip(pairs, rows, strict=True):
        official = SegmentationScore([pair]).macro_average
        assert pair.image_id == row["name"]
        assert {ours: f"{official[theirs]:.6f}" for theirs, ours in SCORES.items()} == {
            n: row[n] for n in SCORES.values()
        }
    means = json.loads((out / "metrics.json").read_text())["native"]["per_image"]
    for theirs, ours in SCORES.items():
        assert means[ours] == pytest.approx(SegmentationScore(pairs).macro_average[theirs], abs=1e-12), ours
    assert 0 < means["jaccard"] < 1, "the model must find something for this to compare anything"
