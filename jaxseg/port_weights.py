"""Ports encoder weights from Keras' HDF5 into a file for `--model.pretrained`, and back.

    python -m jaxseg.port_weights --source resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5 --output v2.npz
    python -m jaxseg.port_weights --source runs/full --output finetuned.h5 --to keras

Training takes the `.h5` itself too; porting shows what is in it, and leaves a file without the classifier head. The
source may be a run's folder: the encoder of its best checkpoint then goes into the file, for Keras or another run.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxseg import cli
from jaxseg.config import ENCODER_TITLES
from jaxseg.errors import RunError, UserError, suggestion

if TYPE_CHECKING:
    from jaxseg.weights import Tensor, Variables

_ENCODERS = tuple(ENCODER_TITLES)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
      argv: its arguments; None: the process's own.

    Raises:
      UserError: a source that does not fit, or an output that is in the way.
      RunError: the output cannot be written.
    """
    args = _parser().parse_args(argv)
    if args.encoder not in (None, *_ENCODERS):
        near = suggestion(args.encoder, _ENCODERS)
        raise UserError(f"--encoder {args.encoder!r}: must be one of {', '.join(_ENCODERS)}{near}")
    source, output = Path(args.source), Path(args.output)
    _check_output(output, args.force, args.to)
    cli.start_logging()
    port(source, output, args.encoder, to=args.to)


def port(source: Path, output: Path, encoder: str | None = None, *, to: str = "jaxseg") -> None:
    """Reads weights, checks every tensor, writes them in the other format and prints what went where.

    Args:
      source: a Keras HDF5 file, a ported file, or a run's folder.
      output: the file to write; replaced if it is there.
      encoder: "resnet50v2" or "resnet50"; None: the run's own, for a file resnet50v2.
      to: "jaxseg" for a ported file, "keras" for a layer-by-name HDF5 file.

    Raises:
      UserError: the source does not fit the encoder, or is a run without one.
      RunError: the output cannot be written, or a checkpoint not be read.
    """
    from jaxseg import weights  # here, because h5py is slow to import and `--help` needs none of it
    from jaxseg.weights.download import md5_of

    if source.is_dir():
        variables, encoder, origin = _of_run(source, encoder)
    else:
        encoder = encoder or _ENCODERS[0]
        variables = weights.load_file(source, encoder)
        name = weights.published_as(source)
        published = (
            f"the ImageNet weights that Keras publishes as {name}" if name else "not a file that Keras publishes"
        )
        origin = f"MD5 {md5_of(source)}: {published}"
    try:
        (weights.save_keras if to == "keras" else weights.save_ported)(output, variables, encoder)
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror or error}") from error

    tensors = weights.expected_tensors(encoder)
    print(_table(tensors))
    sizes = {c: sum(t.of(variables).size for t in tensors if t.collection == c) for c in ("params", "batch_stats")}
    print(
        f"\n{encoder}: {len(tensors)} tensors, {sum(sizes.values()):,} parameters as Keras counts them "
        f"({sizes['params']:,} trained, {sizes['batch_stats']:,} batch statistics); all there, shapes right, all finite"
    )
    print(f"source: {source}, {origin}")
    use = "model.load_weights(FILE)" if to == "keras" else f"--model.encoder {encoder} --model.pretrained {output}"
    print(f"wrote:  {output}; use it with {use}")


def _of_run(workdir: Path, encoder: str | None) -> tuple["Variables", str, str]:
    """Returns the encoder's variables in a run's best checkpoint, its name, and a few words on where they are from.

    Raises:
      UserError: no run or no checkpoint in the folder, or the run has not that encoder.
      RunError: the checkpoint cannot be read.
    """
    from jaxseg import weights
    from jaxseg.runs.workdir import read_config

    config = read_config(workdir)
    name = config.model.encoder
    if name not in _ENCODERS:
        raise UserError(
            f"{workdir}: is a run of the plain U-Net (model.encoder {name}), which has no encoder of Keras'"
        )
    if encoder not in (None, name):
        raise UserError(f"--encoder {encoder}: the run in {workdir} trained {name}; leave --encoder out")

    import jax

    from jaxseg.runs.checkpoint import restore_best
    from jaxseg.steps import Steps, state_target
    from jaxseg.system import startup

    startup.check_platform()
    steps = Steps(config, jax.local_devices()[:1])
    variables, step = restore_best(workdir, state_target(config, steps).variables)
    of_encoder = {collection: variables[collection]["encoder"] for collection in ("params", "batch_stats")}
    return weights.check(of_encoder, name, workdir), name, f"the encoder of its best checkpoint, at step {step}"


def _table(tensors: Iterable["Tensor"]) -> str:
    """Returns one line per layer: its name, each variable's name in Keras and in Flax, and the first one's shape."""
    layers: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        layers.setdefault(tensor.layer, []).append(tensor)
    lines = [f"{'layer':24} {'shape':16} Keras -> Flax"]
    for layer, of_layer in layers.items():
        shape = "x".join(map(str, of_layer[0].shape))
        lines.append(f"{layer:24} {shape:16} {', '.join(f'{t.variable} -> {t.collection}/{t.name}' for t in of_layer)}")
    return "\n".join(lines)


def _check_output(output: Path, force: bool, to: str) -> None:
    if to == "jaxseg" and output.suffix.lower() in (".h5", ".hdf5", ".keras"):
        raise UserError(
            f"--output {output}: --to jaxseg writes an .npz file; give the name {output.with_suffix('.npz')}, or "
            "--to keras"
        )
    if output.is_dir():
        raise UserError(f"--output {output}: is a folder; give a file name")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}; make it first")
    if not os.access(output.parent, os.W_OK):
        raise UserError(f"--output {output}: the folder cannot be written to; make it writable, or give another name")
    if output.exists() and not force:
        raise UserError(f"--output {output}: exists; give another name, or --force to replace it")


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "port_weights",
        "Ports Keras encoder weights into a file for --model.pretrained, or an encoder trained here back for Keras, "
        "and checks every tensor.",
        "--source FILE_OR_WORKDIR --output FILE [--encoder NAME] [--to jaxseg|keras] [--force]",
    )
    parser.add_argument(
        "--source",
        required=True,
        metavar="FILE_OR_WORKDIR",
        help="Keras HDF5 file (with or without top; not a .keras archive), a ported file, or a run's folder, of which "
        "the best checkpoint is taken",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="file to write, as NAME.npz, or NAME.h5 with --to keras",
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help=f"one of {', '.join(_ENCODERS)}; default: {_ENCODERS[0]}, of a run the one it trained",
    )
    parser.add_argument(
        "--to",
        choices=("jaxseg", "keras"),
        default="jaxseg",
        help="format to write: for jaxseg, or back for Keras; default: jaxseg",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing output; default: refuse")
    return parser


if __name__ == "__main__":
    cli.run("port_weights", main)
