"""Packs a run into the package, as the model that commands take where no `--workdir` is given.

    python -m experiments.package_model --workdir runs/inside [--about FILE.json] [--seen RUN ...]
    python -m jaxseg.evaluate --data isic2016 --split test --out scores/isic
    python -m experiments.package_model --scores scores/isic/metrics.json [--threshold 0.45] [--about FILE.json]

The first command writes the best weights (kernels in float16), `card.json`, the images that the weights have seen, and
the model card into `jaxseg/pretrained/`; the scores are empty then. The last one adds scores, of the packed weights
alone, and a threshold. Each takes half a minute on two CPU cores. Expect masks that differ from the run's in less than
one pixel of a thousand; the command measures it on drawn images and refuses more.

`--about` names a JSON file with any of "name", "description", "limits" (a list), and "data": title and licence by data
set, as {"isic2016": {"title": "ISIC 2016, four fifths of the training images", "licence": "CC-0"}}.
"""

import argparse
import dataclasses
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.shared.origin import JSON, names_alone
from jaxseg import cli, data
from jaxseg.config import Config, datasets
from jaxseg.errors import RunError, UserError
from jaxseg.evaluation.records import read_per_image
from jaxseg.inference.segmenter import Segmenter
from jaxseg.metrics import LEAST_JACCARD
from jaxseg.pretrained import card, place, weights
from jaxseg.runs import images
from jaxseg.runs.checkpoint import restore_best
from jaxseg.runs.parent import RECORD
from jaxseg.runs.workdir import packed_id, read_config
from jaxseg.steps import Steps, state_target
from jaxseg.system import startup
from jaxseg.system.files import read_json, write_json, write_text

log = logging.getLogger("jaxseg.package_model")

DRAWN = "images drawn in training"
"""What the card calls images that exist for one step alone (`data.synthetic_share`)."""

LICENCES = {"synthetic": "drawn by jaxseg", DRAWN: "drawn by jaxseg", "isic2016": "CC-0"}
"""Licences of data sets whose models may be distributed."""

REFUSED = {"ph2": "PH2 is licensed for research alone"}
"""Data sets whose models may not be distributed, and why."""

DESCRIPTION = "It segments one pigmented lesion in a dermoscopic photograph."

LIMITS = [
    "It is made for dermoscopic photographs; clinical photographs, which show more than one lesion or a whole part of "
    "the body, were not tried.",
    "Nothing was measured by skin tone: public sets with masks are mostly of light skin.",
    "Hair, rulers, gel bubbles and dark corners can become part of the mask; a lesion that the frame cuts can be "
    "segmented too small.",
]

DRAWN_ALONE = (
    "It was trained on drawn images alone, and stands here until a model that was trained on photographs replaces it: "
    "on photographs expect masks that are wrong."
)

MOVED_SHARE = 1e-3
"""Largest share of pixels that rounding the weights may move to the other side of the threshold."""

CHECKED = 16
"""Number of drawn images on which that is measured."""


def pack(workdir: Path, folder: Path, about: Mapping[str, JSON], seen: Sequence[Path] = ()) -> JSON:
    """Packs the best weights of a run.

    Args:
      workdir: the run's folder.
      folder: where to; a packed model that is there already is replaced.
      about: content of the file that `--about` names.
      seen: further runs whose training images the weights know, such as those of a teacher.

    Returns:
      The content of `card.json`.

    Raises:
      UserError: the folder holds no run, the images that it was trained on are not known, a data set's licence is not
        known or does not allow it, or the weights are too large.
      RunError: the rounded weights make other masks.
    """
    config = read_config(workdir)
    run = names_alone(read_json(workdir / "config.json"))
    variables, step = restore_best(workdir, state_target(config, Steps(config, jax.local_devices()[:1])).variables)
    with tempfile.TemporaryDirectory() as temporary:
        packed = Path(temporary)
        facts = {name: run[name] for name in ("data", "device", "seed", "versions", "commit", "started")}
        others = [names_alone(read_json(other / "config.json")) for other in seen]
        trained_on = describe_data([run, *others], about, step * config.drawn_per_step)
        content = {
            "schema_version": run["schema_version"],
            "name": about.get("name", f"jaxseg {config.data.image_size} px"),
            "description": about.get("description", DESCRIPTION),
            "licence": "Apache-2.0",
            "threshold": 0.5,
            "trained_on": trained_on,
            "scores": None,
            "limits": about.get("limits", [*limits_of(run, seen), *LIMITS]),
            "step": step,
            "weights": weights.write(packed, jax.device_get(variables)),
            "config": {**run["config"], "data": {**run["config"]["data"], "data_dir": "", "groups": ""}},
            **facts,
            RECORD: run.get(RECORD),
        }
        write_json(packed / place.CARD, content)
        images.write_packed(packed, seen_images([workdir, *seen]))
        write_text(packed / place.MODEL_CARD, card.markdown(content))
        check_masks(workdir, packed)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (place.WEIGHTS, place.IMAGES, place.MODEL_CARD, place.CARD):
            shutil.copyfile(packed / name, folder / name)
    return content


def limits_of(run: JSON, seen: Sequence[Path]) -> list[str]:
    """Returns the limit of a model that never saw a photograph, if it is one.

    Args:
      run: content of `config.json`.
      seen: further runs whose training images the weights know.
    """
    return [DRAWN_ALONE] if run["data"]["synthetic"] and not run.get(RECORD) and not seen else []


def describe_data(runs: Sequence[JSON], about: Mapping[str, JSON], drawn: int) -> list[JSON]:
    """Returns the data sets of runs, and of those whose weights they started with, as the card has them.

    Args:
      runs: contents of `config.json`.
      about: content of the file that `--about` names.
      drawn: number of images that were drawn on the device, beside those of the first run's data set.

    Raises:
      UserError: a licence is not known, or does not allow it.
    """
    counts: dict[str, int] = {}
    for number, run in enumerate(runs):
        parent = run.get(RECORD)
        found = [(run["data"]["dataset"], run["data"]["train_images"])]
        if drawn and not number:
            found.append((DRAWN, drawn))
        while parent:
            if parent.get("drawn_images"):
                found.append((DRAWN, parent["drawn_images"]))
            found.append((parent["dataset"], parent["train_images"]))
            parent = parent[RECORD]
        for dataset, count in found:
            # Runs in a row often share their images; drawn ones are others in every run.
            counts[dataset] = counts.get(dataset, 0) + count if dataset == DRAWN else max(counts.get(dataset, 0), count)
    result = []
    for dataset, count in counts.items():
        told = about.get("data", {}).get(dataset, {})
        licence = told.get("licence", LICENCES.get(dataset))
        if dataset in REFUSED or not licence:
            why = REFUSED.get(dataset, "its licence is not known; give it in --about")
            raise UserError(f"trained on {dataset}: {why}")
        title = told.get("title") or (dataset if dataset == DRAWN else datasets.data_set(dataset).title or dataset)
        result.append({"dataset": dataset, "title": title, "images": count, "licence": licence})
    return result


def seen_images(workdirs: Sequence[Path]) -> images.ImageList:
    """Returns the list of the first run, with the images of the others among the inherited ones.

    Raises:
      UserError: a run keeps no list, or its weights have seen images that nobody knows.
    """
    first, *others = lists = [images.read(workdir) for workdir in workdirs]
    for workdir, listed in zip(workdirs, lists, strict=True):
        if listed is None or listed.inherited_unlisted:
            raise UserError(f"{workdir}: it is not known which images its weights have seen; train it again")
    parts = [listed.inherited() for listed in others]
    names = ("inherited_train", "inherited_validation")
    added = {name: tuple(dict.fromkeys(sum((part[name] for part in parts), getattr(first, name)))) for name in names}
    return dataclasses.replace(first, **added)


def check_masks(workdir: Path, packed: Path) -> None:
    """Compares the masks of a run and of its packed weights on drawn images.

    Args:
      workdir: the run's folder.
      packed: folder of the packed model.

    Raises:
      RunError: more than `MOVED_SHARE` of the pixels differ.
    """
    drawn = Config().updated({"data.name": "synthetic", "data.synthetic_eval": CHECKED}).data
    examples = data.open_split(drawn, "test")
    before, after = Segmenter.load(workdir), Segmenter.load(packed)
    maps = [[s(examples.load(i).image) for i in range(len(examples))] for s in (before, after)]
    moved = np.mean([np.mean((a > 0.5) != (b > 0.5)) for a, b in zip(*maps, strict=True)])
    largest = max(np.abs(a - b).max() for a, b in zip(*maps, strict=True))
    log.info("float16 moves %.4f %% of the pixels, probabilities by %.4f at most", 100 * moved, largest)
    if moved > MOVED_SHARE:
        raise RunError(f"rounding to float16 moves {100 * moved:.2f} % of the pixels to the other side of 0.5")


def score_of(metrics_file: Path, content: JSON, told: JSON) -> JSON:
    """Returns what the card keeps of an evaluation.

    Args:
      metrics_file: `metrics.json` of the evaluation, beside its `per_image.csv`.
      content: the card.
      told: content of `--about`.

    Raises:
      UserError: the evaluation is of other weights, or of another way of making masks than a user gets.
    """
    metrics = read_json(metrics_file)
    how = metrics["prediction"]
    if [member["run"] for member in how["ensemble"]] != [packed_id(content)]:
        raise UserError(f"{metrics_file}: scores of other weights; evaluate the packed model, without --workdir")
    plain = {"test_time_augmentation": False, "largest_component": False, "fill_holes": False}
    if any(how[name] != value for name, value in plain.items()) or how["threshold"] != content["threshold"]:
        raise UserError(
            f"{metrics_file}: scored with other options than predict has without any, at threshold "
            f"{content['threshold']:g}; evaluate without options"
        )
    about, native = metrics["data"], metrics["native"]
    jaccard = read_per_image(metrics_file.parent).values["jaccard"]
    dataset = names_alone(about["dataset"])
    title = told.get("data", {}).get(dataset, {}).get("title")
    return {
        "title": title or f"{datasets.data_set(dataset).title or dataset} {about['split']}",
        **{name: about[name] for name in ("images", "trained_on")},
        "validated_on": metrics["identity"]["validated_on"],
        "dice": native["per_image"]["dice"],
        "dice_interval": native["per_image_interval"]["dice"],
        "dice_pooled": native["pooled"]["dice"],
        "jaccard_pooled": native["pooled"]["jaccard"],
        "thresholded_jaccard": native["per_image"]["thresholded_jaccard"],
        "failures": int(np.sum(jaccard < LEAST_JACCARD)),
        "by_lesion_size": {
            name: {"from": low, "to": high, "images": part["images"], "dice": part["per_image"]["dice"]}
            for name, part in metrics["subgroups"]["lesion_size"].items()
            for low, high in [part["lesion_fraction"]]
        },
    }


def add_scores(folder: Path, files: Sequence[Path], threshold: float | None, told: JSON) -> JSON:
    """Replaces the scores of a packed model, and its threshold where one is given.

    Args:
      folder: the packed model's folder.
      files: `metrics.json` of each evaluation; none leaves the scores as they are.
      threshold: probability above which a pixel is lesion, in (0, 1); None leaves it as it is.
      told: content of `--about`: titles of the data sets.

    Returns:
      The new content of `card.json`.

    Raises:
      UserError: there is no packed model, a threshold is given without scores at it, or scores are of another model.
    """
    content = read_json(folder / place.CARD)
    if threshold is not None and threshold != content["threshold"]:
        content |= {"threshold": threshold, "scores": None}  # those at the old threshold are not what a user gets
    if files:
        content["scores"] = [score_of(path, content, told) for path in files]
    write_json(folder / place.CARD, content)
    write_text(folder / place.MODEL_CARD, card.markdown(content))
    return content


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, packs, adds scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--workdir", type=Path, metavar="RUN", help="the run to pack; default: none, for --scores alone"
    )
    parser.add_argument("--about", type=Path, metavar="FILE", help="JSON file with name, description, limits and data")
    parser.add_argument(
        "--seen", type=Path, nargs="+", default=[], metavar="RUN", help="runs whose images count as seen too"
    )
    parser.add_argument(
        "--scores", type=Path, nargs="+", default=[], metavar="FILE", help="metrics.json of evaluations"
    )
    parser.add_argument("--threshold", type=float, help="probability above which a pixel is lesion (default: 0.5)")
    parser.add_argument("--output", type=Path, default=place.FOLDER, metavar="DIR", help="default: jaxseg/pretrained")
    args = parser.parse_args(argv)
    cli.start_logging()
    startup.tune()
    about = json.loads(args.about.read_text(encoding="utf-8")) if args.about else {}
    if args.workdir:
        pack(args.workdir, args.output, about, args.seen)
    content = add_scores(args.output, args.scores, args.threshold, about)
    log.info("%s: %s", args.output, card.line(content))


if __name__ == "__main__":
    cli.run_program("python -m experiments.package_model", main)
