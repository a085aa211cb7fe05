"""The affine warp: its centre, axes, interpolation and ranges, against NumPy's flips and turns and by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.augment.affine import draw_affine, warp
from jaxseg.config import AugmentConfig

NOTHING = AugmentConfig(rotation=0, shear=0, zoom_min=1, zoom_max=1, flip_horizontal=False, flip_vertical=False)


def test_identity_is_exact():
    """If broken, the warp is off by half a pixel, or blurs where nothing moves."""
    image = np.random.default_rng(0).integers(0, 256, (17, 20, 3), dtype=np.uint8)
    mask = np.random.default_rng(1).integers(0, 2, (17, 20, 1), dtype=np.uint8)
    warped, warped_mask = warp(jnp.asarray(image), jnp.asarray(mask), jnp.eye(2))
    np.testing.assert_array_equal(warped, image)
    np.testing.assert_array_equal(warped_mask, mask)


@pytest.mark.parametrize(
    ("matrix", "numpy"),
    [
        ([[1, 0], [0, -1]], lambda a: a[:, ::-1]),
        ([[-1, 0], [0, 1]], lambda a: a[::-1]),
        ([[0, -1], [1, 0]], lambda a: np.rot90(a, 3)),
    ],
)
@pytest.mark.parametrize("size", [5, 6])
def test_flips_and_quarter_turns_equal_numpys(matrix, numpy, size):
    """If broken, the centre is wrong, or an axis is mirrored in the other direction."""
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    mask = np.random.default_rng(1).integers(0, 2, (size, size, 1), dtype=np.uint8)
    warped, warped_mask = warp(jnp.asarray(image), jnp.asarray(mask), jnp.array(matrix, jnp.float32))
    np.testing.assert_array_equal(warped, numpy(image))
    np.testing.assert_array_equal(warped_mask, numpy(mask))


def test_bilinear_between_pixels():
    """If broken, interpolation weights are swapped."""
    image = jnp.arange(16, dtype=jnp.float32).reshape(4, 4, 1) * 10
    # Magnified twice about the centre (1.5, 1.5): output pixel (0, 0) looks at (0.75, 0.75), which is 10 * (3 + 0.75).
    warped, _ = warp(image, jnp.zeros((4, 4, 1), jnp.uint8), jnp.eye(2) / 2)
    assert float(warped[0, 0, 0]) == pytest.approx(37.5)


def test_transforms_keep_within_their_ranges():
    """If broken, rotation is in radians, zoom is inverted, or the ends of a range are not reached."""
    keys = jax.random.split(jax.random.key(0), 500)
    rotation_only = dataclasses.replace(NOTHING, rotation=30.0)
    matrices = np.asarray(jax.vmap(lambda k: draw_affine(k, rotation_only))(keys))
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 28 < np.abs(angles).max() <= 30
    zoom_only = dataclasses.replace(NOTHING, zoom_min=0.8, zoom_max=1.2)
    matrices = np.asarray(jax.vmap(lambda k: draw_affine(k, zoom_only))(keys))
    zooms = 1 / matrices[:, 0, 0]
    assert 0.8 <= zooms.min() < 0.81
    assert 1.19 < zooms.max() <= 1.2001
