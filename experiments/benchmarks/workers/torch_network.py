"""jaxseg's ResNet-U-Net in PyTorch, layer for layer: the peer's fastest form of the same network.

Layers, paddings and taps are those of `jaxseg.models`; `tests/experiments/test_peer.py` copies weights over and
compares the logits. Dropout is left out. Only the padding of the first max pooling differs, by minus infinity instead
of zero, because PyTorch's own is faster; behind a ReLU both are the same.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


def _conv(inputs: int, outputs: int, side: int = 1, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=bias)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1.001e-5, momentum=0.01)


class PreactivationUnit(nn.Module):
    """A unit of ResNet50V2.

    Args:
      inputs: channels of the input.
      width: channels of the bottleneck.
      stride: stride of the 3x3 convolution and of the shortcut, pixels.
      project: whether the shortcut is a 1x1 convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int, project: bool):
        super().__init__()
        self.stride = stride
        self.preact_bn = _norm(inputs)
        self.conv0 = _conv(inputs, 4 * width) if project else None
        self.conv1, self.bn1 = _conv(inputs, width, bias=False), _norm(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride, bias=False), _norm(width)
        self.conv3 = _conv(width, 4 * width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps [B, C, H, W] to the unit's output and the activated bottleneck before the 3x3 convolution.

        Args:
          x: output of the unit before.
        """
        preact = functional.relu(self.preact_bn(x))
        shortcut = self.conv0(preact) if self.conv0 else x[:, :, :: self.stride, :: self.stride]
        inner = functional.relu(self.bn1(self.conv1(preact)))
        x = functional.relu(self.bn2(self.conv2(inner)))
        return shortcut + self.conv3(x), inner


class PostactivationUnit(nn.Module):
    """A unit of ResNet50 (v1), with Keras' stride in the first convolution.

    Args:
      inputs: channels of the input.
      width: channels of the bottleneck.
      stride: stride of the first convolution and of the projection, pixels.
      project: whether the shortcut is a normalised 1x1 convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int, project: bool):
        super().__init__()
        self.conv0, self.bn0 = (_conv(inputs, 4 * width, 1, stride), _norm(4 * width)) if project else (None, None)
        self.conv1, self.bn1 = _conv(inputs, width, 1, stride), _norm(width)
        self.conv2, self.bn2 = _conv(width, width, 3), _norm(width)
        self.conv3, self.bn3 = _conv(width, 4 * width), _norm(4 * width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps [B, C, H, W] to the unit's output, which is its tap, too.

        Args:
          x: output of the unit before.
        """
        shortcut = self.bn0(self.conv0(x)) if self.conv0 else x
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        x = functional.relu(shortcut + self.bn3(self.conv3(x)))
        return x, x


class Encoder(nn.Module):
    """ResNet50V2 or ResNet50.

    Attributes:
      channels: channels of the taps, finest first.

    Args:
      name: "resnet50v2" or "resnet50".
      blocks: number of units in each of the four stages.
    """

    def __init__(self, name: str, blocks: Sequence[int] = (3, 4, 6, 3)):
        super().__init__()
        self.v2 = name == "resnet50v2"
        self.blocks = blocks
        self.conv1_conv = _conv(3, 64, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        inputs = 64
        for stage, units in enumerate(blocks, start=2):
            width = 64 * 2 ** (stage - 2)
            for unit in range(1, units + 1):
                project = unit == 1
                if self.v2:
                    made = PreactivationUnit(inputs, width, 2 if unit == units and stage < 5 else 1, project)
                else:
                    made = PostactivationUnit(inputs, width, 2 if project and stage > 2 else 1, project)
                self.add_module(f"conv{stage}_block{unit}", made)
                inputs = 4 * width
        if self.v2:
            self.post_bn, self.channels = _norm(2048), (64, 64, 128, 256, 2048)
        else:
            self.conv1_bn, self.channels = _norm(64), (64, 256, 512, 1024, 2048)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Returns the taps of images [B, 3, H, W], finest first.

        Args:
          x: images as the encoder takes them.
        """
        x = self.conv1_conv(x)
        if not self.v2:
            x = functional.relu(self.conv1_bn(x))
        taps = [x]
        x = self.pool(x)
        for stage, units in enumerate(self.blocks, start=2):
            for unit in range(1, units + 1):
                x, tap = self.get_submodule(f"conv{stage}_block{unit}")(x)
            taps.append(tap)
        if self.v2:
            taps[-1] = functional.relu(self.post_bn(x))
        return taps


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU.

    Args:
      inputs: channels of the input.
      features: channels of the output.
    """

    def __init__(self, inputs: int, features: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, features, 3, bias=False), nn.BatchNorm2d(features, eps=1e-3)
        self.conv2, self.bn2 = _conv(features, features, 3, bias=False), nn.BatchNorm2d(features, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, features, H, W].

        Args:
          x: upsampled map and skip, concatenated.
        """
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)))


class ResNetUNet(nn.Module):
    """The whole network: images as the encoder takes them [B, 3, H, W] to logits [B, 1, H, W].

    Args:
      encoder: "resnet50v2" or "resnet50".
      decoder_channels: channels of the five stages, deepest first.
    """

    def __init__(self, encoder: str, decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)):
        super().__init__()
        self.encoder = Encoder(encoder)
        *skips, inputs = self.encoder.channels
        for i, features in enumerate(decoder_channels, start=1):
            stage = nn.Module()
            stage.up = nn.ConvTranspose2d(inputs, features, 2, stride=2)
            stage.block = ConvBlock(features + (skips.pop() if skips else 0), features)
            self.add_module(f"decoder{i}", stage)
            inputs = features
        self.stages = len(decoder_channels)
        self.head = nn.Module()
        self.head.conv = _conv(inputs, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits.

        Args:
          images: images as the encoder takes them.
        """
        *skips, x = self.encoder(images)
        for i in range(1, self.stages + 1):
            stage = self.get_submodule(f"decoder{i}")
            x = stage.up(x)
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
            x = stage.block(x)
        return self.head.conv(x)
