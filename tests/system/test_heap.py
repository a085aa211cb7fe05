"""Memory that the C library keeps is kept for the next step, and given back when it is held in vain."""

import ctypes.util
import platform
from pathlib import Path

import pytest

from jaxseg.system import heap
from tests.helpers.programs import run

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")


def test_freed_memory_is_kept():
    """If broken, every training step on a CPU requests gigabytes from the kernel again."""
    program = """if True:
        import threading
        import numpy as np
        from jaxseg.system import heap
        {}
        def work():  # as XLA does: not in the main thread
            np.ones(2**26)
        thread = threading.Thread(target=work); thread.start(); thread.join()
        print(heap.resident_bytes())
    """
    block = 8 * 2**26
    assert int(run(program.format(""))) < block
    assert int(run(program.format("heap.keep_freed_memory()"))) > block


STEPS = """if True:
    import numpy as np
    from jaxseg.system import heap
    heap.keep_freed_memory()
    heap.FIRST_STEPS, heap.PATIENCE = 2, 3
    heap.available_bytes = lambda: left
    left = 2**40
    memory = heap.HeldMemory()
    kept = []
    def held_after(call, mebibytes):
        held = [np.ones(2**17 * mebibytes)]
        kept.append(np.ones(2**17))  # settles behind, so that the next block is a new one
        before = heap.resident_bytes()
        print(int(call(held.clear)), before >> 20, heap.resident_bytes() >> 20)
    def after_step(mebibytes):
        held_after(memory.after_step, mebibytes)
    def after_validation_batch(mebibytes):
        held_after(memory.after_validation_batch, mebibytes)
    def after_epoch(mebibytes):
        def ended_before(ended):
            ended()
            return memory.between_epochs()
        held_after(ended_before, mebibytes)
"""
"""A program's beginning: steps and epochs that take a block of some MiB, and free it."""


def given_back(program: str) -> list[int]:
    """Runs `STEPS` and a program; returns for each call whether memory was given back, which must have an effect."""
    lines = [[int(word) for word in line.split()] for line in run(STEPS + program).splitlines()]
    for gave, before, after in lines:
        assert before - after > 150 if gave else abs(before - after) < 5
    return [gave for gave, _, _ in lines]


def test_memory_that_no_step_needs_is_given_back():
    """If broken, a run takes two to three times the memory that its steps need."""
    program = """
    for mebibytes in (200, 200, 200, 600, 200, 600, 200, 200):
        after_step(mebibytes)
    """
    # After the first two, whatever they hold; then once one has held more, but not within three steps.
    assert given_back(program) == [1, 1, 0, 0, 1, 0, 0, 1]


def test_between_epochs_memory_is_given_back_at_once():
    """If broken, what validation and a checkpoint took is held in vain until some later step."""
    program = """
    after_epoch(200)
    for mebibytes in (200, 200, 200):
        after_step(mebibytes)
    for mebibytes in (200, 600, 200):
        after_epoch(mebibytes)
    """
    # At the start, too: much of what it took is needed no more.
    assert given_back(program) == [1, 1, 1, 0, 0, 1, 0]


def test_what_validation_has_freed_is_no_need_of_a_step():
    """If broken, a run of short epochs takes a need for granted that no step has, and holds a half more than that."""
    program = """
    after_step(200)
    after_epoch(160)
    for mebibytes in (200, 400, 100, 100):
        after_step(mebibytes)
    """
    assert given_back(program) == [1, 1, 1, 0, 0, 1]


def test_what_a_checkpoint_holds_is_no_need_of_a_step():
    """If broken, a run of short epochs takes the need of a step for larger by what a checkpoint copies."""
    program = """
    after_step(200)
    checkpoint = [np.ones(2**17 * 160)]
    after_epoch(200)
    held_after(lambda clear: memory.after_step(lambda: (checkpoint.clear(), clear())), 200)
    for mebibytes in (400, 100, 100, 100):
        after_step(mebibytes)
    """
    assert given_back(program) == [1, 1, 1, 0, 0, 1, 0]


def test_what_many_batches_of_validation_hold_is_given_back():
    """If broken, validation on a thousand images takes ten times the memory of a step, before an epoch ends."""
    program = """
    for mebibytes in (200, 200):
        after_step(mebibytes)
    for mebibytes in (200, 200, 600, 200, 600):
        after_validation_batch(mebibytes)
    """
    assert given_back(program) == [1, 1, 0, 0, 1, 0, 1]


def test_where_memory_is_short_it_is_given_back_at_once():
    """If broken, a step whose blocks are not found again takes new ones until the kernel ends the process."""
    program = """
    left = 2**20
    for mebibytes in (200, 200, 200, 600, 200):
        after_step(mebibytes)
    """
    assert given_back(program) == [1, 1, 0, 1, 0]


def test_what_is_left_is_that_of_the_machine_or_of_a_group_with_less(monkeypatch, tmp_path):
    """If broken, a container's limit is not seen, and the kernel ends a training that could have gone on."""
    groups = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    if not groups:
        pytest.skip("the system has no control groups of version 2")
    group = tmp_path / groups[0].lstrip("/")
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text("5000\n")
    (group / "memory.current").write_text("4000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 70\n")
    monkeypatch.setattr(heap, "_GROUPS", tmp_path)
    assert heap.available_bytes() == 1070
    (group / "memory.max").write_text("max\n")
    assert heap.available_bytes() > 10**6


def test_where_the_system_does_not_tell_nothing_is_done(monkeypatch):
    """If broken, training ends in an error on macOS, or under musl."""
    monkeypatch.setattr(heap, "_allocator", lambda: None)
    memory = heap.HeldMemory()
    assert not memory.after_step(pytest.fail)
    assert not memory.after_validation_batch(pytest.fail)
    assert not memory.between_epochs()
    assert heap.keep_freed_memory() is None


def test_jemalloc_is_told_the_same():
    """If broken, training steps under jemalloc request gigabytes from the kernel each, or none are ever given back."""
    library = ctypes.util.find_library("jemalloc")
    if library is None:
        pytest.skip("jemalloc is not installed")
    program = """if True:
        import numpy as np
        from jaxseg.system import heap
        {}
        np.ones(2**26)
        before = heap.resident_bytes()
        heap.HeldMemory().between_epochs()
        print(before, heap.resident_bytes())
    """
    block = 8 * 2**26
    (freed, _), (kept, left) = (
        map(int, run(program.format(call), LD_PRELOAD=library).split()) for call in ("", "heap.keep_freed_memory()")
    )
    assert freed < block < kept
    assert left < block
