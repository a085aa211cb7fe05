"""The contestants of `benchmarks.peer`: which worker each runs, what it needs, and whom jaxseg is measured against."""

import dataclasses
import subprocess
from collections.abc import Mapping
from typing import Any

WHAT = {"train": "train step", "predict": "inference"}
"""Titles of the steps that are measured."""

ENCODERS = ("resnet50v2", "resnet50")

OURS = "jaxseg"


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A network in one framework, run in one way.

    Attributes:
      title: name in tables.
      worker: module of `experiments.benchmarks.workers` that runs it.
      needs: packages that its interpreter must have.
      options: arguments of the worker besides step and shape.
      env: environment variables of its process.
      steps: steps that it can take.
      encoders: encoders that it has.
      float32_on_cpu: whether it is measured in float32 on a CPU only.
    """

    title: str
    worker: str
    needs: tuple[str, ...]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    steps: tuple[str, ...] = tuple(WHAT)
    encoders: tuple[str, ...] = ENCODERS
    float32_on_cpu: bool = False

    @property
    def module(self) -> str:
        """The worker's dotted name."""
        return f"experiments.benchmarks.workers.{self.worker}"

    def takes_part(self, step: str, encoder: str, dtype: str, platform: str) -> bool:
        """Returns whether the contestant can be measured.

        Args:
          step: "train" or "predict".
          encoder: name of the encoder.
          dtype: compute type.
          platform: JAX's name of the device.
        """
        suits = (dtype, platform) == ("float32", "cpu") or not self.float32_on_cpu
        return step in self.steps and encoder in self.encoders and suits

    def missing(self, python: str) -> list[str]:
        """Returns the packages that an interpreter lacks.

        Args:
          python: the interpreter.
        """
        code = "import importlib.util as u, sys; print(*(p for p in sys.argv[1:] if not u.find_spec(p)))"
        done = subprocess.run([python, "-c", code, *self.needs], capture_output=True, text=True, check=True)
        return done.stdout.split()


_JAX_SHARE = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.25"}  # several processes share a GPU's memory
_SMP = "segmentation_models_pytorch"


def _torch(how: str) -> Contestant:
    return Contestant(f"PyTorch, {how}", "peer_torch", ("torch",), {"compiled": how == "compiled", "network": "jaxseg"})


def _smp(how: str) -> Contestant:
    needs, options = ("torch", _SMP), {"compiled": how == "compiled", "network": "smp"}
    return Contestant(f"{_SMP}, {how}", "peer_torch", needs, options, encoders=("resnet50",))


CONTESTANTS = {
    OURS: Contestant("jaxseg", "peer_jaxseg", ("jax",), env=_JAX_SHARE),
    "torch": _torch("eager"),
    "torch-compiled": _torch("compiled"),
    "smp": _smp("eager"),
    "smp-compiled": _smp("compiled"),
    "keras-jax": Contestant("Keras on JAX", "peer_keras", ("keras", "jax"), env={"KERAS_BACKEND": "jax", **_JAX_SHARE}),
    "keras-torch": Contestant("Keras on PyTorch", "peer_keras", ("keras", "torch"), env={"KERAS_BACKEND": "torch"}),
    "onnxruntime": Contestant(
        "ONNX Runtime",
        "peer_onnx",
        ("onnxruntime",),
        {"runtime": "onnxruntime"},
        steps=("predict",),
        float32_on_cpu=True,
    ),
    "openvino": Contestant(
        "OpenVINO", "peer_onnx", ("openvino",), {"runtime": "openvino"}, steps=("predict",), float32_on_cpu=True
    ),
}
"""Contestants by their names on the command line. All have jaxseg's network, except segmentation_models_pytorch."""


@dataclasses.dataclass(frozen=True)
class Rivals:
    """Contestants whose best jaxseg is compared with.

    Attributes:
      title: name in tables.
      members: names of the contestants.
      aims: the ratio that is aimed at, by encoder; none for an encoder that is not named.
    """

    title: str
    members: tuple[str, ...]
    aims: Mapping[str, float] = dataclasses.field(default_factory=dict)


_KERAS, _OWN = ("keras-jax", "keras-torch"), ("smp", "smp-compiled")
RIVALS = {
    "train": (
        Rivals("PyTorch", ("torch", "torch-compiled"), {"resnet50v2": 1.2, "resnet50": 1.1}),
        Rivals("Keras", _KERAS, dict.fromkeys(ENCODERS, 1.3)),
        Rivals(_SMP, _OWN),
    ),
    "predict": (
        Rivals(
            "PyTorch, ONNX Runtime, OpenVINO",
            ("torch", "torch-compiled", "onnxruntime", "openvino"),
            dict.fromkeys(ENCODERS, 1.0),
        ),
        Rivals("Keras", _KERAS),
        Rivals(_SMP, _OWN),
    ),
}
"""Groups of rivals by step."""
