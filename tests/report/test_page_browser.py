"""`report.html` in Chromium, where it is installed: what it measures, not how it looks."""

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from jaxseg.report.page import write_page
from tests.helpers.chromium import CHROMIUM, FLAGS
from tests.helpers.made_up_run import a_run, an_evaluation

# Runs in a page around the report, which itself may run no script.
WRAPPER = """<!doctype html><title>report</title>
<iframe id="f" style="width: %dpx; height: 800px; border: 0" srcdoc="%s"></iframe><pre id="result"></pre>
<script>
function luminance(colour) {
  const linear = v => v <= .04 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const [r, g, b] = colour.match(/[\\d.]+/g).map(v => linear(v / 255));
  return .2126 * r + .7152 * g + .0722 * b;
}
function contrast(style, element) {
  let behind = element;
  while (behind.parentElement && style(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  const ink = style(element)[element.tagName === "text" ? "fill" : "color"];
  const [low, high] = [luminance(ink), luminance(style(behind).backgroundColor)].sort((a, b) => a - b);
  return (high + .05) / (low + .05);
}
addEventListener("load", async () => {
  const d = document.getElementById("f").contentDocument;
  const style = e => d.defaultView.getComputedStyle(e);
  const decoded = [...d.querySelectorAll("image")].map(image => new Promise(resolve => {
    const copy = d.createElement("img");  // of that document, so under its policy
    copy.onload = () => resolve(copy.naturalWidth === image.width.baseVal.value);
    copy.onerror = () => resolve(false);
    copy.src = image.getAttribute("href");
  }));
  const says = e => [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
  const texts = [...d.querySelectorAll("main *")].filter(says);
  document.getElementById("result").textContent = JSON.stringify({
    images: await Promise.all(decoded),
    overflow: d.scrollingElement.scrollWidth - d.scrollingElement.clientWidth,
    background: style(d.body).backgroundColor,
    texts: texts.length,
    faint: texts.filter(e => contrast(style, e) < 4.5).map(e => e.outerHTML.slice(0, 80)),
  });
});
</script>"""


def shown(page: Path, width: int, folder: Path, *flags: str) -> dict:
    """Returns what Chromium measures of a page in a frame of a width in pixels; fails if its console says anything."""
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER % (width, html.escape(page.read_text())))
    flags = ("--headless", "--enable-logging=stderr", "--virtual-time-budget=20000", *flags)
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", wrapper.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(re.search(r'<pre id="result">(.*?)</pre>', done.stdout).group(1)))


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
def test_chromium_shows_it_at_any_width_light_and_dark(tmp_path):
    """If broken, the page runs over a phone's edge, its texts are too faint, or its images do not show."""
    run = a_run(tmp_path / "run", "synthetic")
    names = {"name": "n" * 90, "group": "a_rather_long_diagnosis"}
    page_of = an_evaluation(run / "evaluation/x", **names, trained_on=2, dataset="synthetic", synthetic=True)
    page = write_page(run, page_of)
    backgrounds = []
    for flags in ([], ["--force-dark-mode"]):
        for width in (390, 1280):
            result = shown(page, width, tmp_path, *flags)
            assert result["overflow"] == 0
            assert result["images"] == [True] * 3
            assert result["texts"] > 150
            assert result["faint"] == []
        backgrounds.append(result["background"])
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(17, 20, 23)"]
