"""The input pipeline: every image once an epoch, any step reproducible, shards disjoint, the tail padded."""

import numpy as np
import pytest

from jaxseg.config import DataConfig
from jaxseg.data import Example, Examples, pipeline
from jaxseg.errors import UserError

CONFIG = DataConfig(image_size=32, workers=2)


def numbered(count: int, loaded: list[int] | None = None) -> Examples:
    """Returns images whose pixels are their number, of odd sizes."""

    def load(i: int) -> Example:
        if loaded is not None:
            loaded.append(i)
        mask = np.zeros((20 + i, 50, 1), np.uint8)
        mask[: 10 + i // 2] = 1
        return Example(np.full((20 + i, 50, 3), i, np.uint8), mask)

    return Examples("test", "train", tuple(map(str, range(count))), ("",) * count, load)


def numbers(batches) -> list[list[int]]:
    return [[int(image[0, 0, 0]) for image in batch["image"]] for batch in batches]


def train(count=10, first=0, last=5, **kwargs):
    examples = pipeline.ResizedExamples(numbered(count), CONFIG)
    settings = {"batch_size": 4, "seed": 3, **kwargs}
    return numbers(pipeline.train_batches(examples, CONFIG, first_step=first, last_step=last, **settings))


def test_an_epoch_holds_no_image_twice_and_epochs_differ():
    """Broken: shuffling draws with replacement, or every epoch has the same order."""
    batches = train(count=8, last=6)
    epochs = [sorted(batches[i] + batches[i + 1]) for i in (0, 2, 4)]
    assert epochs == [list(range(8))] * 3
    assert batches[:2] != batches[2:4] != batches[4:]


def test_a_batch_depends_on_seed_and_step_alone():
    """Broken: a resumed run sees other images than an uninterrupted one."""
    assert train(first=3) == train()[3:]
    assert train() == train()
    assert train() != train(seed=4)


def test_processes_share_every_batch():
    """Broken: two processes train on the same images, or skip some."""
    whole = train(count=16)
    shares = [train(count=16, shard=(p, 2)) for p in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole


def test_evaluation_counts_each_image_once():
    """Broken: the last, incomplete batch is dropped or counted double."""
    examples = pipeline.ResizedExamples(numbered(10), CONFIG)
    batches = list(pipeline.eval_batches(examples, CONFIG, batch_size=4))
    valid = np.concatenate([b["valid"] for b in batches])
    assert [len(b["image"]) for b in batches] == [4, 4, 4]
    assert valid.tolist() == [True] * 10 + [False] * 2
    assert [n for batch in numbers(batches) for n in batch][:10] == list(range(10))
    assert not batches[-1]["mask"][2:].any()


def test_processes_share_the_evaluation():
    """Broken: two processes score the same images, or skip some."""
    examples = pipeline.ResizedExamples(numbered(10), CONFIG)
    counted = []
    for process in range(2):
        for batch in pipeline.eval_batches(examples, CONFIG, batch_size=4, shard=(process, 2)):
            assert len(batch["image"]) == 2
            counted += [int(image[0, 0, 0]) for image in batch["image"][batch["valid"]]]
    assert sorted(counted) == list(range(10))


def test_images_and_masks_are_resized():
    """Broken: the network gets another size, or a mask with values between 0 and 1."""
    batch = pipeline.ResizedExamples(numbered(3), CONFIG).batch(np.arange(3))
    assert batch["image"].shape == (3, 32, 32, 3)
    assert batch["image"].dtype == batch["mask"].dtype == np.uint8
    assert set(np.unique(batch["mask"])) == {0, 1}
    assert batch["mask"][0].mean() == pytest.approx(0.5, abs=0.05)


def test_images_are_decoded_once_if_memory_allows():
    """Broken: every epoch decodes again, or the cache grows beyond its limit."""
    for limit, expected in ((4096, 3), (0, 6)):
        loaded: list[int] = []
        config = DataConfig(image_size=32, cache_mib=limit)
        examples = pipeline.ResizedExamples(numbered(3, loaded), config)
        for _ in range(2):
            examples.batch(np.arange(3))
        assert len(loaded) == expected


def test_fewer_images_than_a_batch():
    """Broken: the run trains zero steps an epoch and reports a loss of nothing."""
    assert pipeline.steps_per_epoch(160, 16) == 10
    assert pipeline.steps_per_epoch(7, 3) == 2
    with pytest.raises(UserError, match="more than the 3 training images; use 3 or fewer"):
        pipeline.steps_per_epoch(3, 4)
