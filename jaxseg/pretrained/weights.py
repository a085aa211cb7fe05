"""Weights of a packed model: one `.npz` file, kernels in float16, read without pickle, hash checked."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.errors import RunError, UserError, one_line
from jaxseg.pretrained.place import CARD, WEIGHTS, display_name
from jaxseg.system.files import read_json, replacing

MAX_BYTES = 5_000_000
"""Largest file that is packed: it is part of every installation."""

_MAX_UNPACKED_BYTES = 2**30


def write(folder: Path, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Writes weights: kernels as float16, all else, which is small and has a wider range, as float32.

    Args:
      folder: folder of the packed model.
      variables: "params" and "batch_stats", arrays on the host.

    Returns:
      What `card.json` keeps about the file: name, SHA-256, numbers of parameters and bytes.

    Raises:
      UserError: a kernel does not fit into float16, or the file is larger than `MAX_BYTES`.
    """
    flat = {name: np.asarray(leaf) for name, leaf in flatten_dict(dict(variables), sep="/").items()}
    packed = {name: leaf.astype(np.float16) if leaf.ndim > 1 else leaf for name, leaf in flat.items()}
    if unfit := [name for name, leaf in packed.items() if not np.isfinite(leaf).all()]:
        raise UserError(f"{unfit[0]}: holds values that float16 does not")
    content = io.BytesIO()
    np.savez_compressed(content, **packed)
    if (size := content.tell()) > MAX_BYTES:
        raise UserError(f"{size:,} bytes of weights: a packed model may have {MAX_BYTES:,}; train a smaller network")
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content.getvalue())
    return {
        "file": WEIGHTS,
        "sha256": hashlib.sha256(content.getvalue()).hexdigest(),
        "parameters": sum(leaf.size for name, leaf in flat.items() if name.startswith("params/")),
        "bytes": size,
        "types": "kernels float16, all else float32",
    }


def read(folder: Path, target: Any) -> tuple[Any, int]:
    """Reads the weights of a packed model.

    Args:
      folder: its folder.
      target: `jax.ShapeDtypeStruct`s of "params" and "batch_stats", with shardings.

    Returns:
      The variables, in the target's types and places, and the training step at which they were saved.

    Raises:
      RunError: the file is missing or damaged, or is not the one that `card.json` describes.
      UserError: `card.json` cannot be read.
    """
    card = read_json(folder / CARD)
    remedy = "install jaxseg again, or give another --workdir"
    try:
        content = (folder / WEIGHTS).read_bytes()
        digest, step = card["weights"]["sha256"], int(card["step"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"the model {display_name(folder)} cannot be read ({one_line(error)}); {remedy}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise RunError(f"{folder / WEIGHTS}: SHA-256 is not the one in {CARD}; {remedy}")
    try:
        _check_unpacked_size(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            variables = unflatten_dict(dict(file.items()), sep="/")
        jax.tree.map(_check_shape, target, variables)
    except Exception as error:  # a damaged archive makes zipfile and numpy raise many kinds of errors
        raise RunError(f"{folder / WEIGHTS}: does not hold the weights of its network ({one_line(error)})") from error
    place = jax.tree.map(lambda want, leaf: jax.device_put(leaf.astype(want.dtype), want.sharding), target, variables)
    return place, step


def _check_unpacked_size(content: bytes) -> None:
    """Refuses a small file that would fill the memory."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MAX_UNPACKED_BYTES:
            raise ValueError(f"more than {_MAX_UNPACKED_BYTES:,} bytes in it")


def _check_shape(want: jax.ShapeDtypeStruct, leaf: np.ndarray) -> None:
    if want.shape != leaf.shape:
        raise ValueError(f"shape {leaf.shape} instead of {want.shape}")
