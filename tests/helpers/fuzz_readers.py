"""Feeds damaged files to the readers of images and of weights: `python -m tests.helpers.fuzz_readers images`.

File number i of a seed is always the same: a sound file of one of many kinds, mutated. A reader must take it or answer
with a `UserError` of one line. Anything else is a finding: another exception, the end of the process, a minute without
an answer. Findings are printed, their files kept, and the exit code is 1.

The files are read in a process of their own, which a fault in a C library may end. Weights are first read without what
`keras_hdf5.probe` does, which would take hours; a file that ended the process is read again with it.
"""

import argparse
import collections
import contextlib
import faulthandler
import io
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from experiments.parity.reference.keras_files import write_by_name, write_numbered
from jaxseg import cli, weights
from jaxseg.data import images
from jaxseg.errors import UserError
from jaxseg.weights import keras_hdf5
from tests.helpers.icc import P3, grey_profile, ink_profile, rgb_profile

LIMIT_SECS = 20.0
"""Longest time for a file; they are all tiny."""

TENSORS = (
    weights.Tensor("conv1_conv", "kernel", "params", "kernel", (3, 3, 3, 4)),
    weights.Tensor("conv1_conv", "bias", "params", "bias", (4,)),
    weights.Tensor("post_bn", "gamma", "params", "scale", (4,)),
    weights.Tensor("post_bn", "moving_variance", "batch_stats", "var", (4,)),
)
"""An encoder so small that most bytes of its file are the file's structure."""


def sound_images(folder: Path) -> list[bytes]:
    """Returns images of all formats that are read, and of their inner kinds; needs no folder."""
    del folder
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8))
    grey, deep = rgb.convert("L"), Image.fromarray(rng.integers(0, 65536, (16, 24)).astype(np.uint16))
    real, bits = Image.fromarray(rng.random((16, 24)).astype(np.float32)), rgb.convert("1")
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = {"save_all": True, "append_images": [rgb.transpose(Image.Transpose.ROTATE_180)]}
    kinds = [
        *((image, "png", {}) for image in (rgb, grey, deep, bits, rgb.convert("P"), rgb.convert("RGBA"))),
        (rgb, "png", {"exif": turned, **frames}),
        *((image, "jpeg", {}) for image in (rgb, grey, rgb.convert("CMYK"))),
        *((rgb, kind, {"icc_profile": rgb_profile(P3, 2.2)}) for kind in ("png", "jpeg", "tiff")),
        (grey, "tiff", {"icc_profile": grey_profile(1.0)}),
        (rgb.convert("CMYK"), "tiff", {"icc_profile": ink_profile()}),
        (rgb, "jpeg", {"progressive": True, "exif": turned}),
        *((rgb, "tiff", {"compression": c}) for c in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        *((image, "tiff", {}) for image in (deep, real, bits, grey, rgb.convert("CMYK"), rgb.convert("LAB"))),
        (bits, "tiff", {"compression": "group4"}),
        (rgb, "tiff", {"exif": turned, **frames}),
        *((image, "bmp", {}) for image in (rgb, grey, bits, rgb.convert("P"), rgb.convert("RGBA"))),
        (rgb, "gif", frames),
        (rgb, "webp", {"exif": turned}),
        (rgb.convert("RGBA"), "webp", {"lossless": True, **frames}),
        (rgb, "jpeg2000", {}),
        (deep, "jpeg2000", {}),
        (rgb, "ppm", {}),
        (deep, "ppm", {}),
    ]
    files = []
    for image, kind, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files


def sound_weights(folder: Path) -> list[bytes]:
    """Returns weight files of every layout, plain and compressed."""
    path = folder / "sound"
    tensors = {t.keras_key: np.ones(t.shape, np.float32) for t in TENSORS}
    variables: dict = {"params": {}, "batch_stats": {}}
    for t in TENSORS:
        variables[t.collection].setdefault(t.layer, {})[t.name] = tensors[t.keras_key]

    def compressed(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for key, value in tensors.items():
                options = {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True}
                file.create_dataset(f"{key.split('/')[0]}/{key}:0", data=value, **options)
            file.attrs["layer_names"] = sorted({t.layer for t in TENSORS})

    def latest(path: Path) -> None:
        with h5py.File(path, "w", libver="latest") as file:
            for key, value in tensors.items():
                file[f"layers/{key.split('/')[0]}/vars/{key.split('/')[1]}"] = value

    def ported_compressed(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **{t.flax_key: t.of(variables) for t in TENSORS})

    writers: list[Callable[[Path], object]] = [
        lambda path: write_by_name(path, tensors),
        lambda path: write_by_name(path, tensors, root="model_weights"),
        lambda path: write_numbered(path, tensors),
        lambda path: write_numbered(path, tensors, named=False, prefix="layers/functional/"),
        compressed,
        latest,
        lambda path: weights.save_ported(path, variables, "resnet50v2"),
        ported_compressed,
    ]
    files = []
    for write in writers:
        write(path)
        files.append(path.read_bytes())
    return files


def read_image(path: Path) -> None:
    """Reads a file in every way in which images are read."""
    for read in (images.size_of, images.decode_image, images.decode_mask):
        one_line(path, read)


def read_weights(path: Path) -> None:
    """Reads a file as weights."""
    one_line(path, weights.load_file)


def one_line(path: Path, read: Callable[[Path], object]) -> None:
    """Reads a file; an error that it may be answered with is checked for its form, others are raised."""
    try:
        read(path)
    except UserError as error:
        text = str(error)
        assert text.startswith(f"{path}: "), text
        assert len(text) < 1000 + len(str(path)), text
        assert text.isprintable(), text


KINDS = {"images": (sound_images, read_image), "weights": (sound_weights, read_weights)}


def mutated(sound: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Returns a file with one to eight changes: bits, bytes, numbers, pieces lost, doubled or of another file."""
    data = bytearray(sound)
    for _ in range(int(2 ** rng.uniform(0, 3.2))):
        # Half of the time in the first bytes, where formats have their structure.
        end = len(data) if rng.random() < 0.5 else min(len(data), 200)
        at = int(rng.integers(0, max(end, 1)))
        size = int(2 ** rng.uniform(0, 8))
        match int(rng.integers(8)):
            case 0:
                data[at : at + 1] = bytes(b ^ 1 << int(rng.integers(8)) for b in data[at : at + 1])
            case 1:
                data[at : at + size] = rng.bytes(len(data[at : at + size]))
            case 2:
                number = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1][int(rng.integers(10))]
                width = [1, 2, 4, 8][int(rng.integers(4))]
                order = "little" if rng.random() < 0.5 else "big"
                data[at : at + width] = (number % 256**width).to_bytes(width, order)
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = data[at : at + size]
            case 5:
                data[at : at + size] = bytes(len(data[at : at + size]))
            case 6:
                start = int(rng.integers(0, max(len(other), 1)))
                data[at : at + size] = other[start : start + size]
            case 7:
                del data[int(rng.integers(0, len(data) + 1)) :]
    return bytes(data)


def work(kind: str, seed: int, first: int, end: int, folder: Path, keep: Path) -> None:
    """Reads the files `first` to `end - 1`; prints each one's number when it has been read, or what it found.

    The file under way is `folder / "file"`: it is there still if this process ends of it.
    """
    weights.files.expected_tensors = lambda encoder: TENSORS
    keras_hdf5.probe = lambda path: None
    shown: list[str] = []  # warnings that reach the user: each is a line too many
    warnings.showwarning = lambda message, *_: shown.append(str(message))
    warnings.filterwarnings("always", append=True)
    cli.start_logging()  # as commands do; it silences Pillow's warnings of damage beside the pixels
    sound, read = KINDS[kind]
    originals = sound(folder)
    path = folder / "file"
    for number in range(first, end):
        rng = np.random.default_rng([seed, number])
        one, other = (originals[int(rng.integers(len(originals)))] for _ in range(2))
        path.write_bytes(mutated(one, other, rng))
        faulthandler.dump_traceback_later(LIMIT_SECS, exit=True)
        try:
            read(path)
            assert not shown, f"warnings: {shown}"
            print(number, flush=True)
        except Exception as error:
            shown.clear()
            keep_file(path, keep, kind, seed, number)
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"{number} {text[:300]} (in {where.name}, {where.filename}:{where.lineno})", flush=True)
    faulthandler.cancel_dump_traceback_later()
    print(f"memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}", flush=True)


def is_answered(kind: str, path: Path) -> bool:
    """Returns whether a file that ended a process is answered well, with the precautions that users have."""
    command = [sys.executable, "-m", "tests.helpers.fuzz_readers", kind, "--read", str(path)]
    limit = LIMIT_SECS + keras_hdf5.PROBE_SECS
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, timeout=limit).returncode == 0
    return False


def keep_file(path: Path, keep: Path, kind: str, seed: int, number: int) -> None:
    """Keeps the file of a finding."""
    keep.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, keep / f"{kind}-{seed}-{number}")


def fuzz(kind: str, files: int, seed: int, keep: Path) -> list[str]:
    """Reads damaged files in processes of their own, a new one after each that ended of a file.

    Args:
      kind: "images" or "weights".
      files: how many.
      seed: of the files.
      keep: folder for the files of findings, made for the first.

    Returns:
      A line per finding.
    """
    findings: list[str] = []
    at = caught = peak_mib = 0
    with tempfile.TemporaryDirectory() as folder:
        while at < files:
            command = [sys.executable, "-m", "tests.helpers.fuzz_readers", kind, "--keep", str(keep)]
            command += ["--work", folder, str(seed), str(at), str(files)]
            with (
                tempfile.TemporaryFile("w+") as said,  # libtiff prints what it finds: no pipe must fill up with it
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process,
            ):
                for line in process.stdout:
                    number, _, finding = line.strip().partition(" ")
                    if number == "memory":
                        peak_mib = max(peak_mib, int(finding))
                        continue
                    at = int(number) + 1
                    if finding:
                        findings.append(f"file {number}: {finding}")
                code = process.wait()
                said.seek(0)
                words = " ".join(said.read().split())
            if code:
                file = Path(folder) / "file"
                if file.exists() and is_answered(kind, file):
                    caught += 1
                else:
                    findings.append(f"file {at}: ended the process with code {code}: {words[-1500:]}")
                if not file.exists():
                    break  # it did not even begin
                keep_file(file, keep, kind, seed, at)
                at += 1
    print(
        f"{kind}: {files} files of seed {seed}, {len(findings)} findings, {caught} files at which a library failed and "
        f"the reader did not, at most {peak_mib} MiB of memory"
    )
    return findings


def main() -> int:
    """Parses the command line, fuzzes, prints what was found; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS, help="which readers")
    parser.add_argument("--files", type=int, default=10_000, help="how many damaged files; default: 10000")
    parser.add_argument("--seed", type=int, default=0, help="of the damage; default: 0")
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="folder for files of findings; default: fuzz")
    parser.add_argument("--read", type=Path, help="a file to read, as one that was kept")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        weights.files.expected_tensors = lambda encoder: TENSORS
        KINDS[args.kind][1](args.read)
        return 0
    if args.work:
        folder, seed, first, end = args.work
        work(args.kind, int(seed), int(first), int(end), Path(folder), args.keep)
        return 0
    findings = fuzz(args.kind, args.files, args.seed, args.keep)
    counts = collections.Counter(finding.split(": ", 1)[1] for finding in findings)
    firsts = {finding.split(": ", 1)[1]: finding for finding in reversed(findings)}
    for text, count in counts.most_common():
        print(f"{count} times, first {firsts[text]}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
