"""Tiny encoders in place of the real ones, for the tests that ask for them."""

import pytest

from jaxseg.models import resnet
from jaxseg.weights import keras_hdf5


@pytest.fixture
def tiny_encoders(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Replaces the encoders, and the probe of HDF5 files, which takes half a second for each."""
    if "hdf5_library" not in request.function.__name__:
        monkeypatch.setattr(keras_hdf5, "probe", lambda path: None)
    monkeypatch.setitem(resnet.ENCODERS, "resnet50v2", resnet._ResNet50V2Tiny)
    monkeypatch.setitem(resnet.ENCODERS, "resnet50", resnet._ResNet50Tiny)
