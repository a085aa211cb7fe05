"""Writes a trained model as one file that JAX alone runs: `python -m jaxseg.export --workdir W --output FILE`."""

import argparse

from jaxseg import cli


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "export",
        "Writes the best weights of a run, and its network, into one StableHLO file that runs without jaxseg, on CPU, "
        "CUDA and ROCm GPUs and TPU: from images uint8 [B, S, S, 3], RGB, to the probability of lesion, float32 "
        "[B, S, S], for any B. README shows how to run it.",
        "--workdir W --output FILE [--ensemble W ...] [--tta] [--overwrite]",
    )
    cli.add_model_arguments(result)
    result.add_argument("--output", required=True, metavar="FILE", help="the file to write, as model.stablehlo")
    result.add_argument("--overwrite", action="store_true", help="replace the file if it is there already")
    return result


if __name__ == "__main__":
    _parser().parse_args()

import logging
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp

from jaxseg import startup
from jaxseg.atomic import replacing
from jaxseg.errors import RunError, UserError
from jaxseg.models import create_model
from jaxseg.prediction import THRESHOLD
from jaxseg.segmenter import Segmenter
from jaxseg.steps import predict_step

log = logging.getLogger("jaxseg.export")

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What an exported model runs on."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, writes the file, says what is in it."""
    args = _parser().parse_args(argv)
    cli.start_logging()
    startup.tune()
    output = Path(args.output)
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; give the file to write, as {output / 'model.stablehlo'}")
    if output.exists() and not args.overwrite:
        raise UserError(f"--output {output}: is there already; --overwrite replaces it")
    segmenter = Segmenter.load(args.workdir, *args.ensemble, tta=args.tta)
    content = export(segmenter).serialize()
    try:
        with replacing(output) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror or error}") from error
    size = segmenter.image_size
    log.info("written to %s: %.1f MB, for %s", output, len(content) / 1e6, ", ".join(PLATFORMS))
    log.info("in: images uint8 [B, %d, %d, 3], RGB in [0, 255], any B", size, size)
    log.info("out: probability of lesion, float32 [B, %d, %d]; lesion above %g", size, size, THRESHOLD)


def export(segmenter: Segmenter) -> jax.export.Exported:
    """Returns a model as one StableHLO program that holds its weights.

    The program is for one device, whatever the segmenter runs on, and computes what the segmenter does between resizing
    the image and resizing the probabilities.

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


if __name__ == "__main__":
    cli.run("export", main)
