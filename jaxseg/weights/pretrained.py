"""What `model.pretrained` means: Keras' published weights, a file, or none."""

import logging
import os
from pathlib import Path

from jaxseg.errors import UserError, suggestion
from jaxseg.weights.download import download, md5_of
from jaxseg.weights.files import load_file
from jaxseg.weights.published import PUBLISHED
from jaxseg.weights.tensors import Variables

log = logging.getLogger(__name__)


KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"


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


def _imagenet_file(encoder: str) -> Path:
    """Returns Keras' ImageNet file, from its cache if it is there and whole, else downloaded."""
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    files = {file: md5 for md5, (owner, file) in PUBLISHED.items() if owner == encoder}
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
