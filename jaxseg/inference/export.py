"""A trained model as one file that holds its weights: a StableHLO program, or an ONNX graph."""

import dataclasses
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp

import jaxseg
from jaxseg.errors import UserError
from jaxseg.inference.segmenter import Segmenter
from jaxseg.models import create_model
from jaxseg.pretrained import card
from jaxseg.steps import SYMMETRIES, predict_step, turned, turned_back

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""Platforms on which an exported StableHLO program runs."""


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


def export_onnx(segmenter: Segmenter, *, float16: bool = False) -> bytes:
    """Returns a model as one ONNX file: the function that `export` returns, with batch norm folded into convolutions.

    Networks compute in float32, whatever `model.dtype` they were trained in.

    Args:
      segmenter: the model, with its ensemble and test-time augmentation.
      float16: store kernels in half the bytes; they are widened to float32 when the model is loaded.

    Returns:
      The file's content. Input "images" is uint8 [B, S, S, 3] in RGB, output "probability" float32 [B, S, S], for any
      B; `metadata_props` tell how to prepare an image and what the model is.

    Raises:
      UserError: the package onnx is missing, or the network has an operation that is not translated.
    """
    try:
        from jaxseg.inference.onnx_translation import to_onnx
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UserError("--format onnx needs the package onnx: pip install onnx") from error
    networks = []
    for member in segmenter.members:
        variables = jax.device_get(member.variables)
        model = create_model(dataclasses.replace(member.config.model, dtype="float32"))
        networks.append(lambda images, v=variables, m=model: predict_step(v, images, model=m))

    # One after the other, not by `predict_step`'s loop, which a graph of plain operations does not have.
    def segment(images: jax.Array) -> jax.Array:
        symmetries = SYMMETRIES if segmenter.tta else SYMMETRIES[:1]
        maps = [turned_back(network(turned(images, *s)), *s) for network in networks for s in symmetries]
        return sum(maps[1:], maps[0])[..., 0] / len(maps)

    size = segmenter.image_size
    return to_onnx(
        segment, (size, size, 3), name="jaxseg", float16=float16, metadata=_metadata(segmenter)
    ).SerializeToString()


def _metadata(segmenter: Segmenter) -> dict[str, str]:
    """Returns what whoever opens the file should know, without paths of this machine."""
    size = segmenter.image_size
    trained_on = sorted({Path(member.config.data.name).name for member in segmenter.members})
    return {
        "producer": f"jaxseg {jaxseg.__version__}",
        "input": f"images: uint8 [B, {size}, {size}, 3], RGB in [0, 255]; resize an upright photograph to {size} x "
        f"{size} pixels, bilinear, without keeping its aspect ratio",
        "output": f"probability: float32 [B, {size}, {size}], probability of lesion; resize to the photograph's size, "
        "bilinear, then compare with the threshold",
        "threshold": f"{segmenter.threshold:g}",
        "trained_on": ", ".join(trained_on),
        "test_time_augmentation": str(segmenter.tta).lower(),
        "members": str(len(segmenter.members)),
        "warning": card.WARNING,
    }
