"""Scores a model on a split and writes the evaluation's folder."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.config import DataConfig
from jaxseg.data import Examples
from jaxseg.data.identity import Identity, hash_all, identify
from jaxseg.data.images import resize_mask
from jaxseg.data.listing import named
from jaxseg.data.looks import Look, fingerprint
from jaxseg.data.pipeline import read_ahead
from jaxseg.evaluation import bootstrap as statistics
from jaxseg.evaluation.cases import draw_cases
from jaxseg.evaluation.folder import reading_of
from jaxseg.evaluation.records import OVERLAP_SCORES, Scored, per_image_csv, score_image, score_tables
from jaxseg.evaluation.triage import worth_of_trust
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter, resize_probability
from jaxseg.inference.threshold import describe_masks, validation_images
from jaxseg.inference.trust import trust_of
from jaxseg.metrics import LEAST_JACCARD
from jaxseg.pretrained.place import display_name
from jaxseg.report.figures import SYNTHETIC_MARK
from jaxseg.report.page import write_page
from jaxseg.runs.copies import find as find_copies
from jaxseg.runs.workdir import METRICS, PER_IMAGE, PER_IMAGE_HASH, hash_per_image
from jaxseg.system.files import write_json, write_text
from jaxseg.system.progress_bar import progress

log = logging.getLogger("jaxseg.evaluate")


def evaluate(
    segmenter: Segmenter, prediction: Prediction, examples: Examples, data_config: DataConfig, out: Path
) -> dict[str, Any]:
    """Scores a split and writes the results.

    Args:
      segmenter: the model.
      prediction: how probabilities become masks.
      examples: the split.
      data_config: how it was opened.
      out: folder for the results.

    Returns:
      The content of `metrics.json`.
    """
    recognised = segmenter.recognise(examples, data_config.data_dir)
    seen = recognised.trained_on
    if seen:
        log.warning("%d of the %d images were TRAINED ON: not an honest test", seen, len(examples))
    elif seen is None:
        log.warning(
            "cannot be told whether some images were TRAINED ON: a run keeps no list, and its data are not as they were"
        )
    prediction = with_overlap(segmenter, prediction, recognised.identities, data_config)
    looks: dict[int, Look] = {}
    scored = [of_one for (of_one,) in score_images(segmenter, [prediction], examples, data_config.workers, looks)]
    copies = _tell_of_copies(segmenter, examples, recognised.identities, looks)
    metrics = {
        "data": {
            "dataset": examples.dataset,
            "split": examples.split,
            "images": len(examples),
            "synthetic": examples.dataset == "synthetic",
            "fingerprint": examples.fingerprint(),
            "trained_on": seen,
            "reading": reading_of(data_config),
        },
        "identity": {**hash_all(recognised.identities), "validated_on": recognised.validated_on, "copies": copies},
        "model": {
            "workdir": display_name(segmenter.members[0].workdir),
            "step": segmenter.step,
            "trained_on": segmenter.config.data.name,
        },
        "threshold": prediction.threshold,
        "prediction": describe_masks(segmenter, prediction),
        **score_tables(scored, examples.groups, segmenter.image_size),
        "trust": worth_of_trust(
            [s.trust for s in scored], [s.native["dice"] for s in scored], [s.native["jaccard"] for s in scored]
        ),
        "bootstrap": statistics.describe_intervals(),
    }
    # The table first: what tells a mixture of two evaluations, should the disk be full now, is in the other.
    write_text(out / PER_IMAGE, per_image_csv(scored, examples.names, examples.groups))
    metrics[PER_IMAGE_HASH] = hash_per_image(out)
    write_json(out / METRICS, metrics)
    draw_cases(segmenter, prediction, scored, examples, out)
    log_table(metrics, out)
    log.info("look at %s", write_page(segmenter.members[0].workdir, out))
    return metrics


def _tell_of_copies(
    segmenter: Segmenter, examples: Examples, identities: Sequence[Identity], looks: Mapping[int, Look]
) -> int | None:
    """Warns of images that look like training images, and returns their number; None where no run can tell."""
    if examples.dataset == "synthetic":  # drawn images are not copies of one another
        return 0
    runs = [member.workdir for member in segmenter.members]
    found = find_copies(runs, [looks[i] for i in range(len(examples))], identities)
    if found:
        log.warning(
            "%d of the %d images LOOK LIKE TRAINING IMAGES (%s), as copies do that were converted, resized, turned or "
            "mirrored: not an honest test",
            len(found),
            len(examples),
            named(examples.names[i] for i in found),
        )
    return None if found is None else len(found)


def with_overlap(
    segmenter: Segmenter, prediction: Prediction, identities: Sequence[Identity], data_config: DataConfig
) -> Prediction:
    """Adds to the record of a chosen threshold how many of the scored images it was chosen on, and says so.

    Args:
      segmenter: the model.
      prediction: how its masks are made.
      identities: of the scored images.
      data_config: how they were opened.

    Returns:
      `prediction` with that record, where the threshold was chosen.
    """
    if prediction.threshold_chosen_on is None:
        return prediction
    chosen_on = identify(validation_images(segmenter, data_config.data_dir, data_config.name))
    tellers = set().union(*(identity.images() for identity in chosen_on))
    both = sum(bool(identity.images() & tellers) for identity in identities)
    if both:
        log.warning("the threshold was CHOSEN ON %d of the %d images: not an honest test", both, len(identities))
    return dataclasses.replace(
        prediction, threshold_chosen_on={**prediction.threshold_chosen_on, "scored_images": both}
    )


def score_images(
    segmenter: Segmenter,
    predictions: Sequence[Prediction],
    examples: Examples,
    workers: int,
    looks: dict[int, Look] | None = None,
) -> Iterator[tuple[Scored, ...]]:
    """Segments and scores images one by one, in order; decoding runs ahead in threads, memory stays bounded.

    Args:
      segmenter: the model.
      predictions: ways in which probabilities become masks.
      examples: the images.
      workers: number of decoding threads.
      looks: takes what each image looks like, by index; default: nobody asks.

    Yields:
      The scores of each image, by each of the ways.
    """

    def load(index: int) -> tuple[tuple[int, np.ndarray], np.ndarray]:
        image, mask = examples.load(index)
        if looks is not None:
            looks[index] = fingerprint(image)
        return (index, mask), segmenter.resize(image)

    loaded = read_ahead(load, range(len(examples)), workers)
    size = (segmenter.image_size, segmenter.image_size)
    trust = trust_of(segmenter)
    scored = progress(segmenter.stream(loaded), f"scoring {examples.split}", len(examples))
    for (index, mask), probability in scored:
        at_native_size = resize_probability(probability, mask.shape[:2])
        truth, small_truth = mask[..., 0].astype(bool), resize_mask(mask, size)[..., 0].astype(bool)
        yield tuple(
            score_image(
                index,
                native=(prediction.mask(at_native_size), truth),
                network=(prediction.mask(probability), small_truth),
                probability=probability,
                trust=trust.score(probability, prediction),
            )
            for prediction in predictions
        )


def log_table(metrics: dict[str, Any], out: Path) -> None:
    """Logs the scores and where the files are.

    Args:
      metrics: content of `metrics.json`.
      out: the evaluation's folder.
    """
    about = metrics["data"]
    note = SYNTHETIC_MARK if about["synthetic"] else ""
    log.info("%s %s, %d images%s", about["dataset"], about["split"], about["images"], note)
    log.info("%-20s%25s%9s%26s%9s", "", "native, per image", "pooled", "network, per image", "pooled")
    for name in OVERLAP_SCORES:
        cells = []
        for place in ("native", "network"):
            table = metrics[place]
            low, high = table["per_image_interval"][name]
            pooled = f"{table['pooled'][name]:.4f}" if name in table["pooled"] else ""
            cells += [f"{table['per_image'][name]:.4f} [{low:.4f}, {high:.4f}]", pooled]
        log.info("%-20s%25s%9s%26s%9s", name, *cells)
    _log_trust(metrics["trust"])
    log.info("in brackets: %g %% bootstrap interval over images", 100 * metrics["bootstrap"]["level"])
    log.info("written to %s: metrics.json, per_image.csv, cases.png, overlays/, cases/", out)


def _log_trust(worth: dict[str, Any]) -> None:
    if worth["spearman_dice"] is not None:
        log.info("trust: rank correlation with Dice %.2f", worth["spearman_dice"])
    if worth["failures"]:
        log.info(
            "trust: %d of the %d images that failed (Jaccard below %g) are among the %d least trusted",
            worth["failures_found"],
            worth["failures"],
            LEAST_JACCARD,
            worth["images_looked_at"],
        )
