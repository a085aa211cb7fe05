"""What tests do on the page in a browser, and what they expect of it."""

import base64
from pathlib import Path

import numpy as np

from jaxseg.data.images import decode_image
from jaxseg.inference.masks import Prediction
from tests.helpers.pictures import pixels

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
