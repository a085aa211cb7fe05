"""Masks from outlines: polygons to pixels, and the outlines in COCO and labelme JSON files.

Coordinates are pixels of the image as it is shown, upright: (0, 0) is its top left corner, x goes right, y down, and
the middle of the first pixel is (0.5, 0.5). A pixel belongs to a polygon if its middle does.
"""

import base64
import binascii
import contextlib
import dataclasses
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from jaxseg.errors import UserError, one_line

SUFFIX = ".json"
"""Ending of the files that may hold outlines."""

LESION, HOLE = "lesion", "_background_"
"""Label of lesions, and the one by which labelme takes a polygon out of those before it."""


def fill(rings: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Fills a polygon with holes by the even-odd rule.

    Args:
      rings: corners (x, y), float [N, 2], of the outer ring and of the holes, closed or not. What lies beyond the image
        is cut off.
      size: (height, width) of the image, pixels.

    Returns:
      bool [height, width], true where a pixel's middle lies within an odd number of rings.
    """
    height, width = size
    flips = np.zeros((height, width + 1), np.uint8)
    for ring in rings:
        start, end = np.asarray(ring, np.float64), np.roll(np.asarray(ring, np.float64), -1, axis=0)
        ends = np.stack([start[:, 1], end[:, 1]])
        # An edge flips a row if the row's middle lies between its ends: the upper end counts, the lower does not.
        first, last = (np.clip(np.ceil(y - 0.5), 0, height).astype(int) for y in (ends.min(axis=0), ends.max(axis=0)))
        counts = last - first
        edges = np.repeat(np.arange(len(start)), counts)
        rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
        (x, y), (dx, dy) = start[edges].T, (end - start)[edges].T
        columns = np.clip(np.ceil(x + (rows + 0.5 - y) * dx / dy - 0.5), 0, width).astype(int)
        np.bitwise_xor.at(flips, (rows, columns), 1)
    return np.bitwise_xor.accumulate(flips[:, :-1], axis=1).astype(bool)


@dataclasses.dataclass(frozen=True)
class Shape:
    """One thing drawn on an image.

    Attributes:
      rings: corners (x, y), float32 [N, 2] each, of a polygon with holes; empty where `pixels` holds the shape.
      pixels: bool [H, W]; None where `rings` hold the shape.
      corner: (x, y) of the top left pixel of `pixels` in the image.
      lesion: true for lesion; false for a hole in what was drawn before.
    """

    rings: tuple[np.ndarray, ...] = ()
    pixels: np.ndarray | None = None
    corner: tuple[int, int] = (0, 0)
    lesion: bool = True

    def covers(self, size: tuple[int, int]) -> np.ndarray:
        """Returns the pixels of an image of (height, width) that the shape covers, bool [height, width]."""
        if self.pixels is None:
            return fill(self.rings, size)
        covered, (x, y) = np.zeros(size, bool), self.corner
        part = covered[y : y + self.pixels.shape[0], x : x + self.pixels.shape[1]]
        part[:] = self.pixels[: part.shape[0], : part.shape[1]]
        return covered


@dataclasses.dataclass(frozen=True)
class Outlines:
    """All that is drawn on one image.

    Attributes:
      size: (height, width) of the image, pixels, as the file says.
      shapes: painted one after the other.
    """

    size: tuple[int, int]
    shapes: tuple[Shape, ...]

    def mask(self) -> np.ndarray:
        """Returns uint8 [H, W, 1], 1 for lesion and 0 for skin."""
        result = np.zeros(self.size, np.uint8)
        for shape in self.shapes:
            result[shape.covers(self.size)] = shape.lesion
        return result[..., None]


class NoOutlinesError(UserError):
    """Raised for a JSON file that is about something else."""


class _BadFileError(Exception):
    """Raised for what a file of outlines must not hold; its text says what."""


@dataclasses.dataclass(frozen=True)
class OutlineFile:
    """A COCO or labelme file.

    Attributes:
      path: the file.
      values: its content.
      labels: names of the categories or labels that it draws, and "lesion" where a COCO file declares that one.
    """

    path: Path
    values: Mapping[str, Any]
    labels: frozenset[str]

    @property
    def image(self) -> str:
        """File name of the image that a labelme file was drawn on, without folders; "" where the file does not say."""
        drawn_on = self.values.get("imagePath") if "shapes" in self.values else None
        return PurePosixPath(drawn_on.replace("\\", "/")).name if isinstance(drawn_on, str) else ""

    def outlines(self, label: str = "") -> dict[str, Outlines]:
        """Returns what is drawn.

        Args:
          label: name of lesions; default: "lesion", or whatever the file calls the only thing that it draws.

        Returns:
          The outlines by `file_name` of the image (COCO); under "" those of the one image that labelme's file is named
          after. An image of a COCO file without annotations has no lesion.

        Raises:
          UserError: the content is not clear.
        """
        with _explained(self.path):
            if "shapes" not in self.values:
                return _of_coco(self.values, label or _only(self.labels, "categories"))
            return {"": _of_labelme(self.values, label or _only(self.labels, "labels"))}


def open_outlines(path: Path) -> OutlineFile:
    """Opens a COCO or labelme file.

    Args:
      path: a JSON file.

    Raises:
      NoOutlinesError: the file is neither a COCO file nor one by labelme.
      UserError: the file cannot be read.
    """
    with _explained(path):
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise _BadFileError("holds no JSON object")
        if "images" in values and "annotations" in values:
            names = _categories(values)
            drawn = {_category(annotation, names) for annotation in values["annotations"]}
            return OutlineFile(path, values, frozenset(drawn | ({LESION} & set(names.values()))))
        if "shapes" in values:
            return OutlineFile(path, values, frozenset(shape["label"] for shape in _labelled(values)) - {HOLE})
        raise NoOutlinesError(f"{path}: is neither a COCO file (images, annotations) nor one by labelme (shapes)")


def read_outlines(path: Path) -> dict[str, Outlines]:
    """Reads the outlines in a COCO or labelme file, as `OutlineFile.outlines` returns them.

    Args:
      path: a JSON file.

    Raises:
      NoOutlinesError: the file is neither a COCO file nor one by labelme.
      UserError: the file cannot be read, or its content is not clear.
    """
    return open_outlines(path).outlines()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what broken and strange files raise in the block into one-line errors."""
    try:
        yield
    except NoOutlinesError:
        raise
    except _BadFileError as error:
        raise UserError(f"{path}: {error}; mend it, or take it out") from None
    except (OSError, ValueError, ArithmeticError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); mend it, or take it out") from error
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path}: is not as COCO or labelme write it ({one_line(error)}); mend it, or take it out"
        ) from error


def _categories(values: Mapping[str, Any]) -> dict[Any, str]:
    """Returns the names of a COCO file's categories by their number."""
    categories = values.get("categories", [])
    _refuse_twice([category["id"] for category in categories], "category")
    return {category["id"]: _label(str(category["name"])) for category in categories}


def _label(name: Any) -> Any:
    """Returns a label, that of lesions in lower case: "Lesion" of one tool or annotator is no other class."""
    return LESION if isinstance(name, str) and name.strip().lower() == LESION else name


def _refuse_twice(numbers: Iterable[Any], what: str) -> None:
    """Refuses numbers that occur twice, as in files that were joined by hand: outlines would go to another image."""
    if twice := [number for number, count in Counter(numbers).items() if count > 1]:
        raise _BadFileError(f"has the {what} id {twice[0]} twice: number them anew")


def _category(annotation: Mapping[str, Any], names: Mapping[Any, str]) -> str:
    return names.get(annotation["category_id"], str(annotation["category_id"]))


def _of_coco(values: Mapping[str, Any], label: str) -> dict[str, Outlines]:
    names = _categories(values)
    _refuse_twice([image["id"] for image in values["images"]], "image")
    sizes = {image["id"]: _size(image["height"], image["width"]) for image in values["images"]}
    shapes: dict[Any, list[Shape]] = {image: [] for image in sizes}
    for annotation in values["annotations"]:
        if _category(annotation, names) == label:
            if not annotation["segmentation"] and any(annotation.get("bbox", ())):
                raise _BadFileError("has a lesion with a box and no outline: draw it, or take the annotation out")
            if (image := annotation["image_id"]) not in sizes:
                raise _BadFileError(f"has a lesion of the image id {image}, which none of its images has")
            shapes[image] += _coco_shapes(annotation["segmentation"], sizes[image])
    result: dict[str, Outlines] = {}
    for image in values["images"]:
        name = str(image["file_name"]).replace("\\", "/")
        if not PurePosixPath(name).name:
            raise _BadFileError(f"has an image with the file_name {name!r}")
        if name in result:
            raise _BadFileError(f"names the image {name} twice")
        result[name] = Outlines(sizes[image["id"]], tuple(shapes[image["id"]]))
    return result


def _only(labels: frozenset[str], kind: str) -> str:
    """Returns the one label of a file that means lesion."""
    if len(labels) > 1 and LESION not in labels:
        raise _BadFileError(f"has the {kind} {', '.join(sorted(labels))}: call that of lesions {LESION!r}")
    return LESION if LESION in labels or not labels else next(iter(labels))


def _coco_shapes(segmentation: Any, size: tuple[int, int]) -> list[Shape]:
    if isinstance(segmentation, list):
        # As pycocotools reads them: each polygon is filled by itself, and the mask is all of them together.
        return [_inside(Shape((_ring(np.reshape(_numbers(polygon), (-1, 2))),)), size) for polygon in segmentation]
    counts = segmentation["counts"]
    counts = _uncompressed(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if min(counts, default=0) < 0 or sum(counts) != math.prod(size) or list(size) != list(segmentation["size"]):
        raise _BadFileError(f"has a run-length mask that is not of {size[1]}x{size[0]} pixels, as its image")
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return [Shape(pixels=values.reshape(size[::-1]).T)]  # column by column


def _uncompressed(text: str) -> list[int]:
    """Returns the run lengths in a COCO string.

    A character holds five bits; from the fourth number on, each is the difference from the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts


def _labelled(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the shapes of a labelme file, except those that its user told it to ignore."""
    return [{**shape, "label": _label(shape["label"])} for shape in values["shapes"] if shape["label"] != "__ignore__"]


def _of_labelme(values: Mapping[str, Any], label: str) -> Outlines:
    size = _size(values["imageHeight"], values["imageWidth"])
    shapes = (_labelme_shape(shape) for shape in _labelled(values) if shape["label"] in (label, HOLE))
    return Outlines(size, tuple(_inside(shape, size) for shape in shapes))


def _labelme_shape(shape: Mapping[str, Any]) -> Shape:
    kind, lesion = shape.get("shape_type") or "polygon", shape["label"] != HOLE
    points = np.array([_numbers(point) for point in shape["points"]])
    if kind == "polygon":
        return Shape((_ring(points),), lesion=lesion)
    if kind == "rectangle":
        (left, top), (right, bottom) = points
        return Shape((_ring([(left, top), (right, top), (right, bottom), (left, bottom)]),), lesion=lesion)
    if kind == "circle":
        centre, on_rim = points
        angles = np.linspace(0, 2 * math.pi, 360, endpoint=False)
        rim = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * math.dist(centre, on_rim)
        return Shape((_ring(centre + rim),), lesion=lesion)
    if kind == "mask":
        try:
            with Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True)), formats=("PNG",)) as picture:
                pixels = np.asarray(picture.convert("L")) > 0
        except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise _BadFileError(f"has a mask that cannot be decoded ({one_line(error)})") from None
        x, y = (math.floor(value) for value in points[0])
        if x < 0 or y < 0:
            raise _BadFileError("has a mask that begins outside the image")
        return Shape(pixels=pixels, corner=(x, y), lesion=lesion)
    raise _BadFileError(f"has a {kind}, which has no area: draw polygons, rectangles, circles or masks")


def _inside(shape: Shape, size: tuple[int, int]) -> Shape:
    """Refuses a drawn lesion of which nothing can lie in its image, as it would leave an empty mask."""
    if not shape.lesion or not shape.rings:
        return shape
    low, high = shape.rings[0].min(axis=0), shape.rings[0].max(axis=0)
    if (high <= 0).any() or low[0] >= size[1] or low[1] >= size[0]:
        raise _BadFileError(f"has a lesion outside of its image of {size[1]}x{size[0]} pixels")
    if max(size) > 2 and (low >= 0).all() and (high <= 1).all():
        raise _BadFileError("has a lesion with coordinates from 0 to 1, shares of the image's sides instead of pixels")
    return shape


def _size(height: Any, width: Any) -> tuple[int, int]:
    if not all(isinstance(side, int) and 0 < side < 2**16 for side in (height, width)):
        raise _BadFileError(f"has an image of {width}x{height} pixels")
    return height, width


def _numbers(values: Sequence[Any]) -> np.ndarray:
    numbers = np.array(values, np.float64)
    # Far beyond any image, a slip of the hand or a broken file; the largest images have 2**16 pixels.
    if numbers.ndim != 1 or len(numbers) % 2 or not (np.abs(numbers) < 2**20).all():
        raise _BadFileError("has coordinates that are no pairs of numbers within an image")
    return numbers


def _ring(points: Any) -> np.ndarray:
    ring = np.asarray(points, np.float32)
    if len(ring) < 3:
        raise _BadFileError(f"has a polygon of {len(ring)} points")
    return ring
