"""The side of ONNX Runtime and of OpenVINO in `benchmarks.peer`: both run jaxseg's exported file, in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.workers.contest import answering, take_part
from experiments.shared.origin import JSON, versions
from jaxseg.system.machine import cores
from jaxseg.system.telemetry import import_openvino


def _onnxruntime(path: str, shape: tuple[int, ...]) -> Callable[[np.ndarray], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.add_free_dimension_override_by_name("batch", shape[0])
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def _openvino(path: str, shape: tuple[int, ...]) -> Callable[[np.ndarray], Any]:
    core = import_openvino().Core()
    model = core.read_model(path)
    model.reshape(list(shape))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": cores(),
        "ENABLE_HYPER_THREADING": True,
        "INFERENCE_PRECISION_HINT": "f32",  # some CPUs would compute in bfloat16
    }
    compiled = core.compile_model(model, "CPU", settings)
    return lambda images: compiled([images])[0]


RUNTIMES = {"onnxruntime": _onnxruntime, "openvino": _openvino}
"""Functions that load a file for images of one shape, by the name of the package."""


class Runtime:
    """A session and its batch of bytes.

    Args:
      step: "predict"; the runtimes do not train.
      encoder: name of the encoder, which the file holds.
      dtype: "float32".
      batch_size: images of a step.
      image_size: side of the images, pixels.
      runtime: a key of `RUNTIMES`.
      onnx_file: the exported network.
    """

    def __init__(
        self, step: str, encoder: str, dtype: str, batch_size: int, image_size: int, runtime: str, onnx_file: str
    ):
        shape = (batch_size, image_size, image_size, 3)
        self._runtime = runtime
        self._images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        self._run = RUNTIMES[runtime](onnx_file, shape)

    def run(self, count: int) -> None:
        """Takes steps and waits for the last."""
        for _ in range(count):
            self._run(self._images)

    def facts(self) -> JSON:
        """Returns versions and how it runs; parameters and FLOPs are those of the exported network."""
        return {
            "parameters": None,
            "flops": None,
            "versions": versions((self._runtime,)),
            "how": f"jaxseg's ONNX file, batch norm folded, {cores()} threads",
            "peak_device_bytes": None,
        }


if __name__ == "__main__":
    take_part(__doc__, answering(Runtime))
