"""One server with the model inside, for all tests of the page."""

from collections.abc import Iterator

import pytest

from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter
from tests.helpers.app_server import Served, running
from tests.helpers.chromium import CHROMIUM, FLAGS

OWN_THRESHOLD = 0.4321
"""The model's own threshold in these tests: none of the slider's hundredths."""

PATIENCE_MS = 60_000
"""How long a test waits for the page, on a machine with more work than cores."""

HARMLESS = ("the server responded with a status of 422", "willReadFrequently")
"""What the browser's console says of a file that is no image, and of tests that look at a canvas."""


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    return Segmenter.load(batch_size=1)


@pytest.fixture(scope="session")
def served(segmenter: Segmenter) -> Iterator[Served]:
    """Returns a running server; tests may add photographs."""
    from jaxseg.app.model import PageModel

    with running(PageModel(segmenter, Prediction(OWN_THRESHOLD))) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("Chromium is not installed")
    playwright.expect.set_options(timeout=PATIENCE_MS)
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, served: Served) -> Iterator:
    """Returns a function that opens the page; after the test, fails if it asked another host or had an error."""
    playwright = pytest.importorskip("playwright.sync_api")
    contexts, said, asked, harmless = [], [], [], [*HARMLESS]

    def opened(*, expected: str = "", **options):
        harmless.extend(filter(None, [expected]))
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options)))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served.address)
        playwright.expect(page.locator("body[data-ready]")).to_be_visible()
        assert page.url == f"http://127.0.0.1:{served.port}/"  # a screenshot does not show the token
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not [text for text in said if not any(part in text for part in harmless)]
    assert not [url for url in asked if not url.startswith((f"http://127.0.0.1:{served.port}/", "blob:"))]
