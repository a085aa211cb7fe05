"""A trained model as one file that holds its weights: a StableHLO program, or an ONNX graph."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

import jaxseg
from jaxseg.config import ModelConfig
from jaxseg.errors import UserError
from jaxseg.inference.jax_runtime import JaxRuntime
from jaxseg.inference.segmenter import Member, Segmenter
from jaxseg.models import create_model
from jaxseg.pretrained import card
from jaxseg.runs.workdir import description_of
from jaxseg.steps import SYMMETRIES, predict_step, turned, turned_back
from jaxseg.system.files import read_json

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

    Raises:
      UserError: the model was loaded for another runtime than JAX.
    """
    networks = [(create_model(config), variables) for config, variables in _networks(segmenter)]

    def segment(images: jax.Array) -> jax.Array:
        return sum(predict_step(v, images, model=m, tta=segmenter.tta) for m, v in networks)[..., 0] / len(networks)

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
      UserError: the package onnx is missing, the network has an operation that is not translated, or the model was
        loaded for another runtime than JAX.
    """
    try:
        from jaxseg.inference.onnx_translation import to_onnx
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UserError("writing ONNX needs the package onnx: pip install onnx") from error
    networks = []
    for config, on_devices in _networks(segmenter):
        variables = jax.device_get(on_devices)
        model = create_model(dataclasses.replace(config, dtype="float32"))
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


def _networks(segmenter: Segmenter) -> list[tuple[ModelConfig, Any]]:
    """Returns the settings of each member's network, and its variables.

    Raises:
      UserError: the model was loaded for another runtime, which has no variables.
    """
    if not isinstance(segmenter.runtime, JaxRuntime):
        raise UserError(f"a model that runs on {segmenter.runtime.name} has no weights to export: load it for jax")
    pairs = zip(segmenter.members, segmenter.runtime.networks, strict=True)
    return [(member.config.model, network.variables) for member, network in pairs]


def _metadata(segmenter: Segmenter) -> dict[str, str]:
    """Returns what whoever opens the file should know, without paths of this machine."""
    size = segmenter.image_size
    described = [read_json(description_of(member.workdir)) for member in segmenter.members]
    return {
        "name": ", ".join(about.get("name", "jaxseg") for about in described),
        # Of the weights. Whoever trained a run decides; its data may decide too.
        "licence": ", ".join(sorted({about.get("licence", "not stated") for about in described})),
        "producer": f"jaxseg {jaxseg.__version__}",
        "input": f"images: uint8 [B, {size}, {size}, 3], RGB in [0, 255]; resize an upright photograph in sRGB to "
        f"{size} x {size} pixels, bilinear, without keeping its aspect ratio",
        "output": f"probability: float32 [B, {size}, {size}], probability of lesion; resize to the photograph's size, "
        "bilinear, then compare with the threshold",
        "threshold": f"{segmenter.threshold:g}",
        "trained_on": "; ".join(sorted({*map(_trained_on, segmenter.members, described)})),
        "test_time_augmentation": str(segmenter.tta).lower(),
        "members": str(len(segmenter.members)),
        "warning": card.WARNING,
    }


def _trained_on(member: Member, about: Mapping[str, Any]) -> str:
    """Returns what a member was trained on: a packed model's card says it in full, a run by the name of its data."""
    parts = about.get("trained_on")
    return ", ".join(part["title"] for part in parts) if parts else Path(member.config.data.name).name
