"""Encoders, decoders and the segmentation networks made of them."""

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.config import ModelConfig
from jaxseg.models.resnet import ENCODERS
from jaxseg.models.unet import ResNetUNet, UNet


def create_model(config: ModelConfig, *, axis_name: str | None = None) -> nn.Module:
    """Builds the configured segmentation network.

    Args:
      config: encoder, widths, dropout, batch-norm momenta, colour constancy, compute type.
      axis_name: mapped axis over which training averages batch statistics; None for a network outside of `jax.pmap`.

    Returns:
      A module with `init(key, images, train=False)` and `apply(variables, images, train=False)`. It maps RGB images
      [B, H, W, 3] in [0, 255] to float32 logits [B, H, W, 1].
    """
    dtype = jnp.dtype(config.dtype)
    if config.encoder == "none":
        return UNet(
            channels=config.unet_channels,
            dropout=config.dropout,
            bn_momentum=config.decoder_bn_momentum,
            colour_constancy=config.colour_constancy,
            dtype=dtype,
            axis_name=axis_name,
        )
    create_encoder = ENCODERS[config.encoder]
    return ResNetUNet(
        encoder=create_encoder(dtype=dtype, bn_momentum=config.encoder_bn_momentum, axis_name=axis_name),
        decoder_channels=config.decoder_channels,
        dropout=config.dropout,
        bn_momentum=config.decoder_bn_momentum,
        colour_constancy=config.colour_constancy,
        dtype=dtype,
        axis_name=axis_name,
    )
