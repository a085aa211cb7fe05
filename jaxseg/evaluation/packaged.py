"""The end of the demo: what the model inside the package makes of a few images, and how to try it on a photograph."""

import logging
from pathlib import Path

import numpy as np

from jaxseg.data import Examples
from jaxseg.evaluation.records import count, overlap_scores
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter, resize_probability
from jaxseg.report.overlays import Case, overlay_sheet

PICTURE = "packaged_model.png"

_IMAGES = 4

log = logging.getLogger("jaxseg.evaluate")


def show_packaged_model(examples: Examples, out: Path) -> None:
    """Segments the first images of a set with the model inside the package, and draws them as `PICTURE`.

    Args:
      examples: generated images with their masks.
      out: the evaluation's folder.
    """
    segmenter = Segmenter.load(batch_size=_IMAGES)
    prediction, cases = Prediction(segmenter.threshold), []
    loaded = [(name, examples.load(i)) for i, name in enumerate(examples.names[:_IMAGES])]
    items = (((name, example), segmenter.resize(example.image)) for name, example in loaded)
    for (name, example), probability in segmenter.stream(items):
        truth = example.mask[..., 0].astype(bool)
        mask = prediction.mask(resize_probability(probability, truth.shape))
        cases.append(Case(name, example.image, truth, mask, overlap_scores(count(mask, truth))["dice"]))
    overlay_sheet(cases, out / PICTURE, f"the model inside the package → {examples.dataset}", synthetic=True)
    dice = np.mean([case.dice for case in cases])
    log.info("the model inside, on %d of these generated images: Dice %.4f; see %s", len(cases), dice, out / PICTURE)
    log.info("on your own photograph, without training: python -m jaxseg.predict --input photo.jpg --output masks")
