"""Artefacts: damage that grows with severity, belongs to the global example, keeps types."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.augment.artefacts import ARTEFACTS, HIDING, corrupt, hidden_one

KEY = jax.random.key(4)
TRACES = []


@functools.partial(jax.jit, static_argnames="kind")
def compiled_corrupt(key, images, kind, severity, first_example):
    """Spoils images and counts its compilations."""
    TRACES.append(kind)
    return corrupt(key, images, kind, severity, first_example=first_example)


def spoil(key, images, kind, severity, first_example=0):
    """Spoils images by one program per kind and dtype, as all tests pass images of one shape."""
    return compiled_corrupt(key, images, kind, severity, first_example)


def assert_same_picture(got: np.ndarray, expected: np.ndarray) -> None:
    """Compares what two programs draw.

    The last bit of a float may decide which way a pixel, or a frequency of a JPEG block, is rounded. Another draw would
    change far more pixels.
    """
    apart = np.abs(np.asarray(got, float) - np.asarray(expected, float)).max(axis=-1) > 1
    assert apart.mean() < 0.01


def skin(count: int, height: int = 72, width: int = 96, seed: int = 0) -> np.ndarray:
    """Returns images like skin with a lesion: smooth, a dark blot, some grain; uint8 [count, height, width, 3]."""
    y, x = np.mgrid[:height, :width] / height
    blot = np.exp(-12 * ((y - 0.5) ** 2 + (x - 0.7) ** 2))[..., None]
    grain = np.random.default_rng(seed).normal(0, 5, (count, height, width, 1))
    return np.clip(np.array([220, 170, 150]) - blot * [120, 110, 90] + grain, 0, 255).astype(np.uint8)


IMAGES = skin(4)


def damage(kind: str, severity: float) -> np.ndarray:
    """Returns each image's root mean square difference from the unspoilt, grey levels, [4]."""
    spoilt = np.asarray(spoil(KEY, IMAGES, kind, np.full(4, severity, np.float32)), float)
    return np.sqrt(((spoilt - IMAGES) ** 2).mean(axis=(1, 2, 3)))


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_damage_grows_from_nothing(kind):
    """If broken, a curve of score over severity is meaningless, or does not begin at the score of the clean images."""
    np.testing.assert_array_equal(spoil(KEY, IMAGES, kind, np.zeros(4, np.float32)), IMAGES)
    steps = np.stack([damage(kind, severity) for severity in (0, 1, 2, 3, 4, 5)])
    # A corner or sticker may begin outside the image, and a hair at the border: a step may change nothing yet.
    assert (np.diff(steps, axis=0) >= -1e-6).all()
    assert (np.diff(steps.mean(axis=1))[1:] > 0).all()  # on so small an image the weakest blur is lost in rounding
    assert (steps[-1] > 2).all(), "the worst is hardly seen"


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_examples_draw_for_themselves_wherever_they_are(kind):
    """If broken, scores depend on batch size or devices, or a whole batch has the same hairs."""
    severity = np.array([5, 3, 2, 4], np.float32)
    whole = np.asarray(spoil(KEY, IMAGES, kind, severity))
    np.testing.assert_array_equal(whole, spoil(KEY, IMAGES, kind, severity))
    moved = np.asarray(spoil(KEY, np.roll(IMAGES, -2, 0), kind, np.roll(severity, -2), 2))
    np.testing.assert_array_equal(moved[:2], whole[2:])
    if kind not in ("low_contrast", "blur", "jpeg"):  # these draw no random numbers
        alike = np.asarray(spoil(KEY, np.repeat(IMAGES[:1], 4, 0), kind, np.full(4, 5, np.float32)))
        assert len({image.tobytes() for image in alike}) == 4
        assert not np.array_equal(whole, spoil(jax.random.key(5), IMAGES, kind, severity))


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_types_ranges_and_one_compilation(kind):
    """If broken, uint8 wraps around, float images leave [0, 255], or every severity is compiled separately."""
    extreme = np.random.default_rng(0).choice(np.uint8([0, 255]), IMAGES.shape)
    before = TRACES.count(kind)
    for severity in (0.5, 2.0, 5.0, 9.0, -1.0):
        spoilt = spoil(KEY, extreme, kind, np.full(4, severity, np.float32))
        chex.assert_equal_shape([spoilt, extreme])
        assert spoilt.dtype == np.uint8
    assert TRACES.count(kind) <= before + 1  # none where an earlier test has compiled it
    floats = np.asarray(spoil(KEY, extreme.astype(np.float32), kind, np.full(4, 5, np.float32)))
    assert floats.dtype == np.float32
    assert floats.min() >= 0
    assert floats.max() <= 255
    assert_same_picture(np.round(floats), spoil(KEY, extreme, kind, np.full(4, 5, np.float32)))
    worst = spoil(KEY, extreme, kind, np.full(4, 9, np.float32))
    np.testing.assert_array_equal(worst, spoil(KEY, extreme, kind, np.full(4, 5, np.float32)))


@pytest.mark.parametrize("kind", ["hair", "gel_bubble", "dark_corner", "sticker"])
def test_large_and_small_images_look_alike(kind):
    """If broken, lengths are in pixels: on an image of 512 pixels the hairs would be almost invisible."""
    small, large = np.full((4, 32, 32, 3), 180.0), np.full((4, 128, 128, 3), 180.0)
    draw = jax.jit(functools.partial(corrupt, kind=kind, severity=5.0))
    shrunk = np.asarray(draw(KEY, large)).reshape(4, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    # They differ within a pixel of an outline; if drawn elsewhere, they would differ much more.
    assert np.abs(np.asarray(draw(KEY, small)) - shrunk).mean() < 3.5


def test_unknown_kinds_are_named():
    """If broken, a typing mistake ends in a KeyError that does not list the kinds."""
    with pytest.raises(ValueError, match=r"no artefact 'hairs'.*hair, dark_corner"):
        corrupt(KEY, IMAGES, "hairs", 1.0)


@pytest.mark.parametrize("kind", HIDING)
def test_hidden_is_what_the_artefact_covers(kind):
    """If broken, training labels stickers as lesion, or removes visible lesion from the mask."""
    keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(4))
    hide = jax.jit(jax.vmap(lambda key, severity: hidden_one(key, (72, 96), kind, severity)))
    spoilt = np.asarray(spoil(KEY, IMAGES, kind, np.full(4, 5, np.float32)), int)
    hidden = np.asarray(hide(keys, np.full(4, 5, np.float32)))
    changed = np.abs(spoilt - IMAGES).max(axis=-1, keepdims=True) > 20
    assert 0.05 < hidden.mean() < 0.6
    # They differ along soft outlines, and where a sticker has the skin's own colour.
    assert (hidden == changed).mean() > 0.9
    assert not np.asarray(hide(keys, np.zeros(4, np.float32))).any()
