"""Outlines of masks: traced, simplified, written for other tools, and filled again."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import shapely
from scipy import ndimage
from skimage.draw import disk, ellipse

from jaxseg.data.outlines import fill, read_outlines
from jaxseg.inference.coco import segmentation
from jaxseg.inference.contours import Part, geojson, labelme, svg, trace


def filled(parts: list[Part], size: tuple[int, int]) -> np.ndarray:
    return np.logical_or.reduce([fill(part.rings, size) for part in parts], initial=False) | np.zeros(size, bool)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def random_masks(count: int):
    rng = np.random.default_rng(0)
    for _ in range(count):
        noise = ndimage.gaussian_filter(rng.normal(size=rng.integers(1, 60, 2)), rng.uniform(0.1, 4))
        yield noise > np.quantile(noise, rng.uniform(0.05, 0.95))


def masks() -> dict[str, np.ndarray]:
    """Returns masks that are hard for outlines: small, with holes, cut by the frame, touching at corners."""
    blank = np.zeros((120, 160), bool)
    ring, cut, holes, full = blank.copy(), blank.copy(), blank.copy(), ~blank
    ring[disk((60, 80), 40)] = True
    ring[disk((60, 80), 20)] = False
    ring[disk((60, 80), 8)] = True
    cut[ellipse(0, 150, 60, 40, shape=cut.shape)] = True
    holes[10:110, 10:150] = True
    holes[20:30, 20:30] = holes[20:30, 40:50] = holes[80:82, 100:101] = holes[50, 50] = False
    point, corners = blank.copy(), blank.copy()
    point[7, 9] = True
    corners[10:12, 10:12] = corners[12:14, 12:14] = True
    return {"ring": ring, "cut": cut, "holes": holes, "full": full, "point": point, "corners": corners}


@pytest.mark.parametrize("name", masks())
def test_the_outline_gives_the_mask_back(name):
    """If broken, corrected outlines of small, cut or hollow masks come back as other masks."""
    mask = masks()[name]
    np.testing.assert_array_equal(filled(trace(mask), mask.shape), mask)


def test_random_masks_come_back_exactly_in_every_form():
    """If broken, some pixel pattern is traced wrongly; or COCO's polygons, which have no holes, lose them."""
    for mask in random_masks(80):
        parts = trace(mask)
        np.testing.assert_array_equal(filled(parts, mask.shape), mask)
        assert all(shapely.Polygon(part.outer, part.holes).is_valid for part in parts)
        joined = [Part(np.reshape(polygon, (-1, 2))) for polygon in segmentation(parts)]
        np.testing.assert_array_equal(filled(joined, mask.shape), mask)


def test_coordinates_begin_at_the_corner_of_the_image():
    """If broken, outlines lie half a pixel aside in every tool that takes the corner for the origin."""
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    (part,) = trace(mask)
    assert (part.outer.min(axis=0).tolist(), part.outer.max(axis=0).tolist()) == ([3, 2], [9, 5])
    (part,) = trace(np.ones((4, 6), bool))
    assert (part.outer.min(axis=0).tolist(), part.outer.max(axis=0).tolist()) == ([0, 0], [6, 4])


def test_simplified_outlines_are_short_and_near():
    """If broken, `--simplify` leaves outlines that nobody can edit, cross themselves, or have lost a hole."""
    mask = np.zeros((600, 800), bool)
    mask[ellipse(300, 400, 180, 260, rotation=0.5)] = True
    mask[disk((300, 400), 30)] = False
    (exact,), (simple,) = trace(mask), trace(mask, simplify=1.5)
    assert len(simple.outer) < len(exact.outer) / 8
    assert len(simple.holes) == 1
    assert overlap(filled([simple], mask.shape), mask) > 0.99
    for coarse in random_masks(20):
        for part in trace(coarse, simplify=4):
            assert shapely.Polygon(part.outer, part.holes).is_valid
    with pytest.raises(ValueError, match="must be at least 0"):
        trace(mask, simplify=-1)


def test_an_empty_mask_has_no_outline():
    """If broken, an image without a lesion ends in an error."""
    empty = np.zeros((5, 6), bool)
    assert trace(empty) == []
    assert geojson([], "a", (5, 6))["features"] == []
    assert 'd=""' in svg([], "a", (5, 6))
    assert segmentation([]) == []


def test_geojson_is_as_the_standard_says():
    """If broken, QuPath or a GeoJSON reader refuses the file: rings must be closed, holes turn the other way."""
    mask = masks()["ring"]
    found = json.loads(json.dumps(geojson(trace(mask), "a", mask.shape)))
    assert found["type"] == "FeatureCollection"
    shapes = [shapely.from_geojson(json.dumps(feature["geometry"])) for feature in found["features"]]
    assert sum(len(shape.interiors) for shape in shapes) == 1
    assert all(shape.is_valid and shape.exterior.is_ccw for shape in shapes)
    assert not any(hole.is_ccw for shape in shapes for hole in shape.interiors)
    assert sum(shape.area for shape in shapes) == pytest.approx(mask.sum(), rel=0.01)


def test_svg_is_a_picture_of_the_mask():
    """If broken, the SVG file is not XML, has another size than the image, or fills the holes."""
    mask = masks()["holes"]
    root = ElementTree.fromstring(svg(trace(mask), 'a "b" <c>', mask.shape))
    assert (root.get("width"), root.get("height")) == ("160", "120")
    (path,) = root
    assert path.get("fill-rule") == "evenodd"
    rings = [
        np.array([[float(x) for x in point.split(",")] for point in ring.split(" ")])
        for ring in path.get("d").strip("MZ").split("ZM")
    ]
    np.testing.assert_array_equal(fill(rings, mask.shape), mask)


def test_labelme_finds_the_image(tmp_path):
    """If broken, labelme opens the file without its picture."""
    found = labelme(trace(masks()["ring"]), tmp_path / "in/sub/a.jpg", tmp_path / "out/sub/a_contour.json", (120, 160))
    assert (tmp_path / "out/sub" / found["imagePath"]).resolve() == (tmp_path / "in/sub/a.jpg").resolve()
    assert [shape["label"] for shape in found["shapes"]].count("_background_") == 1


def test_labelme_keeps_an_island_in_a_hole(tmp_path):
    """If broken, a part of a lesion that lies in another's hole is read back as skin."""
    mask = np.zeros((60, 60), bool)
    mask[5:55, 5:55], mask[15:45, 15:45], mask[25:35, 25:35], mask[28:32, 28:32] = True, False, True, False
    mask[0:3, 0:3] = True
    path = tmp_path / "a.json"
    path.write_text(json.dumps(labelme(trace(mask), tmp_path / "a.png", path, mask.shape)))
    np.testing.assert_array_equal(read_outlines(path)[""].mask()[..., 0] > 0, mask)
