"""Writes a trained model as one file that JAX alone runs: `python -m jaxseg.export --workdir W --output FILE`."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from jaxseg import cli
from jaxseg.errors import RunError, UserError

_OTHER_FORMATS = {
    ".ckpt": "a checkpoint",
    ".engine": "a TensorRT engine",
    ".h5": "HDF5",
    ".keras": "Keras' format",
    ".mlmodel": "Core ML",
    ".mlpackage": "Core ML",
    ".npz": "NumPy's format",
    ".onnx": "ONNX",
    ".pb": "a TensorFlow graph",
    ".pt": "PyTorch's format",
    ".pth": "PyTorch's format",
    ".safetensors": "safetensors",
    ".tflite": "TensorFlow Lite",
    ".torchscript": "TorchScript",
}
"""Endings that promise another format than the file would have."""


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "export",
        "Writes the best weights of a run, and its network, into one StableHLO file that runs without jaxseg, on CPU, "
        "CUDA and ROCm GPUs and TPU: from images uint8 [B, S, S, 3], RGB, to the probability of lesion, float32 "
        "[B, S, S], for any B. jaxseg/inference/standalone.py runs it.",
        "[--workdir W] --output FILE [--ensemble W ...] [--tta] [--overwrite]",
    )
    cli.add_model_arguments(result)
    result.add_argument("--output", required=True, metavar="FILE", help="the file to write, as model.stablehlo")
    result.add_argument("--overwrite", action="store_true", help="replace the file if it is there already")
    return result


log = logging.getLogger("jaxseg.export")


def _check_output(output: Path, *, overwrite: bool) -> None:
    """Raises UserError if the file cannot be written, or would have another format than its name promises."""
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; give the file to write, as {output / 'model.stablehlo'}")
    if kind := _OTHER_FORMATS.get(output.suffix.lower()):
        raise UserError(
            f"--output {output}: export writes StableHLO, not {kind}; give a name as {output.with_suffix('.stablehlo')}"
        )
    if output.exists() and not overwrite:
        raise UserError(f"--output {output}: is there already; --overwrite replaces it")


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, writes the file, says what is in it.

    Raises:
      UserError: the file exists already, or a run cannot be loaded.
      RunError: the file cannot be written.
    """
    args = _parser().parse_args(argv)

    output = Path(args.output)
    _check_output(output, overwrite=args.overwrite)

    from jaxseg.inference.export import PLATFORMS, export
    from jaxseg.inference.segmenter import Segmenter
    from jaxseg.system import startup
    from jaxseg.system.files import replacing

    cli.start_logging()
    startup.tune()
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
    log.info("out: probability of lesion, float32 [B, %d, %d]; lesion above %g", size, size, segmenter.threshold)


if __name__ == "__main__":
    cli.run("export", main)
