"""Pictures of an evaluation's worst, median and best images.

They are written to `cases.png` (a few of each kind on one sheet) and `overlays/` (the same, one file each). For
`report.html`, `cases/` holds small JPEGs of more images and of their uncertainty, and `cases.json` their scores and
their outlines as SVG paths.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxseg.data import Example, Examples
from jaxseg.evaluation.folder import KINDS, OVERLAYS, SHEET, drawn_in
from jaxseg.evaluation.records import Scored
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter, resize_probability
from jaxseg.inference.trust import trust_of
from jaxseg.report.figures import save_png
from jaxseg.report.overlays import Case, overlay, overlay_sheet
from jaxseg.runs.workdir import CASES, PICTURES
from jaxseg.system.files import LONGEST_NAME, replacing, write_json

EACH = 12
"""Number of worst, of median and of best cases that the page shows."""


ON_SHEET = 4
"""Number of each kind that the sheet shows."""


_SIDE = 480  # longer side of a picture on the page, pixels


_TOLERANCE = 0.5  # largest error of a simplified outline, pixels of that picture


def pick(dice: Sequence[float]) -> dict[str, list[int]]:
    """Picks the worst, median and best images; a small set is divided into thirds.

    Args:
      dice: Dice of each image.

    Returns:
      Indices under "worst", "median" and "best", each from lower to higher Dice, and none twice.
    """
    order = np.argsort(dice, kind="stable")
    if len(order) > 3 * EACH:
        middle = (len(order) - EACH) // 2
        parts = order[:EACH], order[middle : middle + EACH], order[-EACH:]
    else:
        parts = np.array_split(order, 3)
    return {kind: part.tolist() for kind, part in zip(KINDS, parts, strict=True)}


def _of_the_sheet(picked: Mapping[str, list[int]]) -> set[int]:
    """Returns the extremes of the worst and the best, and the middle of the median."""
    first = max((len(picked["median"]) - ON_SHEET) // 2, 0)
    return {*picked["worst"][:ON_SHEET], *picked["median"][first : first + ON_SHEET], *picked["best"][-ON_SHEET:]}


def _remove_old_pictures(out: Path) -> None:
    """Removes the pictures of an evaluation that is replaced, which may have other names than the new ones.

    In a folder that holds no evaluation, pictures of such names are the user's, and stay.
    """
    if (out / CASES).exists():
        for path in drawn_in(out):
            path.unlink()


def draw_cases(
    segmenter: Segmenter,
    prediction: Prediction,
    scored: Sequence[Scored],
    examples: Examples,
    out: Path,
) -> None:
    """Draws worst, median and best cases into an evaluation's folder.

    Args:
      segmenter: the model, which segments the picked images again.
      prediction: how probabilities become masks.
      scored: scores of every image, in the order of `examples`; Dice at the image's own resolution decides.
      examples: the split.
      out: the evaluation's folder.
    """
    _remove_old_pictures(out)
    picked, trust = pick([image.native["dice"] for image in scored]), trust_of(segmenter)
    kinds = {i: kind for kind, indices in picked.items() for i in indices}
    loaded = ((i, examples.load(i)) for i in kinds)
    on_sheet, sheet, stored, overlays = _of_the_sheet(picked), [], [], set()
    stream = segmenter.stream(((i, example), segmenter.resize(example.image)) for i, example in loaded)
    for (i, example), probability in stream:
        mask = prediction.mask(resize_probability(probability, example.mask.shape[:2]))
        about = {
            "kind": kinds[i],
            "name": examples.names[i],
            "group": examples.groups[i],
            "scores": scored[i].native,
            "trust": scored[i].trust,
        }
        picture = out / PICTURES / f"{len(stored):02d}.jpg"
        stored.append({**about, **_picture(example, mask, trust.uncertainty(probability), picture)})
        if i in on_sheet:
            truth = example.mask[..., 0]
            sheet.append(Case(f"{kinds[i]}: {examples.names[i]}", example.image, truth, mask, scored[i].native["dice"]))
            name = f"{kinds[i]}_{examples.names[i]}.png".replace("/", "_")
            if name in overlays or len(name.encode()) > LONGEST_NAME:
                name = f"{kinds[i]}_{picture.stem}.png"  # the number of the case
            overlays.add(name)
            save_png(overlay(example.image, mask, truth), out / OVERLAYS / name)
    write_json(out / CASES, {"cases": stored})
    title = f"{segmenter.config.data.name} → {examples.dataset} {examples.split}"
    overlay_sheet(sheet, out / SHEET, title, synthetic=examples.dataset == "synthetic")


def _picture(example: Example, mask: np.ndarray, uncertainty: np.ndarray, path: Path) -> dict[str, Any]:
    """Writes two small JPEG files, of an image and of its uncertainty.

    Args:
      example: image and truth.
      mask: bool [H, W], the prediction.
      uncertainty: float32 [S, S], in [0, 1].
      path: the image's file; that of the uncertainty is "NN_uncertainty.jpg".

    Returns:
      The files' names, the size of both pictures, and the outlines to draw on them.
    """
    image = Image.fromarray(example.image)
    image.thumbnail((_SIDE, _SIDE))
    doubt = Image.fromarray(np.rint(uncertainty * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    files = {path: (image, 80), path.with_name(f"{path.stem}_uncertainty.jpg"): (doubt, 60)}
    for file, (picture, quality) in files.items():
        with replacing(file) as temporary:
            picture.save(temporary, format="JPEG", quality=quality, optimize=True)
    first, second = files
    return {
        "image": first.name,
        "uncertainty": second.name,
        "width": image.width,
        "height": image.height,
        "truth": outlines(example.mask[..., 0], image.size),
        "prediction": outlines(mask, image.size),
    }


def outlines(mask: np.ndarray, size: tuple[int, int]) -> str:
    """Traces a mask's outlines, closed along the image's border too.

    Args:
      mask: bool or {0, 1} [H, W].
      size: (width, height) of the picture under the outlines, pixels.

    Returns:
      The `d` attribute of an SVG path in pixels of that picture; "" for an empty mask.
    """
    import contourpy
    from matplotlib.path import Path as Outline

    # The mask is averaged to the picture's size first: pixel steps of a large image would make paths of many KiB.
    share = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    parts = []
    # A rim of skin closes outlines at the border, half a pixel outside the centres of the outermost pixels.
    for line in contourpy.contour_generator(z=np.pad(np.asarray(share), 1)).lines(127.5):
        outline = Outline(line - 0.5)
        outline.simplify_threshold = _TOLERANCE
        points = outline.cleaned(simplify=True).vertices[:-1]  # the last is matplotlib's mark of the end
        parts.append("M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + "Z")
    return "".join(parts)
