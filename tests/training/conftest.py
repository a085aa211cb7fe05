"""Runs of these tests draw no curves: a drawing takes as long as all the steps of a tiny run."""

from pathlib import Path

import pytest

from jaxseg.training import writers


@pytest.fixture(autouse=True)
def no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the drawing of `curves.png`; not for `tiny_run`, which is made before, nor in other processes."""

    def plot_curves(history: object, path: Path, **_: object) -> None:
        path.write_bytes(b"")

    monkeypatch.setattr(writers.curves, "plot_curves", plot_curves)
