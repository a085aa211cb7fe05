"""Skin-lesion segmentation in JAX/Flax: train, evaluate and predict from the command line.

Importing this package starts nothing: JAX is imported by the modules that compute.
"""

__version__ = "0.1.0"
