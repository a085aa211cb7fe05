"""A trained model as one StableHLO program that holds its weights."""

import logging

import jax
import jax.export
import jax.numpy as jnp

from jaxseg.inference.segmenter import Segmenter
from jaxseg.models import create_model
from jaxseg.steps import predict_step

log = logging.getLogger("jaxseg.export")


PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""Platforms on which an exported model runs."""


def export(segmenter: Segmenter) -> jax.export.Exported:
    """Returns a model as one StableHLO program that holds its weights.

    The program is for one device, whatever the segmenter runs on. It computes the step between resizing the image and
    resizing the probabilities.

    Args:
      segmenter: the model, with its ensemble and test-time augmentation.

    Returns:
      A function of images, uint8 [B, S, S, 3] in RGB, to the probability of lesion, float32 [B, S, S], for any B.
    """
    members = [(create_model(m.config.model), m.variables) for m in segmenter.members]

    def segment(images: jax.Array) -> jax.Array:
        return sum(predict_step(v, images, model=m, tta=segmenter.tta) for m, v in members)[..., 0] / len(members)

    size = segmenter.image_size
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    return jax.export.export(jax.jit(segment), platforms=PLATFORMS)(images)
