"""Augmentation of one example in order: image and mask move together, the same on any number of devices."""

import chex
import jax
import numpy as np
import pytest

from jaxseg.augment import augment
from jaxseg.config import AugmentConfig

ONLY = {
    "rotation": {"rotation": 30.0},
    "shear": {"shear": 10.0},
    "zoom": {"zoom_min": 0.8, "zoom_max": 1.2},
    "flip_horizontal": {"flip_horizontal": True},
    "flip_vertical": {"flip_vertical": True},
    "translation": {"translation": 0.2},
}
NOTHING = {
    "rotation": 0.0, "shear": 0.0, "zoom_min": 1.0, "zoom_max": 1.0, "flip_horizontal": False, "flip_vertical": False
}  # fmt: skip


def blobs(count: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Returns images whose red channel is 255 exactly where the mask is 1, a smooth off-centre shape in each."""
    y, x = np.mgrid[:size, :size] / size
    masks = np.stack([((y - 0.4) / 0.3) ** 2 + ((x - 0.5 - 0.01 * i) / 0.2) ** 2 < 1 for i in range(count)])
    masks = masks[..., None].astype(np.uint8)
    images = np.concatenate([masks * 255, np.full_like(masks, 77), masks * 100], axis=-1)
    return images.astype(np.uint8), masks


@pytest.mark.parametrize("only", [*ONLY, "all"])
def test_image_and_mask_stay_aligned(only):
    """If broken, mask and image are warped differently, so that the network learns wrong borders."""
    config = AugmentConfig() if only == "all" else AugmentConfig(**{**NOTHING, **ONLY[only]})
    images, masks = blobs(8)
    new_images, new_masks = augment(jax.random.key(3), images, masks, config)
    chex.assert_equal_shape([new_images, images])
    assert (new_images.dtype, new_masks.dtype) == (images.dtype, masks.dtype)
    assert set(np.unique(new_masks)) <= {0, 1}
    assert not np.array_equal(new_masks, masks), "nothing moved"
    agree = (np.asarray(new_images[..., :1]) > 127) == (np.asarray(new_masks) > 0)
    # Bilinear, cut at one half, and nearest may differ only at the outline; a shift by one pixel fails.
    assert agree.reshape(8, -1).mean(axis=1).min() > 0.99
    np.testing.assert_array_equal(new_images[..., 1], 77)  # a flat channel stays flat: no frame, no overshoot


def test_every_example_draws_its_own():
    """If broken, all images of a batch are rotated by the same angle."""
    images, masks = blobs(1)
    several = augment(jax.random.key(0), np.repeat(images, 6, 0), np.repeat(masks, 6, 0), AugmentConfig())[0]
    assert len({np.asarray(image).tobytes() for image in several}) == 6


def test_draws_belong_to_the_global_example():
    """If broken, augmentation depends on how many devices share the batch."""
    images, masks = blobs(8)
    key, config = jax.random.key(1), AugmentConfig()
    new_images, new_masks = augment(key, images, masks, config)
    parts = [augment(key, images[i : i + 2], masks[i : i + 2], config, first_example=i) for i in range(0, 8, 2)]
    part_images, part_masks = (np.concatenate(part) for part in zip(*parts, strict=True))
    np.testing.assert_array_equal(part_masks, new_masks)
    # Batches of 2 and of 8 are compiled differently: the last bit of a float may decide which way a level is rounded.
    assert np.abs(np.asarray(new_images, int) - part_images).max() <= 1


def test_disabled_changes_nothing():
    """If broken, --augment.enabled false still resamples the image and therefore blurs it."""
    images, masks = blobs(2)
    chex.assert_trees_all_equal(
        augment(jax.random.key(0), images, masks, AugmentConfig(enabled=False)), (images, masks)
    )


def test_magnification_enlarges():
    """If broken, "zoom 1.2" shrinks the lesion."""
    images, masks = blobs(1)
    config = AugmentConfig(**{**NOTHING, "zoom_min": 1.5, "zoom_max": 1.5})
    _, zoomed = augment(jax.random.key(0), images, masks, config)
    assert np.asarray(zoomed).sum() > 1.8 * masks.sum()


def test_translation_is_a_share_of_each_side():
    """If broken, a shift is in pixels, only in one direction, or scaled by the zoom or by the other side."""
    images = np.zeros((300, 40, 80, 3), np.float32)
    images[:, 20, 40] = 255
    config = AugmentConfig(**{**NOTHING, "translation": 0.25})
    moved, _ = jax.jit(lambda key: augment(key, images, images[..., :1], config))(jax.random.key(0))
    weights = np.asarray(moved)[..., 0] / 255  # of the point, spread over four pixels
    down = (weights * np.arange(40)[:, None]).sum(axis=(1, 2)) - 20
    across = (weights * np.arange(80)).sum(axis=(1, 2)) - 40
    for shifts, side in ((down, 40), (across, 80)):
        assert -0.25 * side - 1e-3 <= shifts.min() < -0.24 * side
        assert 0.24 * side < shifts.max() <= 0.25 * side + 1e-3


EVERYTHING = {
    "translation": 0.1, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "gamma": 0.2, "colour_cast": 0.2,
    "illumination": 0.2, "artefacts": 0.5, "amplitudes": 0.5, "convolution": 0.5, "camera": 0.5,
    "paste": 0.5,
}  # fmt: skip


def test_everything_at_once_belongs_to_the_global_example():
    """If broken, light or artefacts depend on the number of devices, or change the dtype of images or masks."""
    images, masks = blobs(4)
    config = AugmentConfig(**EVERYTHING)
    both = jax.jit(
        lambda key, images, masks, first, others=images: augment(
            key, images, masks, config, first_example=first, others=others
        )
    )
    whole = both(jax.random.key(1), images, masks, 0)
    assert [part.dtype for part in whole] == [np.uint8, np.uint8]
    later = both(jax.random.key(1), np.roll(images, -2, 0), np.roll(masks, -2, 0), 2)
    chex.assert_trees_all_equal([part[2:] for part in whole], [part[:2] for part in later])


def test_light_leaves_the_mask_and_the_geometry_alone():
    """If broken, switching light on changes rotations and flips, so that runs with and without light do not compare."""
    images, masks = blobs(4)
    images = np.ascontiguousarray(np.broadcast_to(masks * 200, images.shape))
    plain = augment(jax.random.key(2), images, masks, AugmentConfig())
    bright = augment(jax.random.key(2), images, masks, AugmentConfig(brightness=0.2))
    np.testing.assert_array_equal(bright[1], plain[1])
    factors = np.asarray(bright[0], float).sum(axis=(1, 2, 3)) / np.asarray(plain[0], float).sum(axis=(1, 2, 3))
    expected = np.round(np.asarray(plain[0]) * factors[:, None, None, None])
    assert np.abs(expected - np.asarray(bright[0])).max() <= 1
    assert np.abs(factors - 1).min() > 0.005


def test_artefacts_come_as_often_as_asked_and_hide_lesion():
    """If broken, every image is spoilt, or none, or the network is told that a sticker is lesion."""
    images = np.full((64, 32, 32, 3), (200, 0, 200), np.uint8)
    masks = np.ones((64, 32, 32, 1), np.uint8)
    config = AugmentConfig(**{**NOTHING, "artefacts": 0.25})
    spoilt, lesion = (
        np.asarray(part) for part in jax.jit(lambda k: augment(k, images, masks, config))(jax.random.key(0))
    )
    unchanged = (spoilt == images).all(axis=-1, keepdims=True)
    # 1 - (1 - 0.25) ** 6 is 0.82; a flat image shows no blur, and a weak artefact may be nowhere.
    assert 0.55 < 1 - unchanged.all(axis=(1, 2, 3)).mean() < 0.95
    assert set(np.unique(lesion)) == {0, 1}
    assert 0.02 < (lesion == 0).mean() < 0.4
    assert lesion[unchanged].all()
