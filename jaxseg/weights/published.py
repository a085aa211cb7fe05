"""The ImageNet weight files that Keras publishes, by MD5."""

import logging
import os

from jaxseg.weights.download import md5_of

log = logging.getLogger(__name__)


PUBLISHED = {
    "fac2f116257151a9d068a22e544a4917": ("resnet50v2", "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    "3ef43a0b657b3be2300d5770ece849e0": ("resnet50v2", "resnet50v2_weights_tf_dim_ordering_tf_kernels.h5"),
    "4d473c1dd8becc155b73f8504c6f6626": ("resnet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    "2cb95161c43110f7111970584f804107": ("resnet50", "resnet50_weights_tf_dim_ordering_tf_kernels.h5"),
}
"""MD5 of each ImageNet file that Keras publishes: encoder and file name (`keras/src/applications/resnet.py`)."""


def published_as(path: str | os.PathLike) -> str | None:
    """Returns the name under which Keras publishes exactly this file, or None if it does not."""
    return PUBLISHED.get(md5_of(path), ("", None))[1]
