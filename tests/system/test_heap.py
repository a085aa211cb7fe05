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


def test_memory_held_in_vain_is_given_back():
    """If broken, a long run takes two to three times the memory that its steps need."""
    program = """if True:
        import numpy as np
        from jaxseg.system import heap
        heap.keep_freed_memory()
        memory = heap.HeldMemory()
        def step(mebibytes):
            np.ones(2**17 * mebibytes)
            before = heap.resident_bytes()
            print(int(memory.tidy()), before >> 20, heap.resident_bytes() >> 20)
        for mebibytes in (200, 200, 200, 600, 200):
            step(mebibytes)
    """
    lines = [[int(word) for word in line.split()] for line in run(program).splitlines()]
    # After the first epoch; not while the need stays the same; after it has grown, and then no more.
    assert [gave for gave, _, _ in lines] == [1, 0, 0, 1, 0]
    for gave, before, after in lines:
        assert before - after > 150 if gave else abs(before - after) < 5


def test_memory_of_the_first_steps_is_given_back():
    """If broken, a run holds up to three times what its steps need from the third step on."""
    program = """if True:
        import numpy as np
        from jaxseg.system import heap
        heap.keep_freed_memory()
        memory = heap.HeldMemory()
        steps = 0
        while memory.settling:
            np.ones(2**17 * 200)
            before = heap.resident_bytes()
            memory.settle()
            assert before - heap.resident_bytes() > 150 << 20
            steps += 1
        assert steps == heap.FIRST_STEPS
    """
    run(program)


def test_where_memory_is_short_only_what_is_in_use_is_held():
    """If broken, a step whose blocks are not found again takes new ones until the kernel ends the process."""
    program = """if True:
        import numpy as np
        from jaxseg.system import heap
        heap.keep_freed_memory()
        memory = heap.HeldMemory()
        heap.available_bytes = lambda: left
        def step(freed, used):
            blocks = [np.ones(2**17 * mebibytes) for mebibytes in (freed, used)]
            before = heap.resident_bytes()
            del blocks[0]
            print(int(memory.relieve()), before >> 20, heap.resident_bytes() >> 20)
            return blocks
        left = 2**40
        used = step(200, 100)
        left = 2**20
        used += step(200, 100)
        used += step(20, 1)
        used += step(200, 1)
    """
    lines = [[int(word) for word in line.split()] for line in run(program).splitlines()]
    # Not while there is enough; where there is not; not again before it has grown by a quarter.
    assert [gave for gave, _, _ in lines] == [0, 1, 0, 1]
    for gave, before, after in lines:
        assert before - after > 150 if gave else abs(before - after) < 5


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
    assert not heap.HeldMemory().tidy()
    assert not heap.HeldMemory().relieve()
    assert not heap.HeldMemory().settle()
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
        heap.HeldMemory().tidy()
        print(before, heap.resident_bytes())
    """
    block = 8 * 2**26
    (freed, _), (kept, left) = (
        map(int, run(program.format(call), LD_PRELOAD=library).split()) for call in ("", "heap.keep_freed_memory()")
    )
    assert freed < block < kept
    assert left < block
