"""Encoder weights: Keras' HDF5 files, the ported `.npz`, and Keras' published ImageNet weights.

Weights are read by layer name into the encoder's own tree. Every tensor must be there, once, with its shape, and
nothing else except Keras' classifier head, which is left out. Nothing is unpickled and nothing outside the file is
read, so a file from elsewhere can at worst be rejected.

Importing this module starts neither JAX nor the network.
"""

import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jaxseg.errors import UserError
from jaxseg.system.files import replacing
from jaxseg.weights import keras_hdf5
from jaxseg.weights.keras_hdf5 import MAX_TENSORS
from jaxseg.weights.published import published_as
from jaxseg.weights.tensors import Tensor, Variables, collect, expected_tensors

log = logging.getLogger(__name__)


MAX_UNPACKED_BYTES = 2**30
"""Most that a ported file may unpack to, in memory: ten times an encoder's weights."""


def load_keras(path: str | os.PathLike, encoder: str = "resnet50v2") -> Variables:
    """Reads an encoder's weights from a Keras HDF5 file.

    Takes every layout of `jaxseg.weights.keras_hdf5`. A classifier head is left out, and the log says so.

    Args:
      path: the file.
      encoder: "resnet50v2" or "resnet50".

    Returns:
      The variables, float32, nested as `ENCODERS[encoder]().init` nests them. float16 and float64 files are converted.

    Raises:
      UserError: the file cannot be read, or a tensor is missing, extra, misshapen, not of a float type or not finite;
        names the tensor.
    """
    path = Path(path)
    _check_is_file(path)
    expected = {t.keras_key: t for t in expected_tensors(encoder)}
    layers: dict[str, list[str]] = {}
    for tensor in expected.values():
        layers.setdefault(tensor.layer, []).append(tensor.variable)
    if published_as(path) is None:
        keras_hdf5.probe(path)
    try:
        with h5py.File(path, "r") as file:
            return collect(keras_hdf5.tensors(file, path, layers), expected, path, encoder)
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        what = "damaged or cut short" if h5py.is_hdf5(path) else "not an HDF5 file"
        raise UserError(f"{path}: {what} ({_first_line(error)})") from error


def load_ported(path: str | os.PathLike, encoder: str = "resnet50v2") -> Variables:
    """Reads an encoder's weights from a file written by `save_ported`.

    Args:
      path: the file.
      encoder: "resnet50v2" or "resnet50".

    Returns:
      The variables, float32, nested as `ENCODERS[encoder]().init` nests them.

    Raises:
      UserError: the file cannot be read, or a tensor is missing, extra, misshapen, not of a float type or not finite.
    """
    path = Path(path)
    _check_is_file(path)
    expected = {t.flax_key: t for t in expected_tensors(encoder)}
    try:
        # Opened here, because numpy leaves its own file open when it turns out to be no archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            _check_unpacked_size(file.zip, path)
            found = {key: np.asarray(value) for key, value in file.items()}  # what is no array is given as bytes
    except UserError:
        raise
    except Exception as error:  # a damaged file makes numpy raise half a dozen kinds, TokenError among them
        raise UserError(f"{path}: damaged, or not a ported weight file ({_first_line(error)})") from error
    return collect(found, expected, path, encoder)


def load_file(path: str | os.PathLike, encoder: str = "resnet50v2") -> Variables:
    """Reads an encoder's weights from a Keras HDF5 file or a ported file, told apart by their first bytes.

    Args:
      path: the file.
      encoder: "resnet50v2" or "resnet50".

    Returns:
      The variables, float32, nested as `ENCODERS[encoder]().init` nests them.

    Raises:
      UserError: the file cannot be read, or its tensors are not exactly those of the encoder.
    """
    _check_is_file(Path(path))
    with Path(path).open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    return load_ported(path, encoder) if is_zip else load_keras(path, encoder)


def save_ported(path: str | os.PathLike, variables: Mapping[str, Any], encoder: str) -> None:
    """Writes an encoder's variables as an uncompressed `.npz` with keys such as `params/conv1_conv/kernel`.

    The file appears under its name only when it is complete, and replaces an existing one.

    Args:
      path: the file to write.
      variables: the encoder's variables, nested as `ENCODERS[encoder]().init` nests them.
      encoder: "resnet50v2" or "resnet50".

    Raises:
      OSError: the file cannot be written.
    """
    arrays = {t.flax_key: t.of(variables) for t in expected_tensors(encoder)}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def save_keras(path: str | os.PathLike, variables: Mapping[str, Any], encoder: str) -> None:
    """Writes an encoder's variables as a layer-by-name HDF5 file, for Keras' `model.load_weights` without top.

    The file appears under its name only when it is complete, and replaces an existing one.

    Args:
      path: the file to write, NAME.h5 or NAME.hdf5.
      variables: the encoder's variables, nested as `ENCODERS[encoder]().init` nests them.
      encoder: "resnet50v2" or "resnet50".

    Raises:
      UserError: the name does not tell Keras the layout.
      OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".h5", ".hdf5") or path.name.endswith(".weights.h5"):
        raise UserError(f"{path}: Keras takes this layout only from NAME.h5 that is not NAME.weights.h5")
    layers: dict[str, list[Tensor]] = {}
    for tensor in expected_tensors(encoder):
        layers.setdefault(tensor.layer, []).append(tensor)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name in layers])
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for name, tensors in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([f"{t.keras_key}:0".encode() for t in tensors])
            for t in tensors:
                group[f"{t.keras_key}:0"] = t.of(variables)


def _check_unpacked_size(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuses a small file that would fill the memory."""
    members = archive.infolist()
    if len(members) > MAX_TENSORS or sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
        raise UserError(
            f"{path}: not a ported weight file: over {MAX_TENSORS:,} arrays or {MAX_UNPACKED_BYTES:,} bytes in it"
        )


def _check_is_file(path: Path) -> None:
    if path.is_dir() and (path / "config.json").exists():
        raise UserError(
            f"{path}: is the folder of a run; --init-from {path} starts with all of its weights; for its encoder "
            f"alone, put that into a file: python -m jaxseg.port_weights --source {path} --output encoder.npz"
        )
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a weight file")
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a Keras .h5 or a ported .npz file")
    if path.suffix == ".keras":
        raise UserError(
            f"{path}: .keras archives are not taken; in Keras, "
            "keras.models.load_model(FILE).save_weights('NAME.weights.h5'), and give that file"
        )
    if not path.stat().st_size:
        raise UserError(f"{path}: the file is empty")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
