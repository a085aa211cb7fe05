"""jaxseg's side of `benchmarks.peer`: its bare steps, and its network as an ONNX file for the runtimes of others."""

from pathlib import Path

import jax

from experiments.benchmarks.workers import bare_step
from experiments.benchmarks.workers.contest import answering, take_part
from experiments.shared.origin import JSON, versions
from jaxseg.config import Config
from jaxseg.steps import create_train_state, predict_step
from jaxseg.system.machine import cores


class Ours:
    """jaxseg's bare step, on as many devices as `jaxseg.train` takes on a CPU, or on one accelerator.

    Args:
      step: "train" or "predict".
      encoder: name of the encoder.
      dtype: compute type.
      batch_size: images of a step.
      image_size: side of the images, pixels.
    """

    def __init__(self, step: str, encoder: str, dtype: str, batch_size: int, image_size: int):
        self._step = step
        self._bare = bare_step.Bare(
            {
                "model.encoder": encoder,
                "model.dtype": dtype,
                "train.batch_size": batch_size,
                "data.image_size": image_size,
                "train.devices": 0 if jax.default_backend() == "cpu" else 1,
            }
        )

    def run(self, count: int) -> None:
        """Takes steps and waits for the last."""
        self._bare.run(self._step, count)

    def facts(self) -> JSON:
        """Returns parameters, FLOPs, versions and how it runs."""
        devices = f"{self._bare.devices} device{'s' if self._bare.devices > 1 else ''}"
        stats = jax.local_devices()[0].memory_stats() or {}
        return {
            "parameters": self._bare.parameters,
            "flops": self._bare.cost("predict")["flops"],
            "versions": versions(("jax", "jaxlib", "flax")),
            "how": f"{devices} on {cores()} cores" if jax.default_backend() == "cpu" else devices,
            "peak_device_bytes": stats.get("peak_bytes_in_use"),
        }


def export(encoder: str, image_size: int, path: str) -> JSON:
    """Writes the network with random weights as ONNX, by the translation of `jaxseg.export --format onnx`.

    Args:
      encoder: name of the encoder.
      image_size: side of the images, pixels.
      path: file to write.

    Returns:
      Nothing to tell: an empty answer.
    """
    from jaxseg.inference.onnx_translation import to_onnx
    from jaxseg.models import create_model

    config = Config().updated({"model.encoder": encoder, "data.image_size": image_size, "model.pretrained": "none"})
    variables = jax.device_get(create_train_state(jax.random.key(0), config).variables)
    model = create_model(config.model)
    written = to_onnx(
        lambda images: predict_step(variables, images, model=model)[..., 0],
        (image_size, image_size, 3),
        name="jaxseg",
    )
    Path(path).write_bytes(written.SerializeToString())
    return {}


if __name__ == "__main__":
    take_part(__doc__, answering(Ours, device=bare_step.device, export=export))
