"""What runs the networks of a segmenter: JAX, whose results `evaluate` scores, or a runtime of ONNX graphs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from jaxseg.config import Config
from jaxseg.errors import UserError

if TYPE_CHECKING:
    import numpy as np

JAX, ONNX = "jax", "onnx"

RUNTIMES = (JAX, ONNX)
"""What a model can be loaded for; the first is the default."""


class Runtime(Protocol):
    """The networks of a segmenter, ready to run: the mean of its members, over all symmetries where that is asked for.

    Attributes:
      name: what records call it; `JAX` for JAX.
      fewest: smallest batch; larger ones are multiples of it.
      any_size: whether batches may have any size; otherwise the networks are compiled for each size that occurs.
    """

    name: str
    fewest: int
    any_size: bool

    def start(self, images: "np.ndarray") -> "Callable[[], np.ndarray]":
        """Starts a batch.

        Args:
          images: uint8 [B, S, S, 3], RGB in [0, 255].

        Returns:
          A function that waits for the batch and returns the probabilities of lesion, float32 [B, S, S].
        """


class LoadedModel(NamedTuple):
    """Runs on a runtime.

    Attributes:
      runtime: the runtime, with the best weights of the runs.
      steps: training step of each run's weights.
    """

    runtime: Runtime
    steps: tuple[int, ...]


def load(name: str, workdirs: Sequence[Path], configs: Sequence[Config], *, tta: bool, batch_size: int) -> LoadedModel:
    """Loads the best weights of runs onto a runtime.

    Args:
      name: one of `RUNTIMES`.
      workdirs: the runs' folders.
      configs: the runs' settings.
      tta: whether each network averages over the symmetries of the square.
      batch_size: images that will go through the networks at once.

    Raises:
      UserError: there is no such runtime, its packages are not installed, or a run has no checkpoint yet.
    """
    # Not imported at the top: a kept ONNX graph runs without JAX, whose import takes longer than one image.
    if name == JAX:
        from jaxseg.inference import jax_runtime

        return jax_runtime.load(workdirs, configs, tta=tta, batch_size=batch_size)
    if name == ONNX:
        from jaxseg.inference import onnx_runtime

        return onnx_runtime.load(workdirs, configs, tta=tta)
    raise UserError(f"runtime {name!r}: there are {' and '.join(RUNTIMES)}")
