"""The page in Chromium, where it is installed: what people see, do and save is what `predict` writes."""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import shapely

from jaxseg import predict
from jaxseg.config import DataConfig
from jaxseg.data.folder import open_folder
from tests.app.conftest import OWN_THRESHOLD
from tests.helpers.bad_files import encoded, turned
from tests.helpers.chromium import CHROMIUM
from tests.helpers.page import PHOTO, drop, expected_mask, finished, photo, saved, saved_mask, set_threshold, stroke
from tests.helpers.pictures import pixels
from tests.helpers.skin import pair

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

expect = playwright.expect

COLOURED = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) count += data[i] > 220 && data[i + 1] < 60 && data[i + 2] > 190;
  return count;
}"""
"""Counts the pixels of a canvas that have the outline's colour."""

FAINT = """() => {
  const luminance = (colour) => {
    const linear = (v) => (v <= 0.04 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (element) => {
    let behind = element;
    while (behind.parentElement && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") {
      behind = behind.parentElement;
    }
    const colours = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
    const [low, high] = colours.map(luminance).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const says = (e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
  const shown = [...document.querySelectorAll("header *, main *")].filter((e) => says(e) && e.checkVisibility());
  const enabled = shown.filter((e) => !e.disabled && !e.closest("[data-stale]"));
  return [enabled.length, enabled.filter((e) => contrast(e) < 4.5).map((e) => e.outerHTML.slice(0, 80))];
}"""
"""Returns how many elements show text, and those whose text is too faint."""

UNNAMED = """() => {
  const named = (e) => e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim();
  return [...document.querySelectorAll("button, input:not([hidden]), summary, meter, canvas[tabindex]")]
    .filter((e) => !named(e) && !e.getAttribute("aria-labelledby")).map((e) => e.outerHTML);
}"""

MEAN = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const sums = [0, 0, 0];
  for (let i = 0; i < data.length; i += 4) for (let c = 0; c < 3; c++) sums[c] += data[i + c];
  return sums.map((sum) => Math.round((4 * sum) / data.length));
}"""


def test_a_dropped_picture_shows_its_outline(open_page, segmenter, served):
    """If broken, the page shows no outline, or another than predict's, at the model's threshold or a moved one."""
    page = open_page()
    drop(page, mole__png=PHOTO)
    finished(page, 1)
    canvas = page.locator("#canvas")
    assert canvas.evaluate(COLOURED) > 100
    page.get_by_label("Outline", exact=True).uncheck()
    expect(page.locator("#show-outline")).not_to_be_checked()
    page.wait_for_timeout(100)
    assert canvas.evaluate(COLOURED) == 0
    assert page.locator("#threshold-value").text_content() == str(OWN_THRESHOLD)
    np.testing.assert_array_equal(saved_mask(page), expected_mask(segmenter, PHOTO, OWN_THRESHOLD))
    for threshold in (0.01, 0.2, 0.75, 0.99):
        set_threshold(page, served, threshold)
        np.testing.assert_array_equal(saved_mask(page), expected_mask(segmenter, PHOTO, threshold))
    page.get_by_role("button", name="Reset").click()
    np.testing.assert_array_equal(saved_mask(page), expected_mask(segmenter, PHOTO, OWN_THRESHOLD))


def test_maps_are_laid_over_the_photograph(open_page):
    """If broken, a map does not show, or does not go away."""
    page = open_page()
    drop(page, mole__png=PHOTO)
    finished(page, 1)
    page.locator("#show-outline").uncheck()
    means = {}
    for layer in ("none", "mask", "heat", "uncertainty"):
        page.locator(f"input[value={layer}]").check(force=True)
        page.wait_for_timeout(300)
        means[layer] = tuple(page.locator("#canvas").evaluate(MEAN))
        expect(page.locator("#legend")).to_be_visible(visible=layer in ("heat", "uncertainty"))
    assert len(set(means.values())) == 4
    page.locator("input[value=none]").check(force=True)
    page.wait_for_timeout(100)
    assert tuple(page.locator("#canvas").evaluate(MEAN)) == means["none"]


def test_the_brush_corrects_the_outline(open_page, segmenter, served):
    """If broken, a correction is lost, lands elsewhere, or cannot be taken back."""
    page = open_page()
    drop(page, mole__png=PHOTO)
    finished(page, 1)
    before = saved_mask(page)
    stroke(page)
    corrected = saved_mask(page)
    added = (corrected > 0) & (before == 0)
    rows, columns = np.nonzero(added)
    assert (corrected >= before).all()
    assert added[90, 108:142].all()
    assert 100 < columns.min() < 109
    assert 141 < columns.max() < 150
    assert abs(rows.mean() + 0.5 - 90) < 1
    expect(page.locator("#trust-text")).to_have_text("Of the model's outline, before your corrections.")
    expect(page.locator("#measurements")).to_contain_text("2")
    set_threshold(page, served, 0.9)  # the correction stays over another threshold's mask
    np.testing.assert_array_equal(
        saved_mask(page), np.where(added, 255, expected_mask(segmenter, PHOTO, 0.9)).astype(np.uint8)
    )
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("button", name="Undo").click()
    np.testing.assert_array_equal(saved_mask(page), before)
    page.keyboard.press("Control+Shift+z")
    np.testing.assert_array_equal(saved_mask(page), corrected)
    page.get_by_role("button", name="Take back corrections").click()
    np.testing.assert_array_equal(saved_mask(page), before)


def test_twenty_files_at_once(open_page, segmenter, tmp_path):
    """If broken, a broken file stops the others, names collide, or the saved folder is no data set for training."""
    page = open_page()
    photos = {f"mole {i}.png": photo(i, 100, 80) for i in range(17)}
    given = [("Mole 4.JPG", photo(31)), *photos.items(), ("broken.jpg", b"no image"), ("mole 3.png", photo(30))]
    files = [{"name": name, "mimeType": "", "buffer": content} for name, content in given]
    page.locator("#files").set_input_files(files)
    finished(page, 19, 1)
    failed = page.locator("#list [data-status=failed]")
    expect(failed).to_contain_text("broken.jpg: not an image that can be read")
    failed.click()
    expect(page.locator("#waiting")).to_contain_text("broken.jpg: not an image that can be read")
    page.locator("#list button").first.click()
    archive = saved(page, "#save-all")
    expect(page.locator("#status")).to_contain_text("1 could not be read")
    with zipfile.ZipFile(archive) as content:
        assert content.testzip() is None
        content.extractall(tmp_path / "set")
    photos |= {"mole 3 (2).png": photo(30), "Mole 4.JPG": photo(31), "mole 4 (2).png": photos.pop("mole 4.png")}
    assert {path.name for path in (tmp_path / "set" / "images").iterdir()} == photos.keys()
    masks = {path.name for path in (tmp_path / "set" / "masks").iterdir()}
    assert masks == {f"{Path(name).stem}.png" for name in photos}
    examples = open_folder(DataConfig(name=str(tmp_path / "set")))
    assert len(examples) == 19
    for i, name in enumerate(examples.names):
        content = next(content for other, content in photos.items() if Path(other).stem == name)
        assert examples.read_image(i) == content
        mask = examples.load(i).mask[..., 0] * np.uint8(255)
        np.testing.assert_array_equal(mask, expected_mask(segmenter, content, OWN_THRESHOLD))
    check_against_predict(tmp_path)


def check_against_predict(folder: Path) -> None:
    """Compares the table and the outlines of a saved set with those that predict writes for its images."""
    flags = ["--measure", "--threshold", str(OWN_THRESHOLD), "--contours", "geojson", "labelme"]
    assert not predict.main(["--input", f"{folder}/set/images", "--output", f"{folder}/out", *flags])
    assert (folder / "set" / "predictions.csv").read_text() == (folder / "out" / "predictions.csv").read_text()
    for path in (folder / "set" / "contours").glob("*.geojson"):
        ours, theirs = (json.loads(file.read_text()) for file in (path, folder / "out" / path.name))
        shapes = [shapely.from_geojson(json.dumps(content)).normalize() for content in (ours, theirs)]
        assert shapes[0] == shapes[1]
        assert ours | {"features": []} == theirs | {"features": []}
        labelme = path.with_suffix(".json")
        ours, theirs = (json.loads(file.read_text()) for file in (labelme, folder / "out" / labelme.name))
        kept = ("version", "imageHeight", "imageWidth", "imageData", "flags")
        assert {key: ours[key] for key in kept} == {key: theirs[key] for key in kept}
        assert (labelme.parent / ours["imagePath"]).exists()


def test_photographs_that_are_turned_keep_their_masks(open_page, segmenter, tmp_path):
    """If broken, training reads the mask of a photograph with an EXIF orientation upside down, or refuses the set."""
    image = pair(5, 120, 90)[0]
    files = {f"o{way}__jpg": encoded(image, "jpeg", exif=turned(way)) for way in (1, 2, 3)}
    files["square é 🔬__jpg"] = encoded(image[:, :90], "jpeg", exif=turned(8))
    files["no ending__bin"] = photo(6)
    page = open_page()
    drop(page, **files)
    finished(page, len(files))
    with zipfile.ZipFile(saved(page, "#save-all")) as content:
        content.extractall(tmp_path)
    examples = open_folder(DataConfig(name=str(tmp_path)))
    assert (tmp_path / "images" / "no ending.bin.png").exists()  # jaxseg takes no .bin from a folder
    named = {name.removesuffix("__jpg").replace("__", "."): content for name, content in files.items()}
    assert set(examples.names) == named.keys()
    for i, name in enumerate(examples.names):
        expected = expected_mask(segmenter, named[name], OWN_THRESHOLD)
        assert expected.any()
        np.testing.assert_array_equal(examples.load(i).mask[..., 0] * np.uint8(255), expected)


def test_the_keyboard_does_everything(open_page):
    """If broken, who has no mouse cannot add, look, correct or save."""
    page = open_page()
    press = page.keyboard.press

    def tab_to(selector: str) -> None:
        for _ in range(40):
            if page.locator(selector).evaluate("(element) => element === document.activeElement"):
                return
            press("Tab")
        raise AssertionError(f"Tab does not lead to {selector}")

    with page.expect_file_chooser() as waiting:
        tab_to("#choose")
        press("Enter")
    waiting.value.set_files([{"name": f"{i}.png", "mimeType": "image/png", "buffer": photo(i)} for i in range(3)])
    finished(page, 3)
    tab_to("#list button[aria-current=true]")
    press("ArrowDown")
    expect(page.locator("#name")).to_have_text("1.png")
    before = saved_mask(page)
    page.locator("#list button[aria-current=true]").focus()
    tab_to("#threshold")
    press("ArrowRight")
    expect(page.locator("#threshold-value")).to_have_text("0.44")
    press("ArrowLeft")
    expect(page.locator("#threshold-value")).to_have_text(str(OWN_THRESHOLD))
    page.locator("#list button[aria-current=true]").focus()
    tab_to("input[value=move]")
    press("ArrowRight")
    expect(page.locator("input[value=add]")).to_be_checked()
    tab_to("#canvas")
    for _ in range(3):
        press("Shift+ArrowDown")
    press("Space")
    press("Control+z")
    press("Control+y")
    tab_to("[data-save=mask]")
    with page.expect_download() as download:
        press("Enter")
    after = pixels(Path(download.value.path()))
    assert (after > before).sum() > 20
    assert (after >= before).all()
    page.locator("#list button[aria-current=true]").focus()
    press("Delete")
    expect(page.locator("#list button")).to_have_count(2)
    press("End")
    expect(page.locator("#name")).to_have_text("2.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_all_of_it(open_page, scheme):
    """If broken, the page runs over a phone's edge, or is white in the dark."""
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    backgrounds = {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 20, 23)"}
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == backgrounds[scheme]
    for _ in range(2):
        assert page.evaluate("() => document.scrollingElement.scrollWidth") == 360
        drop(page, a_rather_long_name_of_a_photograph_from_a_telephone__png=PHOTO, b__png=photo(4))
        finished(page, page.locator("#list button").count())
    page.locator("#all-measurements").evaluate("(table) => (table.parentElement.open = true)")
    assert page.evaluate("() => document.scrollingElement.scrollWidth") == 360
    assert page.locator("#canvas").bounding_box()["height"] > 250
    count, faint = page.evaluate(FAINT)
    assert count > 40
    assert faint == []
    assert page.evaluate(UNNAMED) == []


def test_two_fingers_zoom(open_page):
    """If broken, a phone cannot zoom, or zooms the whole page."""
    page = open_page(viewport={"width": 360, "height": 740}, has_touch=True)
    drop(page, mole__png=PHOTO)
    finished(page, 1)
    box = page.locator("#canvas").bounding_box()
    middle = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    before = int(page.locator("#zoom").text_content().split()[0])
    session = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", 0)):
        points = [{"x": middle["x"] + side * apart, "y": middle["y"], "id": side} for side in (-1, 1)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if apart else []})
    after = int(page.locator("#zoom").text_content().split()[0])
    assert 3.5 * before < after < 4.5 * before
    assert page.evaluate("() => visualViewport.scale") == 1


def test_a_pasted_picture_is_added(open_page):
    """If broken, a screenshot cannot be pasted."""
    page = open_page()
    drop(page, image__png=PHOTO, kind="paste")
    drop(page, image__png=PHOTO, kind="paste")
    finished(page, 2)
    assert page.locator("#list .name").all_text_contents() == ["image.png", "image (2).png"]


def test_zoom_and_pan(open_page):
    """If broken, wheel, buttons or keys do not zoom, or the photograph is lost out of sight."""
    page = open_page()
    drop(page, mole__png=PHOTO)
    finished(page, 1)
    canvas, zoom = page.locator("#canvas"), page.locator("#zoom")
    fit = zoom.text_content()
    canvas.hover()
    page.mouse.wheel(0, -400)
    expect(zoom).not_to_have_text(fit)
    wheel = zoom.text_content()
    page.get_by_role("button", name="Zoom in").click()
    expect(zoom).not_to_have_text(wheel)
    canvas.focus()
    for _ in range(60):
        page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_timeout(100)
    assert canvas.evaluate("(c) => c.getContext('2d').getImageData(c.width / 2 + 9, c.height / 2, 1, 1).data[3]") == 255
    page.keyboard.press("0")
    expect(zoom).to_have_text(fit)


def test_a_forgotten_photograph_is_sent_again(open_page, served):
    """If broken, measuring fails for good once the server has dropped a photograph for lack of memory."""
    page = open_page(expected="the server responded with a status of 404")
    drop(page, mole__png=PHOTO)
    finished(page, 1)
    served.model._photographs._values.clear()
    page.locator("#scale").fill("10")
    page.keyboard.press("Tab")
    expect(page.locator("#measurements")).to_contain_text("mm²")
    with saved(page, "#save-table").open() as lines:
        (row,) = csv.DictReader(lines)
    assert float(row["area_mm2"]) == pytest.approx(int(row["area_pixels"]) / 100)
