"""PyTorch's side of `benchmarks.peer`, in a process without JAX.

It has jaxseg's network, or segmentation_models_pytorch's own U-Net; eager or compiled; in channels_last, with Adam as
one kernel. The loss (focal, equation 2) is jaxseg's. The batch of floats stays on the device. The step has no
augmentation, no dropout and no confusion counts.
"""

import contextlib

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks.workers.contest import answering, take_part
from experiments.shared.origin import JSON, versions
from jaxseg.system.machine import cores

_GPU = torch.cuda.is_available()
_DEVICE = torch.device("cuda" if _GPU else "cpu")


class Peer:
    """Model, optimiser and batch.

    Args:
      step: "train" or "predict".
      encoder: name of the encoder.
      dtype: "float32" (on a GPU TensorFloat-32) or "bfloat16" (autocast).
      batch_size: images of a step.
      image_size: side of the images, pixels.
      compiled: whether `torch.compile` compiles the network with its loss; for inference with frozen weights.
      network: "jaxseg", or "smp" for segmentation_models_pytorch's own.
    """

    def __init__(
        self, step: str, encoder: str, dtype: str, batch_size: int, image_size: int, compiled: bool, network: str
    ):
        torch.set_num_threads(cores())
        torch.set_float32_matmul_precision("high" if _GPU else "highest")
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        self._train, self._bfloat16, self._compiled = step == "train", dtype == "bfloat16", compiled
        self._packages = ("torch",)
        model = self._network(encoder, network).to(_DEVICE, memory_format=torch.channels_last)
        self._model = model.train(self._train)
        self._optimizer = torch.optim.Adam(model.parameters(), 1e-4, eps=1e-7, fused=True)
        images = torch.rand(batch_size, 3, image_size, image_size, device=_DEVICE)
        self._images = images.to(memory_format=torch.channels_last)
        self._masks = (torch.rand(batch_size, 1, image_size, image_size, device=_DEVICE) > 0.7).float()
        self._pass = self._loss if self._train else self._probability
        # Frozen weights need no_grad; it is the stricter mode that saves more work where nothing is compiled.
        self._mode = contextlib.nullcontext if self._train else torch.no_grad if compiled else torch.inference_mode
        if compiled:
            torch._inductor.config.freezing = not self._train
            self._pass = torch.compile(self._pass)

    def run(self, count: int) -> None:
        """Takes steps and waits for the last."""
        for _ in range(count):
            if self._train:
                self._optimizer.zero_grad(set_to_none=True)
            with self._mode():
                result = self._pass()
            if self._train:
                result.backward()
                self._optimizer.step()
        if _GPU:
            torch.cuda.synchronize()

    def facts(self) -> JSON:
        """Returns parameters, FLOPs, versions and how it runs."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self._logits()
        how = "compiled" + ("" if self._train else ", frozen weights") if self._compiled else "eager"
        return {
            "parameters": sum(p.numel() for p in self._model.parameters()),
            "flops": counter.get_total_flops(),
            "versions": versions(self._packages),
            "how": f"channels_last, {how}, " + ("one GPU" if _GPU else f"{torch.get_num_threads()} threads"),
            "peak_device_bytes": torch.cuda.max_memory_allocated() if _GPU else None,
        }

    def _network(self, encoder: str, network: str) -> torch.nn.Module:
        if network == "smp":
            import segmentation_models_pytorch as smp

            self._packages += ("segmentation_models_pytorch",)
            return smp.Unet(encoder, encoder_weights=None, classes=1)
        from experiments.benchmarks.workers.torch_network import ResNetUNet

        return ResNetUNet(encoder)

    def _logits(self) -> torch.Tensor:
        with torch.autocast(_DEVICE.type, torch.bfloat16, enabled=self._bfloat16):
            return self._model(self._images).float()

    def _loss(self) -> torch.Tensor:
        entropy = functional.binary_cross_entropy_with_logits(self._logits(), self._masks, reduction="none")
        return (0.8 * (1 - torch.exp(-entropy)) ** 2 * entropy).mean()

    def _probability(self) -> torch.Tensor:
        return torch.sigmoid(self._logits())


if __name__ == "__main__":
    take_part(__doc__, answering(Peer))
