"""One server with the model inside, for all tests of the page."""

from collections.abc import Iterator

import pytest

from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter
from tests.helpers.app_server import Served, running
from tests.helpers.chromium import CHROMIUM, FLAGS

OWN_THRESHOLD = 0.4321
"""The model's own threshold in these tests: none of the slider's hundredths."""


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
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield chromium
        chromium.close()
