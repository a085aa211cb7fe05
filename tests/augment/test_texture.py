"""Texture and colour from elsewhere: shapes stay where they are, and what is asked for comes as often as asked."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.augment import texture

KEYS = jax.random.split(jax.random.key(0), 200)


def picture(seed: int, level: float, size: tuple[int, int] = (32, 40)) -> np.ndarray:
    """Returns smooth noise about a level, float32 [H, W, 3]."""
    noise = np.random.default_rng(seed).normal(0, 60, (*size, 3))
    return np.clip(level + ndimage.gaussian_filter(noise, (2, 2, 0)), 0, 255).astype(np.float32)


def every(change, image: np.ndarray, *args) -> np.ndarray:
    """Returns the image changed under each key, [200, H, W, 3]."""
    return np.asarray(jax.jit(jax.vmap(lambda key: change(key, image, *args)))(KEYS))


def test_amplitudes_move_to_the_others_and_phases_stay():
    """If broken, images are mixed as pictures, with two lesions in one, or colours stay those of the one camera."""
    own, other = picture(0, 90), picture(1, 160)
    mixed = every(texture.mix_amplitudes, own, other[None], 1.0)
    means = mixed.mean(axis=(1, 2))
    for channel in range(3):
        low, high = own[..., channel].mean(), other[..., channel].mean()
        assert low - 0.1 <= means[:, channel].min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < means[:, channel].max() <= high + 0.1
    before, after = np.fft.rfft2(own, axes=(0, 1)), np.fft.rfft2(mixed[0], axes=(0, 1))
    turned = np.angle(after / before)[np.abs(after) > 20]
    assert np.abs(turned).max() < 0.01


def test_the_other_image_is_any_of_the_batch():
    """If broken, all images take the amplitudes of the first."""
    others = np.stack([np.full((8, 8, 3), level, np.float32) for level in (50, 100, 150, 200)])
    grey = np.full((8, 8, 3), 50, np.float32)
    mixed = every(texture.mix_amplitudes, grey, others, 1.0)[:, 0, 0, 0]
    assert (mixed < 50.1).mean() == pytest.approx(0.25, abs=0.1)
    assert (mixed > 150).mean() == pytest.approx(0.25 / 3, abs=0.07)


def test_an_image_with_itself_is_itself():
    """If broken, the transform there and back changes images whose amplitudes do not."""
    own = picture(2, 128)
    np.testing.assert_allclose(every(texture.mix_amplitudes, own, own[None], 1.0) - own, 0, atol=0.01)


def test_the_convolution_is_one():
    """If broken, the image is shifted against its mask, or its edges come from the opposite side."""
    rng = np.random.default_rng(3)
    image, kernel = rng.normal(size=(21, 32, 3)).astype(np.float32), rng.normal(size=(7, 7, 3, 3)).astype(np.float32)
    found = texture._convolve(image, kernel)
    expected = [
        sum(ndimage.convolve(image[..., i], kernel[..., i, j], mode="mirror") for i in range(3)) for j in range(3)
    ]
    np.testing.assert_allclose(found, np.stack(expected, axis=-1), atol=1e-4)


def test_a_random_convolution_keeps_light_and_outlines():
    """If broken, images become dark or bright, or an edge is somewhere else than in the mask."""
    image = np.full((40, 40, 3), (150, 120, 110), np.float32)
    image[12:28, 8:20] -= 40
    changed = every(texture.convolve_at_random, image, 1.0)
    np.testing.assert_allclose(changed.mean(axis=(1, 2)), image.mean(axis=(0, 1)) * np.ones((200, 1)), atol=3)
    # The kernels reach three pixels: beyond, the skin and the lesion have one colour each.
    for part in (changed[:, 16:24, 12:16], changed[:, :, 24:]):
        np.testing.assert_allclose(np.ptp(part, axis=(1, 2)), 0, atol=0.5)
    inside, outside = changed[:, 20, 14], changed[:, 20, 30]
    assert np.median(np.abs(inside - outside).max(axis=-1)) > 30
    assert len(np.unique(inside.round(), axis=0)) > 190


def test_kernels_have_all_sides():
    """If broken, every image is blurred alike, or colours alone change."""
    image = np.full((31, 31, 3), 128, np.float32)
    image[15, 15] += 100
    changed = np.abs(every(texture.convolve_at_random, image, 1.0) - np.median(image)).max(axis=-1)
    reach = [max(np.abs(np.argwhere(one > 2) - 15).max(initial=0), 0) for one in changed]
    assert [np.mean(np.equal(reach, i)) for i in range(4)] == pytest.approx([0.25] * 4, abs=0.1)
    assert max(reach) == 3


@pytest.mark.parametrize("name", ["mix_amplitudes", "convolve_at_random"])
def test_changes_come_as_often_as_asked(name):
    """If broken, every image is changed, or none; or values leave [0, 255], which rounding to uint8 wraps around."""
    image = np.random.default_rng(4).choice(np.float32([0, 255]), (16, 16, 3))
    others = (picture(5, 200, (16, 16))[None],) if name == "mix_amplitudes" else ()
    changed = every(getattr(texture, name), image, *others, 0.3)
    same = (changed == image).all(axis=(1, 2, 3))
    assert 0.6 < same.mean() < 0.8
    assert np.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= 255


@pytest.mark.parametrize("level", [0, 255])
def test_a_flat_image_stays_one(level):
    """If broken, an image of one value becomes NaN, because it has no texture to scale by."""
    flat = np.full((8, 8, 3), level, np.float32)
    np.testing.assert_allclose(every(texture.convolve_at_random, flat, 1.0), level * np.ones((200, 8, 8, 3)), atol=1e-3)
    np.testing.assert_allclose(every(texture.mix_amplitudes, flat, flat[None], 1.0), level, atol=1e-3)
