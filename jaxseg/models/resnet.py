"""The encoders ResNet50V2 and ResNet50, with the layers and the layer names of Keras.

The reference is `keras/src/applications/resnet.py` (both networks) with `resnet_v2.py`; a comment beside every unusual
choice names the function there. Modules have Keras' layer names and lie directly under the encoder, so that
`jaxseg.weights` copies weights by name. An encoder takes the same input as in Keras; `preprocess` converts RGB in
[0, 255] to it.

Stages at strides 4, 8, 16 and 32 consist of bottleneck units: 1x1 down to `w` channels, 3x3, 1x1 up to `4 w`, with `w`
doubling per stage from 64. Images may have any size; a tap at stride s has ceil(size / s) pixels per side.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseg.models.layers import BatchNorm, Conv, PointwiseConv, subsample
from jaxseg.models.ops import max_pool

EPSILON = 1.001e-5
"""Epsilon of every batch normalisation in resnet.py; Keras' default is 1e-3."""

Layers = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]
"""Constructors of 1x1 convolution and padded convolution, both called with `name`, and the function `norm(x, name)`."""


class _Encoder(nn.Module):
    """Base of the two encoders: their settings and the constructors of their layers.

    Attributes:
      dtype: compute type; parameters and batch statistics are float32.
      bn_momentum: share of the old running statistics kept per step.
      axis_name: mapped axis over which the batch is spread, or None.
      blocks: number of units in each of the four stages, at least 2.
      width: channels of the stem and of the first stage's bottlenecks.
    """

    dtype: Any = jnp.float32
    bn_momentum: float = 0.99
    axis_name: str | None = None
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    width: int = 64

    def layers(self, train: bool) -> Layers:
        """Returns the constructors of the layers with this encoder's settings bound."""
        pointwise = functools.partial(PointwiseConv, dtype=self.dtype)
        conv = functools.partial(Conv, dtype=self.dtype)

        def norm(x: jax.Array, name: str) -> jax.Array:
            settings = {"momentum": self.bn_momentum, "epsilon": EPSILON, "dtype": self.dtype}
            return BatchNorm(**settings, axis_name=self.axis_name, name=name)(x, train=train)

        return pointwise, conv, norm


class ResNet50V2(_Encoder):
    """ResNet50V2: normalisation and ReLU come before each convolution (He et al. 2016b); 23,564,800 parameters.

    Input: float [B, H, W, 3], RGB in [-1, 1].

    | Tap | Stride | Channels |
    | --- | --- | --- |
    | `conv1_conv` | 2 | 64 |
    | `conv2_block3_1_relu` | 4 | 64 |
    | `conv3_block4_1_relu` | 8 | 128 |
    | `conv4_block6_1_relu` | 16 | 256 |
    | `post_relu` | 32 | 2048 |

    The three middle taps lie inside the unit that halves the size, before the halving: they are the last tensors at
    their stride. They are bottlenecks and therefore have few channels. `conv1_conv` is signed, the others are not.

    Attributes:
      dtype: compute type; parameters and batch statistics are float32.
      bn_momentum: share of the old running statistics kept per step.
      axis_name: mapped axis over which the batch is spread, or None.
      blocks: number of units in each of the four stages, at least 2.
      width: channels of the stem and of the first stage's bottlenecks.
    """

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the returned features, finest first."""
        inner = (f"conv{stage}_block{units}_1_relu" for stage, units in enumerate(self.blocks[:3], start=2))
        return ("conv1_conv", *inner, "post_relu")

    @staticmethod
    def preprocess(images: jax.Array) -> jax.Array:
        """Maps RGB [B, H, W, 3] in [0, 255] of any dtype to float32 in [-1, 1] (`preprocess_input`, mode "tf")."""
        return images.astype(jnp.float32) / 127.5 - 1.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
        """Computes the features of images.

        Args:
          images: float [B, H, W, 3], RGB in [-1, 1], from `preprocess`.
          train: normalise by batch statistics and update the running ones (needs mutable "batch_stats").

        Returns:
          The taps by name, each `dtype` [B, ceil(H / stride), ceil(W / stride), channels].
        """
        layers = _, conv, norm = self.layers(train)
        features = {}
        x = features["conv1_conv"] = conv(self.width, kernel_size=7, stride=2, name="conv1_conv")(images)
        x = max_pool(x)
        for stage, units in enumerate(self.blocks, start=2):
            stride = 1 if stage == 5 else 2  # resnet_v2.py: the last stage keeps its size, the three before halve it
            for unit in range(1, units + 1):
                x, inner = _preactivation_unit(
                    x,
                    self.width * 2 ** (stage - 2),
                    stride=stride if unit == units else 1,  # stack_residual_blocks_v2: in the LAST unit
                    project=unit == 1,
                    name=f"conv{stage}_block{unit}",
                    layers=layers,
                )
            features[f"conv{stage}_block{units}_1_relu"] = inner
        features["post_relu"] = nn.relu(norm(x, "post_bn"))
        return {name: features[name] for name in self.taps}


def _preactivation_unit(
    x: jax.Array, width: int, *, stride: int, project: bool, name: str, layers: Layers
) -> tuple[jax.Array, jax.Array]:
    """Applies one unit of ResNet50V2 (`residual_block_v2`).

    Args:
      x: [B, H, W, C].
      width: channels of the bottleneck.
      stride: stride of the 3x3 convolution and of the shortcut, pixels.
      project: whether the shortcut is a 1x1 convolution; otherwise it is `x`, subsampled.
      name: prefix of the layers' names.
      layers: constructors of the layers, from `_Encoder.layers`.

    Returns:
      The unit's output [B, ceil(H / stride), ceil(W / stride), 4 width], and its `_1_relu` [B, H, W, width].
    """
    pointwise, conv, norm = layers
    preact = nn.relu(norm(x, f"{name}_preact_bn"))
    # The projection takes the activated input, the identity the raw input (a 1x1 max pooling in Keras).
    shortcut = pointwise(4 * width, name=f"{name}_0_conv")(preact) if project else subsample(x, stride)
    x = pointwise(width, use_bias=False, name=f"{name}_1_conv")(preact)
    inner = nn.relu(norm(x, f"{name}_1_bn"))
    x = conv(width, stride=stride, use_bias=False, name=f"{name}_2_conv")(inner)
    x = nn.relu(norm(x, f"{name}_2_bn"))
    return shortcut + pointwise(4 * width, name=f"{name}_3_conv")(x), inner


class ResNet50(_Encoder):
    """ResNet50 (v1): normalisation and ReLU come after each convolution (He et al. 2016a); 23,587,712 parameters.

    Input: float [B, H, W, 3], BGR minus the ImageNet mean, about [-124, 152].

    | Tap | Stride | Channels |
    | --- | --- | --- |
    | `conv1_relu` | 2 | 64 |
    | `conv2_block3_out` | 4 | 256 |
    | `conv3_block4_out` | 8 | 512 |
    | `conv4_block6_out` | 16 | 1024 |
    | `conv5_block3_out` | 32 | 2048 |

    Attributes:
      dtype: compute type; parameters and batch statistics are float32.
      bn_momentum: share of the old running statistics kept per step.
      axis_name: mapped axis over which the batch is spread, or None.
      blocks: number of units in each of the four stages, at least 2.
      width: channels of the stem and of the first stage's bottlenecks.
    """

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the returned features, finest first."""
        return ("conv1_relu", *(f"conv{stage}_block{units}_out" for stage, units in enumerate(self.blocks, start=2)))

    @staticmethod
    def preprocess(images: jax.Array) -> jax.Array:
        """Maps RGB [B, H, W, 3] in [0, 255] to float32 BGR minus the ImageNet mean (`preprocess_input`, "caffe")."""
        return images.astype(jnp.float32)[..., ::-1] - jnp.array([103.939, 116.779, 123.68], jnp.float32)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
        """Computes the features of images.

        Args:
          images: float [B, H, W, 3], BGR minus the ImageNet mean, from `preprocess`.
          train: normalise by batch statistics and update the running ones (needs mutable "batch_stats").

        Returns:
          The taps by name, each `dtype` [B, ceil(H / stride), ceil(W / stride), channels].
        """
        layers = _, conv, norm = self.layers(train)
        features = {}
        x = conv(self.width, kernel_size=7, stride=2, name="conv1_conv")(images)
        x = features["conv1_relu"] = nn.relu(norm(x, "conv1_bn"))
        x = max_pool(x)
        for stage, units in enumerate(self.blocks, start=2):
            for unit in range(1, units + 1):
                x = _postactivation_unit(
                    x,
                    self.width * 2 ** (stage - 2),
                    stride=2 if unit == 1 and stage > 2 else 1,  # stack_residual_blocks_v1: in the FIRST unit
                    project=unit == 1,
                    name=f"conv{stage}_block{unit}",
                    layers=layers,
                )
            features[f"conv{stage}_block{units}_out"] = x
        return features


def _postactivation_unit(
    x: jax.Array, width: int, *, stride: int, project: bool, name: str, layers: Layers
) -> jax.Array:
    """Applies one unit of ResNet50 (`residual_block_v1`).

    Args:
      x: [B, H, W, C].
      width: channels of the bottleneck.
      stride: stride of the first 1x1 convolution and of the projection, pixels; later ResNets have it in the 3x3.
      project: whether the shortcut is a normalised 1x1 convolution; otherwise it is `x`, and stride must be 1.
      name: prefix of the layers' names.
      layers: constructors of the layers, from `_Encoder.layers`.

    Returns:
      The unit's output [B, ceil(H / stride), ceil(W / stride), 4 width].
    """
    pointwise, conv, norm = layers
    shortcut = x
    if project:
        shortcut = norm(pointwise(4 * width, stride=stride, name=f"{name}_0_conv")(x), f"{name}_0_bn")
    x = nn.relu(norm(pointwise(width, stride=stride, name=f"{name}_1_conv")(x), f"{name}_1_bn"))
    x = nn.relu(norm(conv(width, name=f"{name}_2_conv")(x), f"{name}_2_bn"))
    x = norm(pointwise(4 * width, name=f"{name}_3_conv")(x), f"{name}_3_bn")
    return nn.relu(shortcut + x)


ENCODERS: dict[str, type[_Encoder]] = {"resnet50v2": ResNet50V2, "resnet50": ResNet50}
"""Encoders by the name that `--model.encoder` takes."""

_TINY = {"blocks": (2, 2, 2, 2), "width": 8}
_ResNet50V2Tiny = functools.partial(ResNet50V2, **_TINY)
_ResNet50Tiny = functools.partial(ResNet50, **_TINY)
