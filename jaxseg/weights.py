"""Encoder weights: Keras' HDF5 files, the ported `.npz`, and Keras' published ImageNet weights.

Weights are read by layer name into the encoder's own tree. Every tensor must be there, once, with its shape, and
nothing else but Keras' classifier head, which is left out. Nothing is unpickled and nothing outside of the file is
read, so a file from elsewhere can at worst be rejected.

Importing this module starts neither JAX nor the network.
"""

import dataclasses
import functools
import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jaxseg import keras_hdf5
from jaxseg.atomic import replacing
from jaxseg.download import download, md5_of
from jaxseg.errors import UserError
from jaxseg.keras_hdf5 import MAX_TENSORS
from jaxseg.settings import suggestion

log = logging.getLogger(__name__)

Variables = dict[str, dict[str, dict[str, np.ndarray]]]
"""`{"params": {layer: {name: array}}, "batch_stats": ...}`, float32, as an encoder's `init` returns it."""

KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"

PUBLISHED = {
    "fac2f116257151a9d068a22e544a4917": ("resnet50v2", "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    "3ef43a0b657b3be2300d5770ece849e0": ("resnet50v2", "resnet50v2_weights_tf_dim_ordering_tf_kernels.h5"),
    "4d473c1dd8becc155b73f8504c6f6626": ("resnet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    "2cb95161c43110f7111970584f804107": ("resnet50", "resnet50_weights_tf_dim_ordering_tf_kernels.h5"),
}
"""MD5 of each ImageNet file that Keras publishes: encoder and file name (`keras/src/applications/resnet.py`)."""

MAX_UNPACKED_BYTES = 2**30
"""Most that a ported file may unpack to, in memory: ten times an encoder's weights."""

_VARIABLES = {
    "conv": {"kernel": ("params", "kernel"), "bias": ("params", "bias")},
    "bn": {
        "gamma": ("params", "scale"),
        "beta": ("params", "bias"),
        "moving_mean": ("batch_stats", "mean"),
        "moving_variance": ("batch_stats", "var"),
    },
}
"""By the end of a layer's name: Keras' variables in the order in which it numbers them, and where Flax has them."""

_TOP_LAYERS = ("predictions", "probs", "fc1000")
"""Names of the classifier head over the years."""

_ORDER_IN_UNIT = ["conv", "bn", "preact_bn", "1_conv", "1_bn", "2_conv", "2_bn", "0_conv", "3_conv", "0_bn", "3_bn"]
"""Order of `model.layers` in both networks: by depth, so that the shortcut's layers stand beside the third
convolution's. Files without layer names, and Keras' loader of layer-by-name files, go by this order alone."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of an encoder.

    Attributes:
      layer: the layer's name, the same in Keras and Flax.
      variable: the variable's name in Keras, as `moving_mean`.
      collection: where Flax has it, `params` or `batch_stats`.
      name: the variable's name in Flax, as `mean`.
      shape: the same in both.
    """

    layer: str
    variable: str
    collection: str
    name: str
    shape: tuple[int, ...]

    @property
    def keras_key(self) -> str:
        """The tensor's name in a Keras file, as `conv1_bn/moving_mean`."""
        return f"{self.layer}/{self.variable}"

    @property
    def flax_key(self) -> str:
        """The tensor's name in a ported file, as `batch_stats/conv1_bn/mean`."""
        return f"{self.collection}/{self.layer}/{self.name}"

    def of(self, variables: Mapping[str, Any]) -> np.ndarray:
        """Returns this tensor's value among an encoder's variables, float32."""
        return np.asarray(variables[self.collection][self.layer][self.name], np.float32)


def expected_tensors(encoder: str) -> tuple[Tensor, ...]:
    """Returns an encoder's tensors: layers in the order of Keras' `model.layers`, variables as Keras numbers them.

    Args:
      encoder: "resnet50v2" or "resnet50".

    Raises:
      UserError: no such encoder.
    """
    from jaxseg.models.resnet import ENCODERS  # here and not above, so that `--help` and mistakes answer at once

    if encoder not in ENCODERS:
        raise UserError(f"encoder {encoder!r}: must be one of {', '.join(ENCODERS)}{suggestion(encoder, ENCODERS)}")
    return _tensors_of(ENCODERS[encoder])


@functools.cache  # half a second of tracing, and a command asks several times
def _tensors_of(create: Callable[[], Any]) -> tuple[Tensor, ...]:
    import jax

    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    tree = jax.eval_shape(create().init, jax.random.key(0), image)
    return tuple(
        Tensor(layer, variable, collection, name, tree[collection][layer][name].shape)
        for layer in sorted(tree["params"], key=_place)
        for variable, (collection, name) in _VARIABLES[layer.split("_")[-1]].items()
        if name in tree[collection][layer]
    )


def load_keras(path: str | os.PathLike, encoder: str = "resnet50v2") -> Variables:
    """Reads an encoder's weights from a Keras HDF5 file.

    Takes every layout of `jaxseg.keras_hdf5`. A classifier head is left out, and the log says so.

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
            return _collect(keras_hdf5.tensors(file, path, layers), expected, path, encoder)
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        what = "damaged or cut short" if h5py.is_hdf5(path) else "not an HDF5 file"
        raise UserError(f"{path}: {what} ({_first_line(error)})") from error


def load_ported(path: str | os.PathLike, encoder: str = "resnet50v2") -> Variables:
    """Reads an encoder's weights from a file written by `save_ported`; checks and errors as for `load_keras`."""
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
    return _collect(found, expected, path, encoder)


def load_file(path: str | os.PathLike, encoder: str = "resnet50v2") -> Variables:
    """Reads an encoder's weights from a Keras HDF5 file or a ported one, told apart by their first bytes."""
    _check_is_file(Path(path))
    with Path(path).open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    return load_ported(path, encoder) if is_zip else load_keras(path, encoder)


def check(variables: Mapping[str, Any], encoder: str, source: Path) -> Variables:
    """Returns an encoder's variables as float32, after the checks and with the errors of `load_keras`.

    Args:
      variables: "params" and "batch_stats", nested as an encoder's `init` nests them.
      encoder: "resnet50v2" or "resnet50".
      source: where they are from, for messages.
    """
    found = {
        f"{collection}/{layer}/{name}": value
        for collection, layers in variables.items()
        for layer, values in layers.items()
        for name, value in values.items()
    }
    return _collect(found, {t.flax_key: t for t in expected_tensors(encoder)}, source, encoder)


def save_ported(path: str | os.PathLike, variables: Mapping[str, Any], encoder: str) -> None:
    """Writes an encoder's variables as an uncompressed `.npz` with keys as `params/conv1_conv/kernel`.

    The file appears under its name only when it is complete, and replaces one that was there.
    """
    arrays = {t.flax_key: t.of(variables) for t in expected_tensors(encoder)}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def save_keras(path: str | os.PathLike, variables: Mapping[str, Any], encoder: str) -> None:
    """Writes an encoder's variables as a layer-by-name HDF5 file, for Keras' `model.load_weights` without top.

    The file appears under its name only when it is complete, and replaces one that was there.

    Raises:
      UserError: a name from which Keras would not recognise the layout.
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


def load_pretrained(name: str, encoder: str) -> Variables | None:
    """Returns the weights that `--model.pretrained` names.

    Args:
      name: "none"; "imagenet" for Keras' published weights, from Keras' cache or else its public download into that
        cache; otherwise a file for `load_file`.
      encoder: "resnet50v2" or "resnet50".

    Returns:
      The variables, or None for "none".

    Raises:
      UserError: no such file, a file that does not fit, or no network.
    """
    if name == "none":
        return None
    if name != "imagenet" and not Path(name).exists():
        near = suggestion(name, ("imagenet", "none"))
        raise UserError(
            f"model.pretrained = {name!r}: no such file; must be imagenet, none, or a .h5 or .npz file{near}"
        )
    return load_file(_imagenet_file(encoder) if name == "imagenet" else name, encoder)


def published_as(path: str | os.PathLike) -> str | None:
    """Returns the name under which Keras publishes exactly this file, or None if it does not."""
    return PUBLISHED.get(md5_of(path), ("", None))[1]


def _imagenet_file(encoder: str) -> Path:
    """Returns Keras' ImageNet file, from its cache if it is there and whole, else downloaded."""
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    files = {file: md5 for md5, (of, file) in PUBLISHED.items() if of == encoder}
    if not files:
        raise UserError(f"model.pretrained = imagenet: there are no published weights for the encoder {encoder!r}")
    for file, md5 in files.items():
        if (folder / file).is_file():
            if md5_of(folder / file) == md5:
                return folder / file
            log.warning("%s is not the file that Keras publishes (MD5 differs); not used", folder / file)
    file, md5 = next(iter(files.items()))
    url, path = KERAS_URL + file, folder / file
    instead = "or give --model.pretrained FILE or --model.pretrained none"
    download(url, path, md5, f"download {url} elsewhere and put it at {path}, {instead}")
    return path


def _check_unpacked_size(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuses a small file that would fill the memory."""
    members = archive.infolist()
    if len(members) > MAX_TENSORS or sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
        raise UserError(
            f"{path}: not a ported weight file: over {MAX_TENSORS:,} arrays or {MAX_UNPACKED_BYTES:,} bytes in it"
        )


def _check_is_file(path: Path) -> None:
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


def _place(layer: str) -> tuple[str, int]:
    """Sorts layers as Keras' `model.layers`: `conv1`, `conv2_block1`, ..., `post`, and within a unit by a table."""
    unit, rest = re.fullmatch(r"(conv1|conv\d_block\d|post)_(\w+)", layer).groups()
    return unit, _ORDER_IN_UNIT.index(rest)


def _collect(found: Mapping[str, Any], expected: Mapping[str, Tensor], path: Path, encoder: str) -> Variables:
    """Checks the tensors found against those expected, and nests them.

    Args:
      found: arrays or HDF5 datasets by key.
      expected: the encoder's tensors by the same kind of key, in order.
      path: the file, for messages.
      encoder: its name, for messages.

    Raises:
      UserError: names the first tensor that is missing, misshapen, of another type, not finite, or else extra.
    """
    head = [key for key in found if key.split("/")[0] in _TOP_LAYERS]
    if head:
        log.info("%s: left out the classifier head (%s)", path, ", ".join(head))
    variables: Variables = {"params": {}, "batch_stats": {}}
    for key, tensor in expected.items():
        if key not in found:
            raise UserError(f"{path}: not weights of {encoder}: {key} is missing{_likely(found, encoder)}")
        if found[key].shape != tensor.shape:
            shapes = f"{found[key].shape} and should have {tensor.shape}"
            raise UserError(f"{path}: not weights of {encoder}: {key} has shape {shapes}{_likely(found, encoder)}")
        if found[key].dtype.kind != "f":
            raise UserError(f"{path}: {key} holds {found[key].dtype} and should hold floats")
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is what is asked next
            value = np.asarray(found[key], np.float32)
        if not np.isfinite(value).all():
            raise UserError(f"{path}: {key} has values that are not finite")
        if tensor.name == "var" and value.min() < 0:
            raise UserError(f"{path}: {key} has negative values, which a variance has not")
        variables[tensor.collection].setdefault(tensor.layer, {})[tensor.name] = value
    extra = [key for key in found if key not in expected and key not in head]
    if extra:
        raise UserError(f"{path}: not weights of {encoder}: {extra[0]} is not part of it{_likely(found, encoder)}")
    return variables


def _likely(found: Iterable[str], encoder: str) -> str:
    """Returns a hint for the message if the layers found speak for another encoder."""
    layers = {part for key in found for part in key.split("/")}
    for name, layer in (("resnet50v2", "post_bn"), ("resnet50", "conv1_bn")):
        if layer in layers and name != encoder:
            return f"; it looks like weights of {name}: choose that encoder"
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
