"""The networks of a segmenter as JAX runs them: what a long prediction holds."""

import jax
import numpy as np

from jaxseg.inference import jax_runtime
from jaxseg.inference.segmenter import Segmenter


def test_memory_is_given_back_between_batches(tiny_run, monkeypatch):
    """If broken, evaluating or predicting many images piles up blocks of freed memory until the kernel ends it."""
    ended = []

    class Recorder:
        def after_step(self, wait):
            ended.append((id(self), jax.tree.leaves(wait())[0].is_ready()))

    monkeypatch.setattr(jax_runtime, "HeldMemory", Recorder)
    segmenter = Segmenter.load(tiny_run, batch_size=8)
    image = np.zeros((32, 32, 3), np.uint8)
    found = [tag for tag, _ in segmenter.stream((tag, image) for tag in range(24))]
    assert found == list(range(24))
    assert [ready for _, ready in ended] == [True, True, True]
    segmenter(image)  # a smaller batch, which needs less
    assert len({recorder for recorder, _ in ended}) == 2
