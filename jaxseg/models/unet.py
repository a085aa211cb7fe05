"""The segmentation networks: the ResNet-U-Net of the paper and the plain U-Net, its baseline.

Both take RGB images in [0, 255] and return one logit per pixel. Height and width must be multiples of 32, or for the
plain U-Net of 2 to the number of scales minus 1.

The paper's figures are lost, so this is chosen. Skips start at Keras' `conv1_conv`, `conv2_block3_1_relu`,
`conv3_block4_1_relu` and `conv4_block6_1_relu`, the last tensor at each scale; the bottom is `post_relu`. The decoder
has five stages of 256, 128, 64, 32 and 16 channels: a 2x2 transposed convolution, the skip, two 3x3 convolutions with
batch norm and ReLU, and dropout between them; a 1x1 head in float32 follows. The plain U-Net pads to keep the size and
has batch norm, so that it trains from scratch on 160 images.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.colour import shades_of_gray
from jaxseg.models.layers import BatchNorm, Conv, Dropout, PointwiseConv, UpConv
from jaxseg.models.ops import max_pool_2x2


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU, with dropout between them.

    Attributes:
      features: output channels.
      dropout: share of values dropped between the convolutions.
      bn_momentum: share of the old running statistics kept per step.
      dtype: compute type.
      axis_name: mapped axis over which batch statistics are averaged, or None.
    """

    features: int
    dropout: float
    bn_momentum: float
    dtype: jnp.dtype
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, features]."""
        for i in (1, 2):
            # No bias: the batch norm that follows would subtract it.
            x = Conv(self.features, use_bias=False, dtype=self.dtype, name=f"conv{i}")(x)
            x = BatchNorm(self.bn_momentum, dtype=self.dtype, axis_name=self.axis_name, name=f"bn{i}")(x, train=train)
            x = nn.relu(x)
            if i == 1:
                x = Dropout(self.dropout, axis_name=self.axis_name)(x, train=train)
        return x


class DecoderStage(nn.Module):
    """Doubles the size by a transposed convolution, concatenates the skip if there is one, and convolves twice.

    Attributes:
      features: output channels.
      dropout: share of values dropped between the convolutions.
      bn_momentum: share of the old running statistics kept per step.
      dtype: compute type.
      axis_name: mapped axis over which batch statistics are averaged, or None.
    """

    features: int
    dropout: float
    bn_momentum: float
    dtype: jnp.dtype
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array | None, *, train: bool) -> jax.Array:
        """Decodes one scale.

        Args:
          x: [B, H, W, C], the map of the next deeper scale.
          skip: [B, 2 H, 2 W, S], the encoder's map of this scale, or None.
          train: use batch statistics and drop values.

        Returns:
          `dtype` [B, 2 H, 2 W, features].
        """
        x = UpConv(self.features, dtype=self.dtype, name="up")(x)
        if skip is not None:
            x = jnp.concatenate([x, skip], axis=-1)
        block = ConvBlock(self.features, self.dropout, self.bn_momentum, self.dtype, self.axis_name, name="block")
        return block(x, train=train)


class Head(nn.Module):
    """1x1 convolution to one logit per pixel, in float32: the tails of the sigmoid need the precision."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to float32 [B, H, W, 1]."""
        return PointwiseConv(1, name="conv")(x)


class ResNetUNet(nn.Module):
    """U-Net decoder on a ResNet encoder (paper, 3.3.2, Fig. 5).

    Skips are the last map at each scale; the fifth stage, at full size, has none. The encoder's parameters are under
    "encoder", with Keras' layer names.

    Attributes:
      encoder: an encoder of `jaxseg.models.resnet`; its `preprocess` converts RGB in [0, 255] to its input.
      decoder_channels: channels of the five stages, deepest first.
      dropout: share of values dropped in every decoder stage.
      bn_momentum: share of the old running statistics kept per step in the decoder.
      colour_constancy: "none", or "shades_of_gray": correct the colours of every image first.
      dtype: compute type of the decoder; logits are float32.
      axis_name: mapped axis over which batch statistics are averaged in training, or None.
    """

    encoder: nn.Module
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)
    dropout: float = 0.3
    bn_momentum: float = 0.9
    colour_constancy: str = "none"
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Segments images.

        Args:
          images: uint8 or float [B, H, W, 3], RGB in [0, 255]; H and W multiples of 32.
          train: use batch statistics and drop values (needs the "dropout" key and mutable "batch_stats").

        Returns:
          float32 [B, H, W, 1], logits; above 0 is lesion.

        Raises:
          ValueError: H or W is not a multiple of 32, or the images are not [B, H, W, 3].
        """
        check_size(images.shape, 32)
        images = _constant_colours(images, self.colour_constancy)
        features = self.encoder(self.encoder.preprocess(images), train=train)
        *skips, x = (features[name] for name in self.encoder.taps)
        return _decode(self, x, skips, self.decoder_channels, train=train)


class UNet(nn.Module):
    """The plain U-Net (Ronneberger et al. 2015), the paper's baseline (4.5).

    It differs from the 2015 network in two ways: convolutions are padded, so that the mask has the image's size, and
    there is batch norm, without which the network trains poorly from scratch on 160 images.

    Attributes:
      channels: channels per scale, finest first.
      dropout: share of values dropped between the two convolutions of every decoder block.
      bn_momentum: share of the old running statistics kept per step.
      colour_constancy: "none", or "shades_of_gray": correct the colours of every image first.
      dtype: compute type; logits are float32.
      axis_name: mapped axis over which batch statistics are averaged in training, or None.
    """

    channels: Sequence[int] = (64, 128, 256, 512, 1024)
    dropout: float = 0.3
    bn_momentum: float = 0.9
    colour_constancy: str = "none"
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Segments images.

        Args:
          images: uint8 or float [B, H, W, 3], RGB in [0, 255]; H and W multiples of 2 to the number of scales minus 1.
          train: use batch statistics and drop values (needs the "dropout" key and mutable "batch_stats").

        Returns:
          float32 [B, H, W, 1], logits; above 0 is lesion.

        Raises:
          ValueError: H or W is not such a multiple, or the images are not [B, H, W, 3].
        """
        check_size(images.shape, 2 ** (len(self.channels) - 1))
        images = _constant_colours(images, self.colour_constancy)
        x = (images.astype(jnp.float32) / 127.5 - 1.0).astype(self.dtype)
        skips = []
        for i, channels in enumerate(self.channels):
            if i:
                skips.append(x)
                x = max_pool_2x2(x)
            block = ConvBlock(channels, 0.0, self.bn_momentum, self.dtype, self.axis_name, name=f"encoder{i + 1}")
            x = block(x, train=train)
        return _decode(self, x, skips, self.channels[-2::-1], train=train)


def _constant_colours(images: jax.Array, method: str) -> jax.Array:
    """Returns RGB images [B, H, W, 3] in [0, 255] unchanged, or float32 without colour casts."""
    return shades_of_gray(images) if method == "shades_of_gray" else images


def _decode(
    network: ResNetUNet | UNet, x: jax.Array, skips: Sequence[jax.Array], channels: Sequence[int], *, train: bool
) -> jax.Array:
    """Applies the decoder stages of a network, deepest first, and its head; called within the network's `__call__`.

    Args:
      network: the network whose settings the stages take and whose submodules they become.
      x: [B, H, W, C], the deepest map.
      skips: maps to concatenate, finest first; stages beyond them have no skip.
      channels: channels of each stage, deepest first.
      train: use batch statistics and drop values.

    Returns:
      float32 [B, H 2^stages, W 2^stages, 1], logits.
    """
    skips = list(skips)
    for i, features in enumerate(channels, start=1):
        stage = DecoderStage(
            features, network.dropout, network.bn_momentum, network.dtype, network.axis_name, name=f"decoder{i}"
        )
        x = stage(x, skips.pop() if skips else None, train=train)
    return Head(name="head")(x)


def check_size(shape: Sequence[int], multiple: int) -> None:
    """Checks that a network can halve the size of images repeatedly and double it back.

    Args:
      shape: shape of the images.
      multiple: number of which height and width must be multiples, pixels.

    Raises:
      ValueError: the shape is not [B, H, W, 3], or H or W is not a multiple; the message names the size to pad to.
    """
    if len(shape) != 4 or shape[-1] != 3:
        raise ValueError(f"images of shape {tuple(shape)}: must be [B, H, W, 3], RGB")
    height, width = shape[1:3]
    if height % multiple or width % multiple:
        padded = [-(-side // multiple) * multiple for side in (height, width)]
        raise ValueError(
            f"images of {height} x {width} pixels: both sides must be multiples of {multiple}; "
            f"pad or resize to {padded[0]} x {padded[1]}"
        )
