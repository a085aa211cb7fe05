"""What commands set in their process: the second start finds compiled programs, and cores are devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxseg.system import machine
from tests.helpers.programs import run


def test_compiled_programs_are_found_again(tmp_path):
    """If broken, every start compiles for minutes what the last one has compiled."""
    program = """if True:
        import jax
        from jaxseg.system import startup
        startup.keep_compiled_programs()
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        hits = []
        jax.monitoring.register_event_listener(lambda event, **_: hits.append(event.endswith("/cache_hits")))
        jax.jit(lambda x: x * 2 + 1)(1.0)
        print(sum(hits), jax.config.jax_compilation_cache_dir)
    """
    first, second = (run(program, XDG_CACHE_HOME=str(tmp_path)).split() for _ in range(2))
    assert int(first[0]) == 0 < int(second[0])
    assert second[1].startswith(str(tmp_path / "jaxseg"))


def test_without_a_place_for_them_programs_are_not_kept():
    """If broken, on a cluster whose home folders cannot be written, each program brings a warning or a traceback."""
    program = (
        "import jax; from jaxseg.system import startup; startup.tune(); print(jax.config.jax_compilation_cache_dir)"
    )
    assert run(program, XDG_CACHE_HOME="/proc/nowhere") == "None\n"


def test_a_cache_folder_of_the_users_choice_is_kept(tmp_path):
    """If broken, JAX's own variable is overruled, and programs land in the home folder of a shared machine."""
    program = (
        "import jax; from jaxseg.system import startup; startup.keep_compiled_programs();"
        "print(jax.config.jax_compilation_cache_dir)"
    )
    assert run(program, JAX_COMPILATION_CACHE_DIR=str(tmp_path)).strip() == str(tmp_path)


def test_other_processors_have_other_folders(monkeypatch):
    """If broken, a home folder that machines share gives one of them programs that crash on its processor."""
    here = machine.cache_folder()
    monkeypatch.setattr(machine, "processor", lambda: "another")
    assert machine.cache_folder() != here


def devices_of(program: str, **environment: str) -> list[int]:
    """Runs a program as on a machine of four cores, where nothing else says how many devices there are."""
    head = "import jax; from jaxseg.system import machine, startup; machine.cores = lambda: 4; "
    return [int(word) for word in run(head + program, **{"XLA_FLAGS": "", **environment}).split()]


def test_cores_are_devices():
    """If broken, a CPU takes a tenth longer for a step; or a number of devices that the user asked for is overruled."""
    told = "startup.tune(); print(jax.local_device_count())"
    assert devices_of(told) == [4]
    assert devices_of(told, XLA_FLAGS="--xla_force_host_platform_device_count=3") == [3]
    assert devices_of(told, JAX_NUM_CPU_DEVICES="2") == [2]
    assert devices_of(told, JAXSEG_PROCESSES="127.0.0.1:1,0,2") == [1]


def test_a_program_that_has_begun_keeps_its_devices():
    """If broken, a command that is called from a notebook ends in JAX's error."""
    assert devices_of("jax.devices(); startup.tune(); print(jax.local_device_count())") == [1]


def test_a_batch_need_not_divide_by_the_cores():
    """If broken, the paper's batch of 16 is refused on a machine of six cores, or is spread too thin."""
    program = """
from jaxseg.steps import all_devices, pick_devices
print(*(len(all_devices(batch)) for batch in (1, 8, 13, 16, 24, 64)), len(pick_devices(3, 9)), len(pick_devices(0, 16)))
"""
    assert devices_of(program, JAX_NUM_CPU_DEVICES="6") == [1, 2, 1, 4, 6, 4, 3, 4]
    # A number of devices set by the user is kept.
    forced = {"XLA_FLAGS": "--xla_force_host_platform_device_count=6"}
    assert devices_of("from jaxseg.steps import all_devices; print(len(all_devices(16)))", **forced) == [6]


@pytest.mark.parametrize(("platform", "code"), [("cuda", 2), ("cpu", 0)])
def test_a_platform_that_is_not_there_is_told_in_a_line(platform, code):
    """If broken, JAX_PLATFORMS=cuda on a machine without a GPU ends every command in a traceback."""
    program = """if True:
        from jaxseg import cli
        from jaxseg.system import startup
        cli.run("train", startup.tune)
    """
    environment = {**os.environ, "JAX_PLATFORMS": platform, "CUDA_VISIBLE_DEVICES": ""}
    if platform == "cuda" and Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    if code:
        (line,) = done.stderr.splitlines()
        assert "JAX_PLATFORMS = 'cuda': JAX finds no such device here" in line
        assert "JAX_PLATFORMS=cpu" in line
