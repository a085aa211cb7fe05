"""What the page computes by itself, in Chromium where it is installed: the same as in Python."""

import numpy as np
import pytest
import shapely

from jaxseg.data.images import resize_image
from jaxseg.inference.contours import trace
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import resize_probability
from jaxseg.inference.threshold import GRID
from tests.helpers.chromium import CHROMIUM

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")


def test_cleaning_and_outlines_equal_those_in_python(open_page):
    """If broken, the page keeps another part, fills another hole, or draws another outline than predict."""
    page = open_page()
    random = np.random.default_rng(0)
    program = """async ([levels, width, height, largest, holes]) => {
      const { maskOf } = await import("/static/mask.js");
      const { parts } = await import("/static/outline.js");
      const mask = maskOf(Uint8Array.from(levels), width, height, { stop: 0, largest, holes }, null);
      return [[...mask], parts(mask, width, height)];
    }"""
    for share in (0.2, 0.4, 0.5, 0.6, 0.8, 0.0, 1.0):
        levels = random.random((23, 31)) < share
        for largest in (False, True):
            for holes in (False, True):
                given = [levels.astype(int).ravel().tolist(), 31, 23, largest, holes]
                mask, parts = page.evaluate(program, given)
                expected = Prediction(0.5, None, largest, holes).mask(levels.astype(np.float32))
                np.testing.assert_array_equal(np.reshape(mask, (23, 31)), expected)
                ours = [shapely.Polygon(part["outer"], part["holes"]) for part in parts]
                theirs = [shapely.Polygon(part.outer, part.holes) for part in trace(expected)]
                assert all(polygon.exterior.is_ccw for polygon in ours)  # clockwise on screen, where y goes down
                as_set = [shapely.MultiPolygon(polygons).normalize() for polygons in (ours, theirs)]
                assert as_set[0] == as_set[1]


def test_resizing_is_that_of_pillow(open_page):
    """If broken, the model in the browser sees another picture than in Python, and its outline differs by pixels."""
    page = open_page()
    program = """async ([picture, width, height, map, size, stops]) => {
      const { levelsOf, resizeMap, resizePicture } = await import("/static/resample.js");
      const resized = resizeMap(Float32Array.from(map), size, width, height);
      const small = resizePicture(Uint8ClampedArray.from(picture), width, height, size);
      return [[...small], [...resized], [...levelsOf(resized, stops)]];
    }"""
    random = np.random.default_rng(0)
    for height, width in ((16, 16), (61, 97), (16, 40), (9, 11), (1, 1)):
        picture = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
        picture[: height // 2] = 255  # rounding must not run over
        probability = random.random((16, 16), dtype=np.float32)
        given = [picture.ravel().tolist(), width, height, probability.ravel().tolist(), 16, GRID]
        small, resized, levels = page.evaluate(program, given)
        np.testing.assert_array_equal(np.reshape(small, (16, 16, 3)), resize_image(picture[..., :3], (16, 16)))
        expected = resize_probability(probability, (height, width))
        found = np.float32(resized).reshape(height, width)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.reshape(levels, (height, width)), sum(found > stop for stop in GRID))
