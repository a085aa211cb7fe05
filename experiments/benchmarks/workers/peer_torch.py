"""The peer's side of `benchmarks.peer`: segmentation_models_pytorch's U-Net, in a process without JAX.

Loss (focal, equation 2), batch, size and optimiser are those of jaxseg; channels_last; compiled on a GPU. It takes a
batch of floats that stays on the device. Its step has no augmentation, no dropout and no confusion counts.
"""

import sys
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

from experiments.benchmarks.measuring import peak_memory, seconds_of
from experiments.benchmarks.worker import serve

_GPU = torch.cuda.is_available()
_DEVICE = torch.device("cuda" if _GPU else "cpu")


class Peer:
    """Model, optimiser and batch in one precision.

    Args:
      dtype: "float32" (on a GPU TensorFloat-32) or "bfloat16" (autocast).
      batch_size: images of a step.
      image_size: side of the images, pixels.
    """

    def __init__(self, dtype: str, batch_size: int, image_size: int):
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        self._bfloat16 = dtype == "bfloat16"
        model = smp.Unet("resnet50", encoder_weights=None, classes=1).to(_DEVICE, memory_format=torch.channels_last)
        self._optimizer = torch.optim.Adam(model.parameters(), 1e-4, eps=1e-7, fused=_GPU)
        self._model = torch.compile(model) if _GPU else model
        images = torch.rand(batch_size, 3, image_size, image_size, device=_DEVICE)
        self._images = images.to(memory_format=torch.channels_last)
        self._masks = (torch.rand(batch_size, 1, image_size, image_size, device=_DEVICE) > 0.7).float()

    def run(self, what: str, count: int) -> None:
        """Takes steps and waits for the last.

        Args:
          what: "train" or "predict".
          count: number of steps.
        """
        self._model.train(what == "train")
        for _ in range(count):
            self._train() if what == "train" else self._predict()
        if _GPU:
            torch.cuda.synchronize()

    def _logits(self) -> torch.Tensor:
        with torch.autocast(_DEVICE.type, torch.bfloat16, enabled=self._bfloat16):
            return self._model(self._images)

    def _train(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        entropy = functional.binary_cross_entropy_with_logits(self._logits().float(), self._masks, reduction="none")
        (0.8 * (1 - torch.exp(-entropy)) ** 2 * entropy).mean().backward()
        self._optimizer.step()

    def _predict(self) -> None:
        with torch.inference_mode():
            torch.sigmoid(self._logits().float())


_peers: list[Peer] = []


def answer(what: str, **arguments: Any) -> dict[str, Any]:
    """Measures for `benchmarks.peer`.

    Args:
      what: "versions", "prepare", "memory", "train" or "predict".
      arguments: arguments of the measurement.
    """
    if what == "prepare":
        _peers[:] = [Peer(**arguments)]
        for step in ("train", "predict"):
            _peers[0].run(step, 2)
        return {}
    if what == "versions":
        kind = torch.cuda.get_device_name() if _GPU else "cpu"
        return {"torch": torch.__version__, "segmentation_models_pytorch": smp.__version__, "device": kind}
    if what == "memory":
        device = torch.cuda.max_memory_allocated() if _GPU else None
        return {"peak_process_bytes": peak_memory(), "peak_device_bytes": device}
    return {"seconds": seconds_of(_peers[0].run, what, arguments["count"]) / arguments["count"]}


if __name__ == "__main__":
    if sys.argv[1:] != ["--worker"]:
        sys.exit(f"{__doc__}\nIt is started by experiments.benchmarks.peer.")
    serve(answer)
