"""Outlines of masks for other tools: GeoJSON, COCO, labelme and SVG.

    from jaxseg.inference.contours import geojson, trace

    parts = trace(mask, simplify=1.5)
    parts[0].outer, parts[0].holes  # float64 [N, 2], (x, y)

Coordinates are pixels of the image as `jaxseg` and viewers show it, turned by its EXIF orientation: (0, 0) is the top
left corner, x goes right, y down, and the middle of the first pixel is (0.5, 0.5). Outlines run midway between lesion
and skin pixels, so that a polygon holds the middles of exactly its mask's pixels: filling it gives the mask back.
`jaxseg.data.outlines` reads COCO and labelme files as masks.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from jaxseg.data.outlines import HOLE, LESION

_COLOUR = (255, 0, 230)

_MARK = re.compile(r"jaxseg:(?:[0-9a-f]{16}|hand):[0-9.e+-]+")


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a mask.

    Attributes:
      outer: corners (x, y) of its outline, float64 [N, 2], the first not repeated; clockwise as the image is shown.
      holes: corners of its holes, counter-clockwise.
    """

    outer: np.ndarray
    holes: tuple[np.ndarray, ...] = ()

    @property
    def rings(self) -> tuple[np.ndarray, ...]:
        """The outer outline and the holes."""
        return (self.outer, *self.holes)


def trace(mask: np.ndarray, simplify: float = 0) -> list[Part]:
    """Traces the outlines of a mask.

    Pixels that touch at a corner alone belong to different parts. Along the image's border outlines run a half pixel
    beyond the middles of the outermost pixels: on the border itself.

    Args:
      mask: [H, W], bool or {0, 1}, true for lesion.
      simplify: largest distance by which a simplified outline may leave the exact one, pixels; 0 keeps every corner.

    Returns:
      The parts, from the top left; none for an empty mask.

    Raises:
      ValueError: a negative or infinite distance.
    """
    if not 0 <= simplify < np.inf:
        raise ValueError(f"simplify is {simplify}: must be at least 0")
    import contourpy
    from shapely import Polygon
    from shapely.geometry.polygon import orient

    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return []
    top, left = rows[0], columns[0]
    corner = np.array([left - 0.5, top - 0.5])
    box = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.float64), 1)
    lines = contourpy.contour_generator(z=box, fill_type=contourpy.FillType.OuterOffset).filled(0.5, 2)
    parts = []
    for points, offsets in zip(*lines, strict=True):
        outer, *holes = (points[start:end] + corner for start, end in itertools.pairwise(offsets))
        # Corners on a straight line go in any case.
        polygon = orient(Polygon(outer, holes).simplify(simplify, preserve_topology=True))
        outer, *holes = (np.array(ring.coords)[:-1] for ring in (polygon.exterior, *polygon.interiors))
        parts.append(Part(outer, tuple(holes)))
    return parts


def mark(maker: str, simplify: float) -> str:
    """Returns the text that says in a file of outlines what mask they are of, and how they were simplified.

    Args:
      maker: what made the mask, as its file is marked; empty for a mask that was drawn or corrected by hand.
      simplify: largest error of the outlines, pixels.
    """
    return f"jaxseg:{maker or 'hand'}:{simplify:g}"


def maker_of_mark(text: str) -> str:
    """Returns the maker that `mark` was given; empty for a mask by hand, and for a text that is no mark."""
    maker = text.split(":")[1] if _MARK.fullmatch(text) else ""
    return maker if maker != "hand" else ""


def mark_of(path: Path) -> str:
    """Returns the mark in a file of outlines; empty where there is none, as in files of other tools."""
    found = _MARK.search(path.read_text(encoding="utf-8", errors="replace"))
    return found[0] if found else ""


def geojson(parts: Sequence[Part], name: str, size: tuple[int, int], made_by: str = "") -> dict[str, Any]:
    """Returns outlines as a GeoJSON FeatureCollection, with a Polygon for each part, as QuPath and others read it.

    Args:
      parts: from `trace`.
      name: what to call the image.
      size: (height, width) of the image, pixels.
      made_by: from `mark`; empty for none.
    """
    classification = {"name": LESION, "color": list(_COLOUR)}
    properties = {"objectType": "annotation", "classification": classification, **_made_by(made_by)}
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [_closed(ring) for ring in part.rings]},
            "properties": properties,
        }
        for part in parts
    ]
    return {"type": "FeatureCollection", "image": name, "height": size[0], "width": size[1], "features": features}


def labelme(parts: Sequence[Part], image: Path, file: Path, size: tuple[int, int], made_by: str = "") -> dict[str, Any]:
    """Returns outlines as labelme writes them. Holes are polygons labelled "_background_".

    They are painted one over the other: a part that lies in the hole of another comes after it.

    Args:
      parts: from `trace`.
      image: the image's file.
      file: where the result will be written; it names the image by the way from there.
      size: (height, width) of the image, pixels.
      made_by: from `mark`; empty for none.
    """
    from shapely import Polygon

    largest_first = sorted(parts, key=lambda part: -Polygon(part.outer).area)
    rings = [ring for part in largest_first for ring in ((LESION, part.outer), *((HOLE, hole) for hole in part.holes))]
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": [
            {"label": label, "points": ring.tolist(), "group_id": None, "shape_type": "polygon", "flags": {}}
            for label, ring in rings
        ],
        # From where the folder really is: ".." leads out of a linked folder, not out of its link.
        "imagePath": Path(os.path.relpath(image.parent.resolve() / image.name, file.parent.resolve())).as_posix(),
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
        **_made_by(made_by),
    }


def svg(parts: Sequence[Part], name: str, size: tuple[int, int], made_by: str = "") -> str:
    """Returns outlines as an SVG picture of the image's size.

    Args:
      parts: from `trace`.
      name: title of the picture.
      size: (height, width) of the image, pixels.
      made_by: from `mark`; empty for none.
    """
    path = "".join("M" + " ".join(f"{x:.10g},{y:.10g}" for x, y in ring) + "Z" for part in parts for ring in part.rings)
    height, width = size
    comment = f"<!-- {made_by} -->\n" if made_by else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f"aria-label={quoteattr(name)}>\n{comment}"
        f'<path id="{LESION}" fill="rgb{_COLOUR}" fill-opacity="0.15" fill-rule="evenodd" stroke="rgb{_COLOUR}" '
        f'vector-effect="non-scaling-stroke" d="{path}"/>\n</svg>\n'
    )


def _made_by(text: str) -> dict[str, str]:
    return {"made_by": text} if text else {}


def _closed(ring: np.ndarray) -> list[list[float]]:
    return [*ring.tolist(), ring[0].tolist()]
