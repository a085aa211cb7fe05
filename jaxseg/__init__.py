"""Skin-lesion segmentation in JAX/Flax: train, evaluate and predict from the command line.

Importing this package starts nothing: JAX is imported by the modules that compute.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxseg.inference.segmenter import Segmenter

__all__ = ["Segmenter", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports `Segmenter`, and JAX with it, when it is first asked for."""
    if name == "Segmenter":
        from jaxseg.inference.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module 'jaxseg' has no attribute {name!r}")
