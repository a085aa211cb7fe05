"""Weights of tiny encoders, by the recipe that the stored results of Keras were made with."""

import numpy as np

from experiments.parity.reference import recipe
from jaxseg import weights

V2 = "resnet50v2"

TOP = {"predictions/kernel": np.ones((4, 2), np.float32), "predictions/bias": np.ones(2, np.float32)}
"""The classifier's head, which published files hold as well."""


def seeded(encoder=V2):
    """Returns the tiny encoder's tensors by Keras' key, and its variables."""
    tensors = {t.keras_key: recipe.weight(t.layer, t.variable, t.shape) for t in weights.expected_tensors(encoder)}
    variables = {"params": {}, "batch_stats": {}}
    for t in weights.expected_tensors(encoder):
        variables[t.collection].setdefault(t.layer, {})[t.name] = tensors[t.keras_key]
    return tensors, variables
