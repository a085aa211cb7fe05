"""The tensors of an encoder: their names in Keras and in Flax, and their shapes."""

import dataclasses
import functools
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.errors import UserError, suggestion

log = logging.getLogger(__name__)


Variables = dict[str, dict[str, dict[str, np.ndarray]]]
"""`{"params": {layer: {name: array}}, "batch_stats": ...}`, float32, as an encoder's `init` returns it."""


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
    return collect(found, {t.flax_key: t for t in expected_tensors(encoder)}, source, encoder)


def _place(layer: str) -> tuple[str, int]:
    """Sorts layers as Keras' `model.layers`: `conv1`, `conv2_block1`, ..., `post`, and within a unit by a table."""
    unit, rest = re.fullmatch(r"(conv1|conv\d_block\d|post)_(\w+)", layer).groups()
    return unit, _ORDER_IN_UNIT.index(rest)


def collect(found: Mapping[str, Any], expected: Mapping[str, Tensor], path: Path, encoder: str) -> Variables:
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
