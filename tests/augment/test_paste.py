"""A lesion pasted smaller somewhere else: its mask goes with it, and nothing of it stays behind."""

import jax
import numpy as np
import pytest

from jaxseg.augment.paste import paste_smaller

KEYS = jax.random.split(jax.random.key(0), 200)
SKIN, LESION = np.float32([200, 160, 140]), np.float32([90, 60, 50])


def lesion(radius: float, size: tuple[int, int] = (60, 80)) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image of a round lesion left of the middle, and its mask; the radius is a share of the height."""
    y, x = np.mgrid[: size[0], : size[1]]
    mask = ((y - 30) ** 2 + (x - 30) ** 2 < (radius * size[0]) ** 2)[..., None]
    return np.where(mask, LESION, SKIN), mask.astype(np.uint8)


def pasted(image: np.ndarray, mask: np.ndarray, probability: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and masks after the change under each key."""
    found = jax.jit(jax.vmap(lambda key: paste_smaller(key, image, mask, probability)))(KEYS)
    return np.asarray(found[0]), np.asarray(found[1])


def test_the_mask_goes_with_the_lesion():
    """If broken, the network learns that a patch of skin is lesion, and that the lesion is skin."""
    image, mask = lesion(0.3)
    images, masks = pasted(image, mask)
    assert (masks.dtype, masks.shape) == (mask.dtype, (200, *mask.shape))
    dark = images.mean(axis=-1, keepdims=True) < (SKIN.mean() + LESION.mean()) / 2
    assert (dark == (masks > 0)).mean(axis=(1, 2, 3)).min() > 0.98
    # Where the lesion was and is no more, there is skin.
    left = (mask > 0) & (masks == 0) & ~dark
    assert left.any()
    far = images[np.broadcast_to(left, dark.shape)[..., 0]]
    assert np.abs(np.median(far, axis=0) - SKIN).max() < 2


def test_lesions_are_smaller_and_anywhere():
    """If broken, all come out in one size or place, or larger than they were."""
    image, mask = lesion(0.2)
    _, masks = pasted(image, mask)
    sizes = np.sqrt(masks.sum(axis=(1, 2, 3)) / mask.sum())
    assert 0.2 < sizes.min() < 0.4
    assert 0.8 < sizes.max() < 0.95
    places = np.array([np.argwhere(one).mean(axis=0)[:2] for one in masks]) / mask.shape[:2]
    assert places.min() < 0.2
    assert places.max() > 0.8
    assert np.abs(np.median(places, axis=0) - 0.5).max() < 0.1


@pytest.mark.parametrize("radius", [0.0, 0.8])
def test_without_lesion_or_without_skin_nothing_changes(radius):
    """If broken, an empty mask gets a lesion, or a place without skin around is filled with nothing."""
    image, mask = lesion(radius)
    images, masks = pasted(image, mask)
    np.testing.assert_array_equal(images, np.broadcast_to(image, images.shape))
    np.testing.assert_array_equal(masks, np.broadcast_to(mask, masks.shape))


def test_it_comes_as_often_as_asked_in_range():
    """If broken, every image is changed, or values leave [0, 255]."""
    image, mask = lesion(0.2)
    image = np.clip(image + np.random.default_rng(0).normal(0, 60, image.shape), 0, 255).astype(np.float32)
    images, _ = pasted(image, mask, 0.3)
    assert 0.6 < (images == image).all(axis=(1, 2, 3)).mean() < 0.8
    assert np.isfinite(images).all()
    assert images.min() >= 0
    assert images.max() <= 255
