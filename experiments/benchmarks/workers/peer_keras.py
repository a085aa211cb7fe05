"""Keras' side of `benchmarks.peer`: the paper's stack, on the backend that `KERAS_BACKEND` names.

The network and the loss are those with which jaxseg's parity is measured. `train_on_batch` and `predict_on_batch` take
steps, as Keras compiles them by default. The step has no augmentation, no dropout and no confusion counts.
"""

import keras
import numpy as np

from experiments.benchmarks.workers.contest import answering, take_part
from experiments.parity.reference import keras_network
from experiments.shared.origin import JSON, versions
from jaxseg.system.machine import cores

if keras.backend.backend() == "torch":
    import torch

    torch.set_num_threads(cores())


class Peer:
    """Model and batch.

    Args:
      step: "train" or "predict".
      encoder: name of the encoder.
      dtype: "float32" or "bfloat16" (mixed).
      batch_size: images of a step.
      image_size: side of the images, pixels.
    """

    def __init__(self, step: str, encoder: str, dtype: str, batch_size: int, image_size: int):
        keras.config.set_dtype_policy("mixed_bfloat16" if dtype == "bfloat16" else dtype)
        keras.utils.set_random_seed(0)
        self._train = step == "train"
        self._model = keras_network.unet(encoder, image_size)
        self._model.compile(optimizer=keras.optimizers.Adam(1e-4), loss=keras_network.equation_2)
        rng = np.random.default_rng(0)
        self._images = rng.uniform(0, 255, (batch_size, image_size, image_size, 3)).astype(np.float32)
        self._masks = (rng.random((batch_size, image_size, image_size, 1)) > 0.7).astype(np.float32)

    def run(self, count: int) -> None:
        """Takes steps and waits for the last: each returns its loss, or its maps, to the host."""
        for _ in range(count):
            if self._train:
                self._model.train_on_batch(self._images, self._masks)
            else:
                self._model.predict_on_batch(self._images)

    def facts(self) -> JSON:
        """Returns parameters, versions and how it runs; Keras counts no FLOPs."""
        backend = keras.backend.backend()
        compiled = "compiled" if self._model.jit_compile else "eager"
        return {
            "parameters": sum(int(np.prod(w.shape)) for w in self._model.trainable_weights),
            "flops": None,
            "versions": versions(("keras", backend)),
            "how": f"{keras.config.image_data_format()}, {compiled}, {cores()} threads",
            "peak_device_bytes": None,
        }


if __name__ == "__main__":
    take_part(__doc__, answering(Peer))
