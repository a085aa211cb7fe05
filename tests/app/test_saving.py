"""What the page saves, and when it warns that something is not saved: in Chromium, where it is installed."""

import csv
import zipfile

import numpy as np
import pytest

from jaxseg.config import DataConfig
from jaxseg.data.folder import open_folder
from tests.helpers.bad_files import encoded, turned
from tests.helpers.chromium import CHROMIUM
from tests.helpers.page import PHOTO, drop, finished, photo, saved, saved_mask, set_threshold, stroke
from tests.helpers.pictures import pixels
from tests.helpers.skin import pair

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

expect = playwright.expect


def warns(page) -> bool:
    """Tells whether the browser would ask before it closes the page."""
    return page.evaluate(
        """() => {
          const event = new Event("beforeunload", { cancelable: true });
          window.dispatchEvent(event);
          return event.defaultPrevented;
        }"""
    )


def test_closing_the_page_warns_of_what_is_not_saved(open_page, served):
    """If broken, corrections of an hour are lost with a tab that was closed by mistake."""
    page = open_page()
    drop(page, a__png=PHOTO, b__png=photo(4))
    finished(page, 2)
    assert not warns(page)
    stroke(page)
    page.locator("#list button").nth(1).click()  # on to the next photograph, before the first is measured
    assert warns(page)
    saved(page, "#save-all")
    expect(page.locator("#status")).to_contain_text("is saved")
    assert not warns(page)
    set_threshold(page, served, 0.9)
    assert warns(page)
    page.get_by_role("button", name="Reset").click()
    assert not warns(page)


def test_a_server_that_has_ended_costs_measurements_alone(open_page, served, tmp_path):
    """If broken, nothing can be saved any more, though masks, outlines and photographs are all in the browser."""
    page = open_page(expected="Failed to load resource")
    drop(page, a__png=PHOTO, b__png=photo(4))
    finished(page, 2)
    page.route("**/measure*", lambda route: route.abort())
    page.route("**/measurements*", lambda route: route.abort())
    stroke(page)
    expect(page.locator("#unmeasured")).to_contain_text("The server does not answer")
    corrected = saved_mask(page)
    with zipfile.ZipFile(saved(page, "#save-all")) as content:
        content.extractall(tmp_path)
    expect(page.locator("#status")).to_contain_text("1 could not be measured: their cells are empty.")
    np.testing.assert_array_equal(pixels(tmp_path / "masks" / "a.png"), corrected)
    with (tmp_path / "predictions.csv").open() as lines:
        rows = {row["name"]: row for row in csv.DictReader(lines)}
    assert (rows["a"]["area_pixels"], rows["a"]["trust"]) == (str(np.count_nonzero(corrected)), "")
    assert (rows["a"]["corrected"], rows["b"]["corrected"]) == ("true", "")
    assert float(rows["b"]["trust"]) > 0


def test_a_mask_that_was_not_measured_says_why_until_it_is(open_page):
    """If broken, a photograph waits for its trust for ever, or a line of old tells of what has long been measured."""
    page = open_page(expected="Failed to load resource")
    page.route("**/measure*", lambda route: route.abort())
    drop(page, a__png=PHOTO)
    expect(page.locator("#unmeasured")).to_contain_text("Not measured: The server does not answer")
    page.unroute("**/measure*")
    saved(page, "#save-table")
    expect(page.locator("#unmeasured")).to_be_empty()
    expect(page.locator("#list .state")).to_contain_text("Trust")


def test_the_table_says_what_the_user_chose(open_page, served):
    """If broken, nobody can tell later which masks of a set have another threshold, or were drawn by a person."""
    page = open_page()
    drop(page, a__png=PHOTO)
    finished(page, 1)
    set_threshold(page, served, 0.9)
    page.get_by_label("Fill holes").check()
    with saved(page, "#save-table").open() as lines:
        (row,) = csv.DictReader(lines)
    assert (row["threshold"], row["fill_holes"], "corrected" in row) == ("0.9", "true", False)


def test_an_empty_mask_of_a_turned_photograph_is_taken_for_training(open_page, served, tmp_path):
    """If broken, a saved folder is refused, because nobody can tell how to turn a mask in which there is nothing."""
    skin = np.full((90, 120, 3), (225, 185, 150), np.uint8)
    page = open_page()
    drop(page, a__jpg=encoded(skin, "jpeg", exif=turned(3)), b__jpg=encoded(pair(5, 120, 90)[0], "jpeg"))
    finished(page, 2)
    set_threshold(page, served, 0.99)
    page.locator("#for-all").click()
    with zipfile.ZipFile(saved(page, "#save-all")) as content:
        content.extractall(tmp_path)
    examples = open_folder(DataConfig(name=str(tmp_path)))
    assert examples.names == ("a", "b")
    assert not examples.load(0).mask.any()
