"""Writes weight files in Keras' layouts without Keras; `test_keras_parity.py` has Keras write the same."""

from pathlib import Path

import h5py
import numpy as np

Tensors = dict[str, np.ndarray]
"""Arrays by Keras' names of layer and variable, as `conv1_bn/moving_mean`, in Keras' order."""


def _by_layer(tensors: Tensors) -> dict[str, Tensors]:
    layers = {key.split("/")[0]: {} for key in tensors}
    for key, value in tensors.items():
        layers[key.split("/")[0]][key.split("/")[1]] = value
    return layers


def write_by_name(path: Path, tensors: Tensors, *, scope: str = "", root: str = "") -> Path:
    """Writes the layout of Keras' published files.

    `scope` is added to each layer's inner group, as TensorFlow did; `root` is a group that holds it all.
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

    Early versions did not give layers' names (`named`); `prefix` is where a model in a model has its own.
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
