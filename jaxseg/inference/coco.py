"""Outlines as a COCO data set: one JSON file for all images of a folder, which grows with every call."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import jaxseg
from jaxseg.data.listing import named
from jaxseg.data.outlines import LESION
from jaxseg.errors import UserError, one_line
from jaxseg.inference.contours import Part, maker_of_mark, mark
from jaxseg.inference.inputs import InputImage
from jaxseg.inference.table import GrowingFile
from jaxseg.report.figures import maker_of_png

log = logging.getLogger("jaxseg.predict")

DESCRIPTION = "lesions found by jaxseg"
"""Says of a COCO file that predict wrote it."""

_MADE_BY = "made_by"
"""Field of an image that says what its outlines were drawn around, as `mark` has it."""

_CATEGORY = {"id": 1, "name": LESION, "supercategory": "skin"}


class CocoFile(GrowingFile):
    """The images of a COCO file and what is drawn on them; safe to use from several threads.

    Attributes:
      path: the file.
      simplify: largest error of new outlines, pixels.
      entries: "image" and "annotations" of each image, without ids, by the image's `file_name`.
    """

    def __init__(self, path: Path, simplify: float = 0):
        """Reads the file, if there is one.

        Args:
          path: the file.
          simplify: largest error of new outlines, pixels.

        Raises:
          UserError: there is a file of that name that is no COCO file by predict.
        """
        super().__init__(path)
        self.simplify = simplify
        self.entries: dict[str, dict[str, Any]] = _read(path) if path.exists() else {}
        self._edited: set[str] = set()

    def holds(self, image: InputImage) -> bool:
        """Returns whether an image is in the file, with the mask that is there, which may have been edited since.

        Outlines that were edited while the mask was not are kept, too.
        """
        entry = self.entries.get(image.relative)
        if entry is None:
            return False
        if self._is_edited(image):
            self._edited.add(image.relative)
            return True
        if sum(a["area"] for a in entry["annotations"]) != image.mask_area:
            return False
        return entry["image"].get(_MADE_BY) in (None, mark(maker_of_png(image.mask), self.simplify))

    def tell(self) -> None:
        """Warns of the outlines that were edited."""
        if self._edited:
            log.warning(
                "%s: the outlines of %d images are not those of their masks: edited, and kept all the same (%s); take "
                "these entries away to have them made again",
                self.path,
                len(self._edited),
                named(sorted(self._edited)),
            )

    def _is_edited(self, image: InputImage) -> bool:
        """Tells whether somebody changed an image's outlines since they were drawn around the mask that is there."""
        entry = self.entries[image.relative]
        if image.mask_area in (None, sum(a["area"] for a in entry["annotations"])):  # None: damaged, and made again
            return False
        maker = maker_of_png(image.mask)
        return maker != "" and maker_of_mark(entry["image"].get(_MADE_BY, "")) == maker

    def add(self, image: InputImage, parts: Sequence[Part], mask: np.ndarray, made_by: str = "") -> None:
        """Adds or replaces an image; edited outlines of a mask that is kept stay.

        Args:
          image: the image.
          parts: its outlines, from `trace`; none for an empty mask.
          mask: bool [H, W], of which area and bounding box are taken.
          made_by: from `mark`; empty for none.
        """
        if "mask" not in image.products and image.relative in self.entries and self._is_edited(image):
            return
        height, width = mask.shape
        described = {"file_name": image.relative, "width": width, "height": height}
        described |= {_MADE_BY: made_by} if made_by else {}
        self.put(self.entries, image.relative, {"image": described, "annotations": _annotations(parts, mask)})

    def text(self) -> str:
        """Returns the content of the file, images sorted by name."""
        images, annotations = [], []
        for image_id, (_, entry) in enumerate(sorted(self.entries.items()), 1):
            images.append({"id": image_id, **entry["image"]})
            for annotation in entry["annotations"]:
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
        return json.dumps(
            {
                "info": {"description": DESCRIPTION, "version": jaxseg.__version__},
                "images": images,
                "annotations": annotations,
                "categories": [_CATEGORY],
            },
            allow_nan=False,
        )


def _annotations(parts: Sequence[Part], mask: np.ndarray) -> list[dict[str, Any]]:
    if not parts:
        return []
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    left, top, right, bottom = (int(i) for i in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return [
        {
            "category_id": _CATEGORY["id"],
            "iscrowd": 0,
            "area": int(np.count_nonzero(mask)),
            "bbox": [left, top, right - left, bottom - top],
            "segmentation": segmentation(parts),
        }
    ]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["info"]["description"] != DESCRIPTION or values["categories"] != [_CATEGORY]:
            raise ValueError("is not by predict")
        entries = {image["id"]: {"image": _without(image, "id"), "annotations": []} for image in values["images"]}
        for annotation in values["annotations"]:
            entries[annotation["image_id"]]["annotations"].append(_without(annotation, "id", "image_id"))
        return {entry["image"]["file_name"]: entry for entry in entries.values()}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: is no COCO file by predict, which would write its own there ({one_line(error)}); take it away, "
            "or give another --output"
        ) from error


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def segmentation(parts: Sequence[Part]) -> list[list[float]]:
    """Returns outlines as a COCO segmentation: one polygon for each part, as x1, y1, x2, y2, ...

    COCO's polygons have no holes. Each hole is joined to the outline by a cut of no width, there and back: filled by
    the even-odd or the nonzero rule, the polygon has the hole.

    Args:
      parts: from `trace`.
    """
    return [_joined(part).ravel().tolist() for part in parts]


def _joined(part: Part) -> np.ndarray:
    """Returns the outline of a part with its holes, [N, 2], as one ring."""
    from scipy.spatial import KDTree

    ring, holes = part.outer, list(part.holes)
    while holes:
        tree = KDTree(ring)
        nearest = [tree.query(hole) for hole in holes]
        i = min(range(len(holes)), key=lambda k: nearest[k][0].min())
        hole, (distances, corners) = holes.pop(i), nearest[i]
        start = int(distances.argmin())
        corner = int(corners[start])
        way_round = np.concatenate([hole[start:], hole[: start + 1]])
        ring = np.concatenate([ring[: corner + 1], way_round, ring[corner:]])
    return ring
