"""The input pipeline: every image once an epoch, any step reproducible, shards disjoint, the tail padded."""

import dataclasses

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
    """If broken, shuffling draws with replacement, or every epoch has the same order."""
    batches = train(count=8, last=6)
    epochs = [sorted(batches[i] + batches[i + 1]) for i in (0, 2, 4)]
    assert epochs == [list(range(8))] * 3
    assert batches[:2] != batches[2:4] != batches[4:]


def test_a_batch_depends_on_seed_and_step_alone():
    """If broken, a resumed run sees other images than an uninterrupted one."""
    assert train(first=3) == train()[3:]
    assert train() == train()
    assert train() != train(seed=4)


def test_drawn_images_leave_their_places_empty():
    """If broken, drawn images replace real ones, which an epoch then lacks, or images are loaded for nothing."""
    batches = train(count=6, last=6, drawn=1)
    assert all(batch[3] == 0 for batch in batches)  # the place of the one drawn image of four
    for epoch in (batches[:2], batches[2:4], batches[4:]):
        assert sorted(number for batch in epoch for number in batch[:3]) == list(range(6))
    assert train(count=6, first=3, last=6, drawn=1) == batches[3:]
    loaded = []
    examples = pipeline.ResizedExamples(numbered(4, loaded), CONFIG)
    only_drawn = pipeline.train_batches(examples, CONFIG, batch_size=4, seed=3, first_step=0, last_step=3, drawn=4)
    assert [batch["image"].max() for batch in only_drawn] == [0, 0, 0]
    assert not loaded


def test_places_of_drawn_images_are_alike_on_every_device():
    """If broken, devices draw other images, or other numbers of them, than one device would."""
    places = pipeline.drawn_places(16, 12)
    assert places.sum() == 12
    np.testing.assert_array_equal(places.reshape(4, 4), [pipeline.drawn_places(4, 3)] * 4)
    assert not pipeline.drawn_places(4, 0).any()
    assert pipeline.drawn_places(4, 4).all()


def test_processes_share_every_batch():
    """If broken, two processes train on the same images, or skip some."""
    whole = train(count=16)
    shares = [train(count=16, shard=(p, 2)) for p in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole


def test_evaluation_counts_each_image_once():
    """If broken, the last, incomplete batch is dropped or counted double."""
    examples = pipeline.ResizedExamples(numbered(10), CONFIG)
    batches = list(pipeline.eval_batches(examples, CONFIG, batch_size=4))
    valid = np.concatenate([b["valid"] for b in batches])
    assert [len(b["image"]) for b in batches] == [4, 4, 4]
    assert valid.tolist() == [True] * 10 + [False] * 2
    assert [n for batch in numbers(batches) for n in batch][:10] == list(range(10))
    assert not batches[-1]["mask"][2:].any()


def test_processes_share_the_evaluation():
    """If broken, two processes score the same images, or skip some."""
    examples = pipeline.ResizedExamples(numbered(10), CONFIG)
    counted = []
    for process in range(2):
        for batch in pipeline.eval_batches(examples, CONFIG, batch_size=4, shard=(process, 2)):
            assert len(batch["image"]) == 2
            counted += [int(image[0, 0, 0]) for image in batch["image"][batch["valid"]]]
    assert sorted(counted) == list(range(10))


def test_images_and_masks_are_resized():
    """If broken, the network gets another size, or a mask with values between 0 and 1."""
    batch = pipeline.ResizedExamples(numbered(3), CONFIG).batch(np.arange(3))
    assert batch["image"].shape == (3, 32, 32, 3)
    assert batch["image"].dtype == batch["mask"].dtype == np.uint8
    assert set(np.unique(batch["mask"])) == {0, 1}
    assert batch["mask"][0].mean() == pytest.approx(0.5, abs=0.05)


def test_images_are_decoded_once_if_memory_allows():
    """If broken, every epoch decodes again, or the cache grows beyond its limit."""
    for limit, expected in ((4096, 3), (0, 6)):
        loaded: list[int] = []
        config = DataConfig(image_size=32, cache_mib=limit)
        examples = pipeline.ResizedExamples(numbered(3, loaded), config)
        for _ in range(2):
            examples.batch(np.arange(3))
        assert len(loaded) == expected


def test_files_that_change_while_they_are_used_are_told_of(heard):
    """If broken, a run trains on other images in its later epochs than its records name, and nobody learns of it."""
    stamps = ["a", "b", "c"]
    changing = dataclasses.replace(numbered(3), stamp=lambda index: stamps[index])
    examples = pipeline.ResizedExamples(changing, dataclasses.replace(CONFIG, cache_mib=0))
    for _ in range(2):
        examples.batch(np.arange(3))
    assert not heard.messages
    stamps[1:] = "d", "e"
    for _ in range(2):
        examples.batch(np.arange(3))
    assert [message[:19] for message in heard.messages] == ["test: files of 1, a"]


def test_fewer_images_than_a_batch():
    """If broken, the run trains zero steps an epoch and reports a loss of nothing."""
    assert pipeline.steps_per_epoch(160, 16) == 10
    assert pipeline.steps_per_epoch(7, 3) == 2
    assert pipeline.steps_per_epoch(160, 16, drawn=8) == 20
    assert pipeline.steps_per_epoch(160, 16, drawn=16) == 10
    with pytest.raises(UserError, match="more than the 3 training images; use 3 or fewer"):
        pipeline.steps_per_epoch(3, 4)
