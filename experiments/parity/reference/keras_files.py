"""Writes weight files in Keras' layouts without Keras; `test_keras_parity.py` has Keras write the same layouts."""

from pathlib import Path

import h5py
import numpy as np

Tensors = dict[str, np.ndarray]
"""Arrays by Keras' names of layer and variable, `conv1_bn/moving_mean` for example, in Keras' order."""


def _by_layer(tensors: Tensors) -> dict[str, Tensors]:
    layers = {key.split("/")[0]: {} for key in tensors}
    for key, value in tensors.items():
        layers[key.split("/")[0]][key.split("/")[1]] = value
    return layers


def write_by_name(path: Path, tensors: Tensors, *, scope: str = "", root: str = "") -> Path:
    """Writes the layout of Keras' published files.

    Args:
      path: HDF5 file.
      tensors: arrays of the network.
      scope: text after the name of each layer's inner group, as TensorFlow writes it.
      root: group around all layers; empty: none.
    """
    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        layers = _by_layer(tensors)
        group.attrs["layer_names"] = np.array([b"input_1", *(name.encode() for name in layers)])
        group.create_group("input_1").attrs["weight_names"] = np.array([], "S1")
        for layer, values in layers.items():
            names = [f"{layer}{scope}/{variable}:0" for variable in values]
            group.create_group(layer).attrs["weight_names"] = np.array([n.encode() for n in names])
            for name, value in zip(names, values.values(), strict=True):
                group[layer][name] = value
    return path


def write_numbered(path: Path, tensors: Tensors, *, named: bool = True, prefix: str = "") -> Path:
    """Writes the layout of Keras 3's `save_weights`, as Keras 3.15.1 does.

    Args:
      path: HDF5 file.
      tensors: arrays of the network.
      named: whether layers have their names; early versions wrote none.
      prefix: group of the network, if it is a model within a model.
    """
    counts = {}
    with h5py.File(path, "w") as file:
        file.create_group(f"{prefix}layers/input_layer/vars")
        for layer, values in _by_layer(tensors).items():
            kind = {"conv": "conv2d", "bn": "batch_normalization"}.get(layer.split("_")[-1], "dense")
            count = counts[kind] = counts.get(kind, -1) + 1
            group = file.create_group(f"{prefix}layers/{kind}{f'_{count}' if count else ''}/vars")
            if named:
                group.attrs["name"] = layer
            for number, value in enumerate(values.values()):
                group[str(number)] = value
    return path
