"""The synthetic set: same pictures everywhere, honest masks, and too hard for a threshold."""

import collections
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxseg.config import DataConfig
from jaxseg.data import synthetic
from jaxseg.data.synthetic import GROUPS, HEIGHT, SPLITS, WIDTH, synthetic_examples
from jaxseg.errors import UserError

# Share of lesion and mean red, green and blue.
PINNED = {
    ("train", 0): (0.40922, 64.634, 46.803, 42.71),
    ("validation", 0): (0.4397, 141.17, 86.332, 59.071),
    ("test", 0): (0.036316, 126.32, 99.323, 74.055),
    ("test", 1): (0.12358, 87.82, 42.543, 30.474),
    ("test", 2): (0.099121, 128.59, 91.456, 86.86),
    ("test", 3): (0.051473, 177.49, 130.19, 106.55),
    ("test", 4): (0.22854, 123.71, 105.97, 82.71),
    ("test", 5): (0.0448, 107.85, 64.755, 53.607),
    ("test", 6): (0.029561, 117.57, 91.263, 64.687),
    ("test", 7): (0.2698, 114.71, 74.482, 56.435),
    ("test", 8): (0.080587, 205.74, 147.83, 161.18),
}


@pytest.fixture(scope="module")
def drawn():
    """108 images, 12 of each group."""
    return [synthetic.example("test", i) for i in range(12 * len(GROUPS))]


def reached_from(start: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Returns the part of a bool region that 4-connected steps inside it reach from the True pixels of start."""
    reached = start & region
    while True:
        grown = np.pad(reached, 1)
        grown = region & (grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:] | reached)
        if grown.sum() == reached.sum():
            return reached
        reached = grown


def otsu(grey: np.ndarray) -> int:
    """Returns the threshold, a grey level, that separates two classes best (Otsu 1979)."""
    share = np.bincount(grey.ravel(), minlength=256) / grey.size
    below, moment = np.cumsum(share), np.cumsum(share * np.arange(256))
    between = (moment[-1] * below - moment) ** 2 / np.maximum(below * (1 - below), 1e-9)
    return int(between.argmax())


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_shapes_types_and_ranges(drawn):
    """If broken, the pipeline gets images or masks of a kind that it does not expect."""
    for image, mask in drawn:
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert mask.shape == (HEIGHT, WIDTH, 1)
        assert image.dtype == mask.dtype == np.uint8
        assert mask.max() == 1  # so neither empty nor {0, 255}
        assert image.max() - image.min() > 30  # and not saturated: something is to be seen


def test_same_image_in_any_order_thread_and_process():
    """If broken, epochs, resumed runs or machines see different data under one fingerprint."""
    examples = synthetic_examples("train", DataConfig())
    first = [examples.load(i) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(examples.load, reversed(range(8))))[::-1]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.mask, b.mask)
    program = "from jaxseg.data.synthetic import example; print(example('train', 3).image.tobytes().hex())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert bytes.fromhex(other.strip()) == first[3].image.tobytes()


def test_splits_are_disjoint_and_a_larger_one_starts_with_the_smaller():
    """If broken, a model is scored on what it was trained on, or another size is another data set."""
    config = DataConfig(synthetic_train=20, synthetic_eval=10)
    splits = {s: synthetic_examples(s, config) for s in SPLITS}
    assert [len(splits[s]) for s in SPLITS] == [20, 10, 10]
    names = [n for e in splits.values() for n in e.names]
    images = [e.load(i).image.tobytes() for e in splits.values() for i in range(len(e))]
    assert len(set(names)) == len(set(images)) == 40
    larger = synthetic_examples("train", DataConfig(synthetic_train=30))
    assert larger.names[:20] == splits["train"].names
    assert larger.groups[:20] == splits["train"].groups
    np.testing.assert_array_equal(larger.load(19).image, splits["train"].load(19).image)


def test_unknown_split_names_the_splits():
    """If broken, a typing mistake ends in a traceback."""
    with pytest.raises(UserError, match=r"'val'.*train, validation, test"):
        synthetic_examples("val", DataConfig())


def test_index_outside_the_split_is_an_error():
    """If broken, a wrong index silently gives an image that the split does not hold."""
    examples = synthetic_examples("validation", DataConfig(synthetic_eval=5))
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"{index}.*5 images"):
            examples.load(index)


def test_mask_is_one_region(drawn):
    """If broken, outlines are torn or holed, which no ground truth of one lesion is."""
    border = np.ones((HEIGHT, WIDTH), bool)
    border[1:-1, 1:-1] = False
    for _, mask in drawn[:45]:
        region = mask[..., 0] > 0
        seed = np.zeros_like(region)
        row, column = np.argwhere(region)[region.sum() // 2]
        seed[row, column] = True
        assert (reached_from(seed, region) == region).all()
        assert (reached_from(border, ~region) == ~region).all()


def test_areas_range_from_small_to_large(drawn):
    """If broken, the set no longer has the small and the large lesions that it promises."""
    areas = [mask.mean() for _, mask in drawn]
    assert min(areas) > 0.015
    assert max(areas) < 0.55
    assert np.mean(np.array(areas) < 0.06) > 0.1
    assert np.mean(np.array(areas) > 0.25) > 0.1


def test_some_lesions_touch_the_border(drawn):
    """If broken, models are never asked about a lesion that the picture cuts."""
    cut = [mask[[0, -1]].any() or mask[:, [0, -1]].any() for _, mask in drawn]
    assert 0.03 < np.mean(cut) < 0.5


def test_a_global_threshold_finds_lesions_badly(drawn):
    """If broken, brightness alone solves the set, and a score on it shows nothing."""
    by_otsu, by_oracle = [], []
    for image, mask in drawn:
        grey, truth = (image @ [0.299, 0.587, 0.114]).astype(np.uint8), mask[..., 0] > 0
        by_otsu.append(dice(grey <= otsu(grey), truth))
        by_oracle.append(max(dice(grey <= level, truth) for level in range(8, 248, 6)))
    assert np.mean(by_otsu) < 0.55
    assert np.mean(by_oracle) < 0.7  # not even a threshold chosen with the truth in hand


def test_lesions_can_be_seen_at_their_outline(drawn):
    """If broken, masks and pictures have come apart: no colour step where the outline is."""
    seen = []
    for image, mask in drawn:
        truth = mask[..., 0] > 0
        near = truth.copy()
        for _ in range(8):
            padded = np.pad(near, 1)
            near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:] | near
        inside, outside = image[truth].astype(float), image[near & ~truth].astype(float)
        seen.append(np.abs(np.median(inside, axis=0) - np.median(outside, axis=0)).max())
    assert min(seen) > 3
    assert np.median(seen) > 25


def test_groups_are_varied_and_balanced():
    """If broken, subgroup scores and stratified folds lack kinds of images."""
    counts = collections.Counter(synthetic_examples("train", DataConfig(synthetic_train=90)).groups)
    assert counts == dict.fromkeys(GROUPS, 10)


@pytest.mark.parametrize("artefact", synthetic._OVERLAYS)
def test_overlays_are_drawn_and_leave_the_rest_alone(artefact):
    """If broken, an artefact that is promised is missing, or covers the whole picture."""
    for seed in range(20):
        rng = np.random.Generator(np.random.PCG64(seed))
        lesion = synthetic._draw_outline(rng, synthetic._draw_lens(rng, False))
        bare = np.full((HEIGHT, WIDTH, 3), 128, np.float32)
        changed = np.abs(synthetic._OVERLAYS[artefact](rng, bare.copy(), lesion) - bare).max(axis=-1) > 10
        # Ink and markers keep off the lesion, and so leave a picture that a large one fills.
        assert changed.mean() < 0.35
        assert changed.any() or lesion.mask.mean() > 0.15
        if artefact in ("ink", "marker"):
            assert not (changed & lesion.mask).any()


def test_groups_show_their_difficulty(drawn):
    """If broken, scores by group compare nothing: dark corners are not dark, low contrast is not low."""

    def contrast(example):
        truth = example.mask[..., 0] > 0
        near = synthetic._distance(*np.argwhere(truth).mean(axis=0)) < 1.6 * np.sqrt(truth.sum() / np.pi)
        inside, outside = (np.median(example.image[part], axis=0) for part in (truth, near & ~truth))
        return np.abs(inside - outside).max()

    by_group = {g: drawn[i :: len(GROUPS)] for i, g in enumerate(GROUPS)}
    contrasts = {g: np.median([contrast(e) for e in examples]) for g, examples in by_group.items()}
    assert contrasts["low_contrast"] < 0.5 * contrasts["clean"]
    corners = {g: np.median([e.image[:12, :12].mean() for e in by_group[g]]) for g in ("clean", "dark_corner")}
    assert corners["dark_corner"] < 0.6 * corners["clean"]
    shadows = [synthetic._shadow(np.random.Generator(np.random.PCG64(seed))) for seed in range(20)]
    assert all(s.min() == 0 and 0.03 < np.mean(s > 0.2) < 0.5 for s in shadows)


def test_pictures_are_those_of_the_version():
    """If broken, the pictures have changed under the same version; raise `VERSION` and renew these numbers.

    The tolerance is for platforms whose last digits differ; a change of the drawing moves all of them by more.
    """
    assert synthetic.VERSION == "1"
    for (split, index), expected in PINNED.items():
        image, mask = synthetic.example(split, index)
        np.testing.assert_allclose((mask.mean(), *image.mean(axis=(0, 1))), expected, rtol=2e-3)


def test_skin_is_of_many_tones(drawn):
    """If broken, the set has fair skin only, and a fixed brightness separates lesions."""
    tones = [np.median(image[mask[..., 0] == 0].astype(float).mean(axis=-1)) for image, mask in drawn]
    assert np.percentile(tones, 10) < 80
    assert np.percentile(tones, 90) > 150
