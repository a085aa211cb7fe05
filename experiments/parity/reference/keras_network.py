"""jaxseg's network and loss written in Keras, for any backend. Needs Keras."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

TAPS = {
    "resnet50v2": ("conv1_conv", "conv2_block3_1_relu", "conv3_block4_1_relu", "conv4_block6_1_relu", "post_relu"),
    "resnet50": ("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
}
"""Keras' layers whose outputs the decoder takes, finest first, by encoder."""

ENCODERS = {"resnet50v2": keras.applications.ResNet50V2, "resnet50": keras.applications.ResNet50}
"""Keras' functions that make the encoders."""

IMAGENET_MEAN = np.array([103.939, 116.779, 123.68], np.float32)
"""Mean of ImageNet in BGR, which ResNet50's input lacks."""


def unet(encoder: str, size: int, decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)) -> keras.Model:
    """Returns the network of `jaxseg/models/unet.py` without dropout: Keras' encoder and the decoder on its taps.

    Args:
      encoder: name of the encoder.
      size: side of the images, pixels.
      decoder_channels: channels of the five stages, deepest first.

    Returns:
      A model of images [B, size, size, 3], RGB in [0, 255], to logits [B, size, size, 1].
    """
    layers = keras.layers
    images = keras.Input((size, size, 3))
    if encoder == "resnet50v2":
        scaled = layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    else:
        scaled = keras.ops.flip(images, axis=-1) - IMAGENET_MEAN
    network = ENCODERS[encoder](include_top=False, weights=None, input_tensor=scaled)
    *skips, bottom = TAPS[encoder]
    x = network.get_layer(bottom).output
    for stage, channels in enumerate(decoder_channels, start=1):
        x = layers.Conv2DTranspose(channels, 2, strides=2, name=f"decoder{stage}-up")(x)
        if skips:
            x = layers.Concatenate()([x, network.get_layer(skips.pop()).output])
        for i in (1, 2):
            name = f"decoder{stage}-block-{{}}{i}"
            x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=name.format("conv"))(x)
            x = layers.BatchNormalization(momentum=0.9, name=name.format("bn"))(x)
            x = layers.ReLU()(x)
    return keras.Model(images, layers.Conv2D(1, 1, name="head-conv")(x))


def equation_2(masks: Any, logits: Any, alpha: float = 0.8, gamma: float = 2.0) -> Any:
    """The paper's loss as printed, per pixel; Keras takes the mean.

    Args:
      masks: truth {0, 1}.
      logits: logits of lesion.
      alpha: factor of all pixels; the paper's by default.
      gamma: exponent of the focus; the paper's by default.
    """
    bce = keras.ops.binary_crossentropy(masks, logits, from_logits=True)
    return alpha * (1 - keras.ops.exp(-bce)) ** gamma * bce
