"""The segmentation networks: the ResNet-U-Net of the paper and the plain U-Net it is compared with.

Both take RGB in [0, 255] at any size that is a multiple of 32 (the plain U-Net: of its own factor) and return one
logit per pixel. Where the paper's figures are lost, `README.md` says what was chosen.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.colour import shades_of_gray
from jaxseg.models.layers import BatchNorm, Conv, Dropout, PointwiseConv, UpConv


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU, dropout between them.

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
    """Doubles the size by a transposed convolution, joins the skip where there is one, convolves twice.

    Attributes: as of `ConvBlock`.
    """

    features: int
    dropout: float
    bn_momentum: float
    dtype: jnp.dtype
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array | None, *, train: bool) -> jax.Array:
        """Maps [B, H, W, C] and a skip of [B, 2H, 2W, S] to [B, 2H, 2W, features]."""
        x = UpConv(self.features, dtype=self.dtype, name="up")(x)
        if skip is not None:
            x = jnp.concatenate([x, skip], axis=-1)
        block = ConvBlock(self.features, self.dropout, self.bn_momentum, self.dtype, self.axis_name, name="block")
        return block(x, train=train)


class Head(nn.Module):
    """1x1 convolution to one logit per pixel, in float32: a sigmoid's tail needs the precision."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to float32 [B, H, W, 1]."""
        return PointwiseConv(1, name="conv")(x)


class ResNetUNet(nn.Module):
    """U-Net decoder on a ResNet encoder (paper, 3.3.2, Fig. 5).

    Skips come from the last map at each scale; the fifth stage, at full size, has none. The encoder's parameters are
    under "encoder", with Keras' layer names.

    Attributes:
      encoder: the encoder of `jaxseg.models.resnet`; it knows its taps and how RGB in [0, 255] becomes its input.
      decoder_channels: channels of the five stages, deepest first.
      dropout: share of values dropped in every decoder stage.
      bn_momentum: share of the old running statistics kept per step in the decoder.
      colour_constancy: "none", or "shades_of_gray": each image is corrected by itself before all else.
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
          ValueError: H or W is not a multiple of 32.
        """
        check_size(images.shape, 32)
        images = _constant_colours(images, self.colour_constancy)
        features = self.encoder(self.encoder.preprocess(images), train=train)
        *skips, x = (features[name] for name in self.encoder.taps)
        return _decode(self, x, skips, self.decoder_channels, train=train)


class UNet(nn.Module):
    """The plain U-Net (Ronneberger et al. 2015), the paper's baseline (4.5).

    Same-padded convolutions, so that the mask has the image's size, and batch norm, without which it trains poorly from
    scratch on 160 images; both differ from the 2015 network.

    Attributes:
      channels: channels per scale, finest first.
      dropout: share of values dropped between a block's two convolutions in the decoder, as in `ResNetUNet`.
      bn_momentum: share of the old running statistics kept per step.
      colour_constancy: as in `ResNetUNet`.
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
        """Segments images; as `ResNetUNet`, with H and W multiples of 2 to the number of scales minus 1."""
        check_size(images.shape, 2 ** (len(self.channels) - 1))
        images = _constant_colours(images, self.colour_constancy)
        x = (images.astype(jnp.float32) / 127.5 - 1.0).astype(self.dtype)
        skips = []
        for i, channels in enumerate(self.channels):
            if i:
                skips.append(x)
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            block = ConvBlock(channels, 0.0, self.bn_momentum, self.dtype, self.axis_name, name=f"encoder{i + 1}")
            x = block(x, train=train)
        return _decode(self, x, skips, self.channels[-2::-1], train=train)


def _constant_colours(images: jax.Array, method: str) -> jax.Array:
    """Returns RGB images [B, H, W, 3] in [0, 255] as they are, or float32 with their colour casts taken away."""
    return shades_of_gray(images) if method == "shades_of_gray" else images


def _decode(
    network: ResNetUNet | UNet, x: jax.Array, skips: Sequence[jax.Array], channels: Sequence[int], *, train: bool
) -> jax.Array:
    """Applies a network's decoder stages, deepest first, and its head; called within its `__call__`.

    Args:
      network: whose settings the stages take and whose submodules they become.
      x: the deepest map, [B, H, W, C].
      skips: maps to join, finest first; stages beyond them have none.
      channels: of each stage.
      train: as for the network.

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
    """Raises ValueError if images [B, H, W, 3] are not of a size that the network can halve and double back."""
    if len(shape) != 4 or shape[-1] != 3:
        raise ValueError(f"images of shape {tuple(shape)}: must be [B, H, W, 3], RGB")
    height, width = shape[1:3]
    if height % multiple or width % multiple:
        padded = [-(-side // multiple) * multiple for side in (height, width)]
        raise ValueError(
            f"images of {height} x {width} pixels: both sides must be multiples of {multiple}; "
            f"pad or resize to {padded[0]} x {padded[1]}"
        )
