"""Encoder weights from files: Keras' HDF5, the ported `.npz`, Keras' published ImageNet weights."""

from jaxseg.weights.files import load_file, load_keras, load_ported, save_keras, save_ported
from jaxseg.weights.pretrained import load_pretrained
from jaxseg.weights.published import published_as
from jaxseg.weights.tensors import Tensor, Variables, check, expected_tensors

__all__ = [
    "Tensor",
    "Variables",
    "check",
    "expected_tensors",
    "load_file",
    "load_keras",
    "load_ported",
    "load_pretrained",
    "published_as",
    "save_keras",
    "save_ported",
]
