"""The layouts in which Keras writes weights to HDF5, read as one flat list of named tensors.

By name: `LAYER/.../VARIABLE:0`, in the files that Keras publishes, from Keras 2's `save_weights("x.h5")`, and below
`model_weights` from `save("x.h5")`.

Numbered: `layers/GROUP/vars/NUMBER`, from Keras 3's `save_weights("x.weights.h5")`. A group is named after its layer's
class and a running number (`conv2d_3`). The layer's own name is the attribute `name` of `vars`, or, in files of early
versions, nowhere: then layers count in the order of `model.layers`.
"""

import itertools
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py

from jaxseg.errors import UserError

PROBE_SECS = 60.0
"""Longest time that the HDF5 library may take to get through a file."""

Layers = Mapping[str, list[str]]
"""The layers looked for, in the order of Keras' `model.layers`, each with its variables as Keras numbers them."""

MAX_TENSORS = 10_000
"""Most groups and tensors that are looked at: thirty times what an encoder has. Groups may hold one another, so that a
small file has more paths than can ever be walked."""

_MAX_CHUNK_BYTES = 2**28
"""Largest piece that is decompressed at once; the largest tensor has 9 MB."""

_Groups = dict[str, dict[str, h5py.Dataset]]
"""Tensors by their number, by the group or layer that holds them."""


def probe(path: Path) -> None:
    """Makes sure that the HDF5 library gets through a file, in a process of its own.

    Damage can make the library crash, or loop for ever where not even Ctrl-C reaches it
    (`tests/helpers/fuzz_readers.py` finds such files). Exceptions are left to the caller's own reading.

    Raises:
      UserError: it crashed, or did not end within `PROBE_SECS`.
    """
    program = "import sys; from jaxseg.weights import keras_hdf5; keras_hdf5.read_all(sys.argv[1])"
    try:
        code = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, timeout=PROBE_SECS
        ).returncode
    except subprocess.TimeoutExpired:
        code = -1
    if code < 0:
        raise UserError(f"{path}: so damaged that the HDF5 library crashes or hangs; fetch it again")


def read_all(path: str) -> None:
    """Reads what `tensors` and its callers do of any file, and drops it."""
    with h5py.File(path, "r") as file:
        for _, dataset in _datasets(file, Path(path), itertools.count()):
            dataset.parent.attrs.get("name")
            if dataset.size * dataset.dtype.itemsize < _MAX_CHUNK_BYTES:
                dataset[()]


def tensors(file: h5py.File, path: Path, layers: Layers) -> dict[str, h5py.Dataset]:
    """Lists the tensors of a weight file.

    Args:
      file: the open file, of any layout.
      path: its name, for messages.
      layers: what is looked for. Of a numbered file of a model in a model, the part that has most of them is read.

    Returns:
      Datasets by `LAYER/VARIABLE`, as `conv1_bn/moving_mean`, also those not looked for; the latter's variables keep
      their numbers in a numbered file.

    Raises:
      UserError: neither layout, a tensor twice, or a link or storage that leads out of the file.
    """
    root = file if "layer_names" in file.attrs else file.get("model_weights", file)
    if not isinstance(root, h5py.Group):
        raise UserError(f"{path}: not a Keras weight file: model_weights is not a group")
    read = _by_name(root, path) if "layer_names" in root.attrs else _numbered(root, path, layers)
    found: dict[str, h5py.Dataset] = {}
    for key, dataset in read:
        if key in found:
            raise UserError(f"{path}: tensor {key} is there twice")
        found[key] = dataset
    return found


def _by_name(root: h5py.Group, path: Path) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yields the tensors of a by-name file; in between may be a scope, as in `conv1_conv/conv1_conv_1/kernel:0`."""
    for where, dataset in _datasets(root, path, itertools.count()):
        layer, *_, variable = where.split("/")
        yield f"{layer}/{variable.removesuffix(':0')}", dataset


def _numbered(root: h5py.Group, path: Path, layers: Layers) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yields the tensors of a numbered file, or of the model in its model that has most of the layers looked for."""
    models: dict[str, _Groups] = {}
    for where, dataset in _datasets(root, path, itertools.count()):
        parts = where.split("/")
        if len(parts) < 3 or parts[-2] != "vars":
            raise UserError(f"{path}: not a Keras weight file: {where} belongs to neither of Keras' layouts")
        models.setdefault("/".join(parts[:-3]), {}).setdefault(parts[-3], {})[parts[-1]] = dataset
    candidates = [_with_layer_names(groups, layers) for groups in models.values()]
    best = max(candidates, key=lambda named: len(named.keys() & layers.keys()), default={})
    for layer, variables in best.items():
        names = dict(enumerate(layers.get(layer, [])))
        for number, dataset in variables.items():
            yield f"{layer}/{names.get(int(number) if number.isdigit() else -1, number)}", dataset


def _with_layer_names(groups: _Groups, layers: Layers) -> _Groups:
    """Replaces the names of groups by those of their layers."""
    named = {str(next(iter(v.values())).parent.attrs.get("name", group)): v for group, v in groups.items()}
    if named.keys() & layers.keys():
        return named
    names = {"dense": "predictions"}  # the classifier head
    for end, prefix in (("conv", "conv2d"), ("bn", "batch_normalization")):
        # Shorter first puts conv2d before conv2d_1, and conv2d_9 before conv2d_10.
        numbered = sorted((g for g in groups if re.fullmatch(rf"{prefix}(_\d+)?", g)), key=lambda g: (len(g), g))
        names |= dict(zip(numbered, (layer for layer in layers if layer.endswith(end)), strict=False))
    return {names.get(group, group): variables for group, variables in groups.items()}


def _datasets(
    group: h5py.Group, path: Path, counter: Iterator[int], prefix: str = ""
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yields every dataset below a group with its path; refuses whatever leads out of the file, in a circle or too far.

    Args:
      group: what to look through.
      path: the file, for messages.
      counter: counts what has been looked at.
      prefix: the group's own path, with a slash at its end.
    """
    for name in group:
        where = f"{prefix}{name}"
        if next(counter) >= MAX_TENSORS:
            raise UserError(f"{path}: not a Keras weight file: it holds more than {MAX_TENSORS:,} groups and tensors")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink) or where.count("/") > 12:
            raise UserError(f"{path}: {where} is a link to somewhere else, which a weight file may not have")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, path, counter, f"{where}/")
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise UserError(f"{path}: {where} keeps its values in another file, which a weight file may not")
            if item.chunks and math.prod(item.chunks) * item.dtype.itemsize > _MAX_CHUNK_BYTES:
                raise UserError(f"{path}: {where} is stored in pieces larger than any tensor of an encoder")
            yield where, item
