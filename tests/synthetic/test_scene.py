"""Drawn images: the same for the same key, image and mask belong together, variety where real images have it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.augment.drawing import grid_of
from jaxseg.synthetic import draw, draw_one, scene
from jaxseg.synthetic.fields import Draws, noise
from jaxseg.synthetic.outline import draw_outline
from jaxseg.synthetic.skin import lesion_density

SIZE, COUNT, PART = 48, 96, 8

_QUICKLY = {"xla_backend_optimization_level": 0}
"""Compiler options: optimising the programs would take longer than all else here."""


@functools.partial(jax.jit, compiler_options=_QUICKLY)
def drawn_part(key: jax.Array, first: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    return draw(key, PART, SIZE, SIZE, first_example=first)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Returns 96 drawn images, uint8 [96, 48, 48, 3], and their masks, bool [96, 48, 48]."""
    parts = [drawn_part(jax.random.key(3), first) for first in range(0, COUNT, PART)]
    images, masks = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return images, masks[..., 0].astype(bool)


def contrast(image: np.ndarray, mask: np.ndarray) -> float:
    """Returns how far the mean colours of lesion and skin are apart, in standard deviations of the skin."""
    skin = image[~mask]
    return float(np.linalg.norm((image[mask].mean(axis=0) - skin.mean(axis=0)) / (skin.std(axis=0) + 1)))


def test_images_and_masks_are_of_the_promised_types(drawn):
    """If broken, a training step receives other arrays than the input pipeline's."""
    images, masks = jax.eval_shape(lambda key: draw(key, 2, 32, 64), jax.random.key(0))
    assert (images.shape, images.dtype) == ((2, 32, 64, 3), np.uint8)
    assert (masks.shape, masks.dtype) == ((2, 32, 64, 1), np.uint8)
    assert drawn[0].min() < 20
    assert drawn[0].max() > 235
    jumps = np.abs(np.diff(drawn[0].astype(int), axis=2)).max(axis=-1) > 250
    assert jumps.mean() < 1e-3  # no value has wrapped around


def test_an_image_depends_on_key_and_place_alone(drawn):
    """If broken, a resumed run, or a run on another number of devices, trains on other drawn images."""
    images, masks = drawn_part(jax.random.key(3), 37)  # places that no part of the fixture begins with
    np.testing.assert_array_equal(images, drawn[0][37:45])
    np.testing.assert_array_equal(np.asarray(masks)[..., 0], drawn[1][37:45])
    assert not np.array_equal(images, drawn_part(jax.random.key(4), 37)[0])
    assert len(np.unique(drawn[0].reshape(COUNT, -1), axis=0)) == COUNT


def test_vectorised_as_on_an_accelerator_it_draws_the_same(drawn):
    """If broken, a GPU, which draws all images at once, draws others than a CPU, which draws one after the other."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(3), jnp.arange(PART))
    images, masks = jax.jit(jax.vmap(lambda key: draw_one(key, SIZE, SIZE)), compiler_options=_QUICKLY)(keys)
    # Compiled otherwise: rounding ties may move.
    assert np.abs(np.asarray(images).astype(int) - drawn[0][:PART]).max() <= 1
    assert (np.asarray(masks)[..., 0] != drawn[1][:PART]).mean() < 1e-3


def test_masks_lie_on_the_lesions(drawn):
    """If broken, a mask is that of another lesion: then it would separate colours no better than a stranger's does."""
    images, masks = drawn
    usable = [i for i in range(COUNT) if 0.01 < masks[i].mean() < 0.9]
    own = np.array([contrast(images[i], masks[i]) for i in usable])
    others = np.array([contrast(images[i], masks[j]) for i, j in zip(usable, np.roll(usable, 1), strict=True)])
    assert len(usable) > 80
    assert np.median(own) > 2.5 * np.median(others)
    assert (own > others).mean() > 0.8


def test_lesions_are_of_all_sizes_and_places(drawn):
    """If broken, a network learns that lesions are of one size, or always in the middle."""
    shares = drawn[1].mean(axis=(1, 2))
    assert np.quantile(shares, 0.1) < 0.08
    assert np.quantile(shares, 0.9) > 0.35
    assert shares.min() < 0.03
    assert shares.max() > 0.5
    framed = [mask[[0, -1]].any() or mask[:, [0, -1]].any() for mask in drawn[1]]
    assert 0.05 < np.mean(framed) < 0.6
    assert drawn[1].mean(axis=0)[SIZE // 2, SIZE // 2] > 0.5  # most cover the middle, as in photographs


def test_some_lesions_are_faint_and_most_are_not(drawn):
    """If broken, every lesion is plain to see and nothing hard is learnt, or most cannot be seen."""
    own = np.array([contrast(i, m) for i, m in zip(*drawn, strict=True) if 0.01 < m.mean() < 0.9])
    assert (own < 1).mean() > 0.04
    assert np.median(own) > 1.3


def test_what_hides_the_lesion_takes_it_from_the_mask(monkeypatch):
    """If broken, a sticker or a dark corner is lesion in the mask: nobody could see one there."""
    everywhere = jnp.ones((SIZE, SIZE, 1), bool)
    image = jnp.full((SIZE, SIZE, 3), 200.0)
    monkeypatch.setattr(scene, "_ARTEFACTS", {"sticker": 1.1, "dark_corner": 1.1})
    hidden = 0
    for seed in range(6):
        key = jax.random.key(seed)
        spoilt, mask = scene._soil(key, Draws(key, 4), image, everywhere)
        untouched = np.abs(np.asarray(spoilt) - 200).max(axis=-1) < 1
        assert np.asarray(mask)[untouched, 0].all()
        hidden += int((~np.asarray(mask)).sum())
    assert hidden > 100


def test_an_outline_encloses_its_fading_border():
    """If broken, annotators' outlines are drawn through the border or inside it, and networks cut lesions too tight."""
    grid = grid_of(64, 64)

    def ring(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        draws = Draws(key, 30_000)
        outline = draw_outline(draws, grid)
        change = jnp.abs(lesion_density(draws, grid, outline, jnp.float32(0.3))).sum(axis=-1)
        inside = jnp.where(outline.mask, change, 0).sum()
        return inside, change.sum()

    rings = jax.jit(lambda keys: jax.lax.map(ring, keys), compiler_options=_QUICKLY)
    inside, whole = rings(jax.random.split(jax.random.key(0), 64))
    share = np.asarray(inside / whole)
    assert np.median(share) > 0.93
    assert np.quantile(share, 0.1) > 0.75


def test_noise_has_mean_0_and_deviation_1():
    """If broken, all that is drawn from noise is fainter or stronger than its numbers say."""
    grid = grid_of(64, 64)
    fields = jax.vmap(lambda key: noise(Draws(key, 300), grid, 0.1))(jax.random.split(jax.random.key(0), 64))
    assert float(fields.mean()) == pytest.approx(0, abs=0.05)
    assert float(fields.std()) == pytest.approx(1, abs=0.08)


def test_random_numbers_are_used_up():
    """If broken, functions draw more numbers than there are and some silently share them, or numbers are wasted."""
    draws = Draws(jax.random.key(0), 5)
    assert draws.between((0, 1), (10, 20)).shape == (2,)
    assert draws.take(1, 2).shape == (1, 2)
    with pytest.raises(ValueError, match="2 random numbers asked for, 1 left of 5"):
        draws.take(2)
    assert draws.left == 1
