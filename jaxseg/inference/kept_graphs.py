"""ONNX graphs of networks, kept between processes: the next start neither imports JAX nor traces a network."""

import dataclasses

from jaxseg.config import Config
from jaxseg.runs.fingerprint import Fingerprint
from jaxseg.system import kept_files

FILES = kept_files.KeptFiles("onnx", 2**29)
"""The kept graphs: contents of ONNX files by `key_of`."""

_SOURCES = (
    "models/*.py",
    "steps.py",
    "inference/export.py",
    "inference/onnx_graph.py",
    "inference/onnx_translation.py",
)
"""Files of jaxseg that decide which graph is made of a network."""


def key_of(fingerprint: Fingerprint, config: Config) -> str:
    """Returns a hash of all that decides the graph of a run's network.

    Args:
      fingerprint: that of the run's weights.
      config: the run's settings.
    """
    parts = {
        "weights": fingerprint.sha256,
        "model": dataclasses.asdict(config.model) | {"pretrained": "", "init_from": ""},
        "image_size": config.data.image_size,
    }
    return kept_files.key_of(parts, packages=("jax", "flax", "onnx"), sources=_SOURCES)
