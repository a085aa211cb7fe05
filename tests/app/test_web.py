"""The page as a folder of files, with the model in the browser."""

import functools
import http.server
import io
import os
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg import export
from jaxseg.app import web
from jaxseg.config import DataConfig
from jaxseg.data.folder import open_folder
from jaxseg.errors import RunError, UserError
from tests.helpers.bad_files import encoded, turned
from tests.helpers.chromium import CHROMIUM
from tests.helpers.icc import P3, rgb_profile
from tests.helpers.page import drop, expected_mask, saved, saved_mask
from tests.helpers.skin import pair

RUNTIME = os.environ.get("JAXSEG_ONNXRUNTIME_WEB", "")
"""The npm package onnxruntime-web, its folder or its .tgz file."""

MOST_OTHER_PIXELS = 3
"""Pixels of 19,200 that may lie on the other side of a threshold: ONNX Runtime's sums are off by about 1e-6."""


def a_package(path: Path, leave_out: str = "") -> Path:
    """Writes the files of the npm package, empty, as a .tgz file."""
    with tarfile.open(path, "w:gz") as archive:
        for name in ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm", "LICENSE", "dist/other.js"):
            if name != leave_out:
                archive.addfile(tarfile.TarInfo(f"package/{name}"), io.BytesIO())
    return path


def test_what_is_missing_is_told(tmp_path, segmenter, monkeypatch):
    """If broken, a folder is written that shows nothing, or what is there is replaced."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"node_modules/onnxruntime-web: is not there; .*npm pack onnxruntime-web@"):
        web.write_web(segmenter, tmp_path / "site")
    with pytest.raises(UserError, match=r"--onnxruntime-web gone.tgz: no such file"):
        web.write_web(segmenter, tmp_path / "site", Path("gone.tgz"))
    broken = a_package(tmp_path / "a.tgz", "dist/ort-wasm-simd-threaded.wasm")
    with pytest.raises(UserError, match=r"has no dist/ort-wasm-simd-threaded.wasm"):
        web.write_web(segmenter, tmp_path / "site", broken)
    (tmp_path / "b.tgz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"b\.tgz: cannot be unpacked"):
        web.write_web(segmenter, tmp_path / "site", tmp_path / "b.tgz")
    assert not (tmp_path / "site").exists()
    with pytest.raises(UserError, match="is there already"):
        web.write_web(segmenter, tmp_path, a_package(tmp_path / "c.tgz"))


def test_the_folder_holds_all_that_its_files_name(tmp_path, segmenter):
    """If broken, the page asks for a file that was not written, or for the server that is not there."""
    web.write_web(segmenter, tmp_path / "site", a_package(tmp_path / "a.tgz"))
    files = {
        path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*") if path.is_file()
    }
    assert {"index.html", "model.onnx", "model.json", "onnxruntime/ort.js", "onnxruntime/LICENSE"} <= files
    assert not {"static/server_model.js", "static/start.js", "onnxruntime/other.js"} & files
    page = (tmp_path / "site" / "index.html").read_text()
    assert "static/start_web.js" in page
    assert "Content-Security-Policy" in page
    for name in files:
        if name.endswith(".js"):
            imported = re.findall(r'^import [^;]*"([^"]+)";', (tmp_path / "site" / name).read_text(), re.MULTILINE)
            folder = (tmp_path / "site" / name).parent
            assert not [path for path in imported if not (folder / path).is_file()], name


def test_a_folder_that_could_not_be_written_leaves_nothing(tmp_path, segmenter, monkeypatch):
    """If broken, half a page lies there, and the same command is refused as if it were whole."""
    copied = []

    def copy(*paths: Path) -> None:
        copied.append(paths)
        if len(copied) == 3:
            raise OSError(28, os.strerror(28))
        write(*paths)

    write, package = web._copy, a_package(tmp_path / "a.tgz")
    monkeypatch.setattr(web, "_copy", copy)
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        copied.clear()
        with pytest.raises(RunError, match=r"cannot be written \(No space left"):
            web.write_web(segmenter, tmp_path / name, package)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "empty"]
    assert not any((tmp_path / "empty").iterdir())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--format", "web", "--output", "page.onnx"], "web writes a folder"),
        (["--output", "m.onnx", "--onnxruntime-web", "x"], "--onnxruntime-web is for --format web"),
    ],
)
def test_flags_that_do_not_fit_are_told(flags, said, tmp_path, monkeypatch):
    """If broken, a flag is ignored, or a folder gets the name of a file."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        export.main(flags)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files in silence."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    """Returns the address of an exported page on a plain server of files."""
    if not CHROMIUM or not RUNTIME:
        pytest.skip("needs Chromium, and the npm package onnxruntime-web in JAXSEG_ONNXRUNTIME_WEB")
    folder = tmp_path_factory.mktemp("web") / "site"
    export.main(["--format", "web", "--output", str(folder), "--onnxruntime-web", RUNTIME])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_browsers_read_otherwise_is_refused(site, browser):
    """If broken, a deep or a print image is segmented from other colours than predict takes, and nobody says so."""
    expect = pytest.importorskip("playwright.sync_api").expect
    context = browser.new_context()
    page = context.new_page()
    page.goto(site)
    expect(page.locator("body[data-ready]")).to_be_visible()
    deep, cmyk = encoded(np.full((8, 8), 700, np.uint16)), encoded(Image.new("CMYK", (8, 8)), "jpeg")
    picture, xmp = Image.new("RGB", (8, 6)), b'<x:xmpmeta><rdf tiff:Orientation="3"/></x:xmpmeta>'
    webp, png = (encoded(picture, kind, exif=turned(3)) for kind in ("webp", "png"))
    drop(page, deep__png=deep, print__jpg=cmyk, a__webp=webp, b__png=png, c__jpg=encoded(picture, "jpeg", xmp=xmp))
    failed = page.locator("#list [data-status=failed]")
    expect(failed).to_have_count(5)
    expect(failed.nth(0)).to_contain_text("deep.png: has 16 bits a colour, of which a browser keeps 8")
    expect(failed.nth(1)).to_contain_text("print.jpg: its colours are CMYK, made for print; python -m jaxseg.predict")
    for place, name in enumerate(("a.webp", "b.png", "c.jpg"), start=2):
        expect(failed.nth(place)).to_contain_text(f"{name}: is turned by metadata that browsers ignore")
    drop(page, d__jpg=encoded(picture, "jpeg", exif=turned(3)), e__webp=encoded(picture, "webp", exif=turned(1)))
    expect(page.locator("#list [data-status=ready]")).to_have_count(2)
    context.close()


def test_the_browser_alone_segments_as_predict_does(site, browser, segmenter, tmp_path):
    """If broken, the exported page shows another outline than predict, sends something, or saves no data set."""
    expect = pytest.importorskip("playwright.sync_api").expect
    # A profile of other colours, too: without it, 80 pixels would be on the other side.
    photos = {
        "mole__png": encoded(pair(3, 160, 120)[0]),
        "profile__png": encoded(pair(3, 160, 120)[0], icc_profile=rgb_profile(P3, 1.0)),
        "turned__jpg": encoded(pair(5, 160, 120)[0], "jpeg", exif=turned(3), quality=95),
    }
    context = browser.new_context()
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append((request.method, request.url)))
    page.goto(site)
    expect(page.locator("body[data-ready]")).to_be_visible()
    drop(page, **photos, broken__jpg=b"no image")
    expect(page.locator("#list [data-status=ready]")).to_have_count(3)
    expect(page.locator("#list [data-status=failed]")).to_contain_text("broken.jpg: not an image that this browser")
    for part in ("#trust-section", "#measure-section", "#uncertainty-choice"):
        expect(page.locator(part)).to_be_hidden()
    for threshold in (0.5, 0.2, 0.8):
        page.get_by_role("slider", name="Threshold").fill(str(round(threshold * 100) - 1))
        expected = expected_mask(segmenter, photos["mole__png"], threshold)
        assert expected.any()
        assert np.count_nonzero(saved_mask(page) != expected) <= MOST_OTHER_PIXELS
    page.get_by_role("button", name="Reset").click()
    with zipfile.ZipFile(saved(page, "#save-all")) as content:
        content.extractall(tmp_path)
    examples = open_folder(DataConfig(name=str(tmp_path)))
    assert set(examples.names) == {"mole", "profile", "turned"}
    for i, name in enumerate(examples.names):
        content = next(content for key, content in photos.items() if key.startswith(name))
        assert examples.read_image(i) == content
        found = examples.load(i).mask[..., 0] * np.uint8(255)
        # Browsers may decode a JPEG file's colours otherwise than Pillow.
        assert (
            np.count_nonzero(found != expected_mask(segmenter, content, 0.5))
            <= {"mole": 3, "profile": 10, "turned": 60}[name]
        )
    assert (tmp_path / "predictions.csv").read_text().startswith("name,area_pixels\nmole,")
    assert said == []
    assert {method for method, _ in asked} == {"GET"}
    assert not [url for _, url in asked if not url.startswith((site, "blob:"))]
    context.close()
