"""The synthetic set: same pictures everywhere, honest masks, and too hard for a threshold."""

import collections
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxseg.config import DataConfig
from jaxseg.data import synthetic
from jaxseg.data.synthetic import GROUPS, HEIGHT, SPLITS, WIDTH, generate, synthetic_examples
from jaxseg.errors import UserError


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
        # A few pixels may hang on by a corner only, or be shut in between two prongs.
        assert reached_from(seed, region).sum() >= 0.99 * region.sum()
        skin = ~region
        assert skin.sum() - reached_from(border, skin).sum() <= 0.01 * region.sum()


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


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_leaves_its_mark(group):
    """If broken, an artefact that is promised is not drawn."""

    def draw(seed: int, name: str) -> np.ndarray:
        return generate(np.random.Generator(np.random.PCG64(seed)), name).image.astype(int)

    other = "hair" if group == "clean" else "clean"
    assert all(np.abs(draw(seed, group) - draw(seed, other)).max() > 20 for seed in range(3))


def test_skin_is_of_many_tones(drawn):
    """If broken, the set has fair skin only, and a fixed brightness separates lesions."""
    tones = [np.median(image[mask[..., 0] == 0].astype(float).mean(axis=-1)) for image, mask in drawn]
    assert np.percentile(tones, 10) < 80
    assert np.percentile(tones, 90) > 150
