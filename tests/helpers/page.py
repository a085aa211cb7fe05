"""What tests do on the page in a browser, and what they expect of it."""

import base64
import re
from pathlib import Path

import numpy as np

from jaxseg.data.images import decode_image
from jaxseg.inference.masks import Prediction
from tests.helpers.app_server import Served
from tests.helpers.bad_files import encoded
from tests.helpers.pictures import pixels
from tests.helpers.skin import pair

DROP = """(target, [files, kind]) => {
  const transfer = new DataTransfer();
  for (const [name, content] of files) {
    transfer.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
  }
  if (kind === "paste") {
    target.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
    return;
  }
  for (const kind of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""


def drop(page, kind: str = "drop", **files: bytes) -> None:
    """Drops files by name, with a double underscore for the dot; or pastes them."""
    given = [[name.replace("__", "."), base64.b64encode(content).decode()] for name, content in files.items()]
    page.locator("body").evaluate(DROP, [given, kind])


def saved(page, button: str) -> Path:
    """Presses a button that saves, and returns the file under its name."""
    with page.expect_download() as waiting:
        page.locator(button).click()
    path = Path(waiting.value.path())
    return path.rename(path.with_name(waiting.value.suggested_filename))


def saved_mask(page) -> np.ndarray:
    return pixels(saved(page, "[data-save=mask]"))


def expected_mask(segmenter, content: bytes, threshold: float, **cleaning: bool) -> np.ndarray:
    mask = Prediction(threshold, None, **cleaning).mask(segmenter(decode_image(content)))
    return mask * np.uint8(255)


def photo(number: int, width: int = 160, height: int = 120) -> bytes:
    return encoded(pair(number, width, height)[0])


PHOTO = photo(3)


def finished(page, ready: int, failed: int = 0) -> None:
    """Waits until all photographs are segmented and measured."""
    from playwright.sync_api import expect

    expect(page.locator("#list [data-status=ready]")).to_have_count(ready)
    expect(page.locator("#list [data-status=failed]")).to_have_count(failed)
    expect(page.locator("#list .state", has_text="Trust")).to_have_count(ready)


def set_threshold(page, served: Served, threshold: float) -> None:
    """Moves the slider to a threshold."""
    from playwright.sync_api import expect

    stop = served.model.stops.index(threshold)
    page.get_by_role("slider", name="Threshold").fill(str(stop))
    expect(page.locator("#threshold-value")).to_have_text(f"{threshold:.2f}")


def stroke(page) -> None:
    """Adds to the mask of a photograph of 160 x 120 by the brush, in its lower right quarter, where no lesion is."""
    page.get_by_text("Add", exact=True).last.click()
    page.locator("#brush").fill("60")
    box = page.locator("#canvas").bounding_box()
    scale = float(re.sub(r"\D", "", page.locator("#zoom").text_content())) / 100
    # The photograph lies in the middle of the canvas.
    at = [(box["x"] + box["width"] / 2 + (x - 80) * scale, box["y"] + box["height"] / 2 + (y - 60) * scale)
          for x, y in ((110, 90), (140, 90))]  # fmt: skip
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=5)
    page.mouse.up()
