"""Writes a trained model as one file that runs without jaxseg: `python -m jaxseg.export --workdir W --output FILE`."""

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
    ".pb": "a TensorFlow graph",
    ".pt": "PyTorch's format",
    ".pth": "PyTorch's format",
    ".safetensors": "safetensors",
    ".tflite": "TensorFlow Lite",
    ".torchscript": "TorchScript",
}
"""Endings that promise another format than the file would have."""


_FORMATS = {"stablehlo": ".stablehlo", "onnx": ".onnx", "web": ""}
"""The formats that are written, and the ending of each; "web" is a folder."""


def _parser() -> argparse.ArgumentParser:
    """Returns the command's arguments."""
    result = cli.Parser(
        "export",
        "Writes the best weights of a run, and its network, into one file that runs without jaxseg: from images uint8 "
        "[B, S, S, 3], RGB, to the probability of lesion, float32 [B, S, S], for any B. StableHLO runs with JAX on "
        "CPU, CUDA and ROCm GPUs and TPU (jaxseg/inference/standalone.py runs it); ONNX, which needs the package onnx, "
        "runs with ONNX Runtime and others. --format web writes the page of jaxseg.app as a folder for any web server, "
        "with the model in the visitor's browser.",
        "[--workdir W] --output FILE [--format stablehlo|onnx|web] [--float16] [--onnxruntime-web PACKAGE] "
        "[--ensemble W ...] [--tta] [--overwrite]",
    )
    cli.add_model_arguments(result)
    result.add_argument(
        "--output", required=True, metavar="FILE", help="the file to write, as model.onnx; for web, a new folder"
    )
    result.add_argument(
        "--format",
        choices=tuple(_FORMATS),
        help="format of the file; default: what its ending says, and StableHLO where that says nothing",
    )
    result.add_argument("--float16", action="store_true", help="ONNX and web: store kernels in half the bytes")
    result.add_argument(
        "--onnxruntime-web",
        metavar="PACKAGE",
        help="web: the npm package that runs the model in browsers, its folder or its .tgz file, which "
        "`npm pack onnxruntime-web` fetches (default: node_modules/onnxruntime-web)",
    )
    result.add_argument("--overwrite", action="store_true", help="replace the file if it is there already; not for web")
    return result


log = logging.getLogger("jaxseg.export")


def _format_of(args: argparse.Namespace) -> str:
    """Returns the format to write.

    Raises:
      UserError: the file cannot be written, or its name promises another format than it would have.
    """
    from jaxseg.runs.workdir import refuse_among_checkpoints

    output = Path(args.output)
    refuse_among_checkpoints(output, "--output")
    if args.onnxruntime_web and args.format != "web":
        raise UserError("--onnxruntime-web is for --format web; add that")
    if args.format == "web":
        if args.overwrite:
            raise UserError("--overwrite is for a file; --format web writes a new folder, give its name to --output")
        if output.suffix.lower() in (*_FORMATS.values(), *_OTHER_FORMATS) and output.suffix:
            raise UserError(f"--output {output}: web writes a folder; give a name without {output.suffix}")
        return "web"
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; give the file to write, as {output / 'model.stablehlo'}")
    if output.name.startswith(".") and not output.suffix:
        raise UserError(f"--output {output}: has no name before its ending; is a shell variable unset?")
    ending = output.suffix.lower()
    runs = [Path(run).resolve() for run in (args.workdir, *args.ensemble)]
    if output.exists() and output.resolve().parent in runs and ending not in _FORMATS.values():
        raise UserError(f"--output {output}: is a file of the run itself; give another name, as model.onnx")
    if kind := _OTHER_FORMATS.get(ending):
        raise UserError(
            f"--output {output}: export writes StableHLO or ONNX, not {kind}; give a name as "
            f"{output.with_suffix('.stablehlo')} or {output.with_suffix('.onnx')}"
        )
    by_ending = next((name for name, usual in _FORMATS.items() if usual and usual == ending), None)
    if args.format and by_ending and args.format != by_ending:
        raise UserError(
            f"--format {args.format} with --output {output}: the ending says {by_ending}; give a name as "
            f"{output.with_suffix(_FORMATS[args.format])}"
        )
    result = args.format or by_ending or "stablehlo"
    if args.float16 and result != "onnx":
        raise UserError("--float16 is for ONNX; add --format onnx, or give --output a name that ends in .onnx")
    if output.exists() and not args.overwrite:
        raise UserError(f"--output {output}: is there already; --overwrite replaces it")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, writes the file, says what is in it.

    Raises:
      UserError: the file exists already, a run cannot be loaded, or its network cannot be written in that format.
      RunError: the file cannot be written.
    """
    args = _parser().parse_args(argv)

    output, kind = Path(args.output), _format_of(args)

    from jaxseg.inference.export import PLATFORMS, export, export_onnx
    from jaxseg.inference.segmenter import Segmenter
    from jaxseg.system import startup
    from jaxseg.system.files import replacing

    cli.start_logging()
    startup.tune()
    if kind == "web":
        _write_web(args)
        return
    segmenter = Segmenter.load(args.workdir, *args.ensemble, tta=args.tta)
    content = export_onnx(segmenter, float16=args.float16) if kind == "onnx" else export(segmenter).serialize()
    try:
        with replacing(output) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror or error}") from error
    size = segmenter.image_size
    where = "ONNX" if kind == "onnx" else f"StableHLO for {', '.join(PLATFORMS)}"
    log.info("written to %s: %.1f MB, %s", output, len(content) / 1e6, where)
    log.info("in: images uint8 [B, %d, %d, 3], RGB in [0, 255], any B", size, size)
    log.info("out: probability of lesion, float32 [B, %d, %d]; lesion above %g", size, size, segmenter.threshold)


def _write_web(args: argparse.Namespace) -> None:
    """Writes the page with the model in it, says how to open it."""
    from jaxseg.app.web import check_folder, write_web
    from jaxseg.inference.segmenter import Segmenter

    output = Path(args.output)
    check_folder(output)  # before the model is loaded
    segmenter = Segmenter.load(args.workdir, *args.ensemble, tta=args.tta)
    runtime = Path(args.onnxruntime_web) if args.onnxruntime_web else None
    size = write_web(segmenter, output, runtime, float16=args.float16)
    log.info("written to %s: %.1f MB, files for any web server", output, size / 1e6)
    log.info("to try it: python -m http.server --bind 127.0.0.1 --directory %s", output)


if __name__ == "__main__":
    cli.run("export", main)
