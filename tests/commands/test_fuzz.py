"""Properties that hold whatever goes in: settings, pairs of files, scores, augmentation, plateau; and damaged files.

Hypothesis draws the cases from a fixed seed, so that a green suite stays green. `fuzz_readers.py` is the long run.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxseg import cli
from jaxseg.augment import augment
from jaxseg.config import SCHEMA_VERSION, AugmentConfig, Config, OptimConfig
from jaxseg.data import folder
from jaxseg.data.listing import SUFFIXES
from jaxseg.errors import UserError
from jaxseg.metrics import COUNTS, SCORES, confusion, scores
from jaxseg.optim import early_stop_init, early_stop_update, plateau_init, plateau_update
from jaxseg.runs import workdir
from tests.helpers import fuzz_readers

settings.register_profile("same every time", derandomize=True, deadline=None, database=None, max_examples=200)
settings.load_profile("same every time")

NAMES = [name for name, _ in Config.settings()]
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 2**31, 10**40, 10**400, 1e-300, 1e308]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=7), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@contextlib.contextmanager
def answered():
    """Passes if the block ends well or with an answer to the user: one line that is not endless."""
    said = ""
    try:
        yield
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 2000


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
def test_settings_of_any_value_are_taken_whole_or_refused(changes):
    """If broken, a strange value in a notebook or a config.json is a traceback, or is taken and fails an hour later."""
    with answered():
        config = Config().updated(changes)
        text = json.dumps(config.to_dict(), allow_nan=False)
        assert Config.from_dict(json.loads(text)) == config


@given(st.one_of(VALUES, st.dictionaries(st.sampled_from(["data", "train", "x"]), VALUES)))
def test_a_config_json_of_any_content_is_read_or_refused(tmp_path_factory, values):
    """If broken, a config.json that was edited by hand ends evaluate and predict in a traceback."""
    run = tmp_path_factory.mktemp("run")
    contents = [json.dumps(values), json.dumps({"schema_version": SCHEMA_VERSION, "config": values})]
    for content in contents:
        (run / workdir.CONFIG).write_text(content)
        with answered():
            assert isinstance(workdir.read_config(run), Config)


@given(st.binary(max_size=200))
def test_a_config_json_of_any_bytes_is_refused(tmp_path_factory, content):
    """If broken, a config.json that a dying disk filled with noise is a traceback."""
    run = tmp_path_factory.mktemp("run")
    (run / workdir.CONFIG).write_bytes(content)
    with pytest.raises(UserError):
        workdir.read_config(run)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text(st.characters(exclude_characters="\0"))), max_size=3))
def test_any_command_line_is_taken_or_answered(pairs):
    """If broken, a slip of the keyboard ends in a traceback."""
    parser = cli.Parser("train", "Trains.", "")
    cli.add_settings(parser)
    said, code = io.StringIO(), 0
    try:
        with answered(), contextlib.redirect_stderr(said):
            cli.config_from(parser.parse_args([part for name, text in pairs for part in (f"--{name}", text)]))
    except SystemExit as left:
        code = left.code
    assert (code, len(said.getvalue().splitlines())) in ((0, 0), (2, 1))


STEMS = st.text("abAB_-. 1é", min_size=1, max_size=6).filter(lambda s: s.strip(".") == s)
ENDINGS = st.sampled_from(["", "_mask", "_lesion", "_Segmentation", "_MASK"])


@given(st.dictionaries(STEMS, st.tuples(ENDINGS, st.sampled_from(SUFFIXES)), min_size=1, max_size=8))
def test_every_image_gets_its_own_mask_whatever_the_names(masks):
    """If broken, an image is shown with another's mask, or a mask serves two images."""
    images = folder._by_name([Path("images", f"{stem}.jpg") for stem in masks], Path("images"))
    files = {stem: Path("masks", f"{stem}{ending}{suffix}") for stem, (ending, suffix) in masks.items()}
    # A mask of "a" named "a_mask.png" is that of an image "a_mask" if there is one: such sets are ambiguous.
    assume(all(files[s].stem == s or files[s].stem not in masks for s in masks))
    for order in itertools.islice(itertools.permutations(files.values()), 3):
        pairs = folder._pairs(images, list(order), Path())
        assert {stem: (pair.image, pair.mask) for stem, pair in pairs.items()} == {
            stem: (images[stem], files[stem]) for stem in masks
        }
    lost = next(iter(masks))
    with pytest.raises(UserError, match="no mask in"):
        folder._pairs(images, [file for stem, file in files.items() if stem != lost], Path())


MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=3, max_dims=3, max_side=6))


@given(MASKS, st.randoms())
def test_scores_are_shares_and_agree_with_one_another(truth, random):
    """If broken, a score leaves [0, 1], counts pixels twice, or depends on where in the image the lesion is."""
    prediction = truth ^ np.array([random.random() < 0.3 for _ in range(truth.size)]).reshape(truth.shape)
    counts = confusion(prediction, truth)
    assert (sum(counts[name] for name in COUNTS) == truth[0].size).all()
    values = scores(counts)
    for name in SCORES:
        assert ((values[name] >= 0) & (values[name] <= 1)).all()
    dice, jaccard = values["dice"], values["jaccard"]
    np.testing.assert_allclose(jaccard, dice / (2 - dice), atol=1e-12)
    swapped, turned = scores(confusion(truth, prediction)), scores(confusion(prediction[:, ::-1], truth[:, ::-1]))
    np.testing.assert_array_equal(swapped["dice"], dice)
    for name in SCORES:
        np.testing.assert_array_equal(turned[name], values[name])
    perfect = scores(confusion(truth, truth))
    assert all((perfect[name] == 1).all() for name in SCORES)


RANGES = {
    "rotation": st.floats(0, 180),
    "shear": st.floats(0, 60),
    "zoom": st.lists(st.floats(0.05, 20), min_size=2, max_size=2),
    "flip_horizontal": st.booleans(),
    "flip_vertical": st.booleans(),
    "translation": st.floats(0, 0.5),
}


@settings(max_examples=8, phases=[Phase.generate])  # each compiles the warp anew: no search for the simplest case
@given(st.fixed_dictionaries(RANGES), st.integers(0, 2**31 - 1), arrays.arrays(np.uint8, (2, 9, 12, 1)))
def test_augmented_masks_stay_binary_and_with_their_image(ranges, seed, noise):
    """If broken, some corner of the settings makes grey masks, invents pixels, or parts image and mask."""
    zoom_min, zoom_max = sorted(ranges.pop("zoom"))
    config = AugmentConfig(**ranges, zoom_min=zoom_min, zoom_max=zoom_max)
    masks = noise % 2
    images = np.concatenate([masks * 255, masks * 0 + 9, noise], axis=-1)
    key = jax.random.key(seed)
    new_images, new_masks = (np.asarray(a) for a in augment(key, images, masks, config))
    assert (new_images.shape, new_images.dtype) == (images.shape, images.dtype)
    assert (new_masks.shape, new_masks.dtype) == (masks.shape, masks.dtype)
    assert set(np.unique(new_masks)) <= set(np.unique(masks))
    # Where the image is fully lesion or fully skin, no rounding is at play.
    assert (new_masks[new_images[..., :1] == 255] == 1).all()
    assert (new_masks[new_images[..., :1] == 0] == 0).all()
    assert (new_images[..., 1] == 9).all()
    assert new_images[..., 2].max() <= noise.max()
    again = augment(key, images, masks, config)
    np.testing.assert_array_equal(again[0], new_images)


LOSSES = st.lists(st.one_of(st.floats(), st.integers(0, 3).map(float)), min_size=1, max_size=40)


@given(LOSSES, st.integers(1, 6), st.floats(0, 0.99), st.sampled_from([0.0, 1e-4, 0.5]), st.sampled_from([0.0, 1e-5]))
def test_the_plateau_only_ever_lowers_the_rate_to_its_floor(losses, patience, factor, min_delta, floor):
    """If broken, a sequence of losses, NaN and infinities too, raises the learning rate or takes it below its floor."""
    config = OptimConfig(
        learning_rate=1e-3,
        plateau_patience=patience,
        plateau_factor=factor,
        plateau_min_delta=min_delta,
        min_learning_rate=floor,
        early_stop_patience=patience,
    )
    state, stop, scales = plateau_init(), early_stop_init(), [1.0]
    for loss in losses:
        state, stop = plateau_update(state, loss, config), early_stop_update(stop, loss, config)
        scales.append(state.scale)
    assert scales == sorted(scales, reverse=True)
    assert scales[-1] * 1e-3 >= floor * (1 - 1e-6)
    lowered = sum(a != b for a, b in itertools.pairwise(scales))
    assert lowered <= len(losses) // patience
    assert stop.epoch == len(losses)
    assert 1 <= stop.best_epoch <= len(losses)
    if not math.isnan(losses[0]):
        # In float32, as Keras compares.
        with np.errstate(over="ignore"):
            seen = np.array(losses, np.float32)
        assert seen[stop.best_epoch - 1] == np.nanmin(seen)
        assert stop.best_epoch == 1 + int(np.nanargmin(seen))
    assert stop.should_stop == (len(losses) - stop.best_epoch >= patience)


def test_settings_have_bounds_that_their_defaults_keep():
    """If broken, a setting added without bounds can be given values that no machine can serve."""
    for name, field in Config.settings():
        section = name.split(".")[0]
        dataclasses.replace(getattr(Config(), section), **{name.split(".")[1]: field.default})
        if field.type in (int, float):
            assert field.metadata["minimum"] is not None, name


@pytest.mark.parametrize("kind", ["images", "weights"])
def test_damaged_files_are_read_or_answered(kind, tmp_path):
    """If broken, a damaged file is a traceback, ends the process, or hangs it; the long run is `fuzz_readers.py`."""
    assert fuzz_readers.fuzz(kind, 200, seed=7, keep=tmp_path) == []
