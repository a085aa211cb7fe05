"""Random changes of training images and masks, on the device, from `jax.random` keys."""

from jaxseg.augment.compose import augment

__all__ = ["augment"]
