"""Programs kept between processes: found without tracing, the same to the last bit, and only where that is safe."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseg
from jaxseg.system import kept_programs
from tests.helpers.runs import flags, results


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Yields the folder of kept programs of this test alone, in a process that counts as one of jaxseg's commands."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "programs"))
    monkeypatch.setattr(kept_programs, "_applies", lambda: True)
    # What comes out of JAX's cache is not kept. The suite's cache takes all that compiles for long enough, on a slow
    # machine even `Traced`, which the next test would get from there.
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float("inf"))
    yield tmp_path / "programs" / "programs"
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


class Traced:
    """A function of three numbers, jitted anew for each use, that counts how often it is traced."""

    def __init__(self, factor: float = 2.0):
        self.times, self.factor = 0, factor

    def __call__(self, x: jax.Array) -> jax.Array:
        """Doubles."""
        self.times += 1
        return self.factor * x

    def compiled(self, parts: dict | None = None, device: int = 0) -> jax.stages.Compiled:
        """Returns this function compiled for one device, or one kept before."""
        at = jax.local_devices()[device]
        shape = jax.ShapeDtypeStruct((3,), jnp.float32, sharding=jax.sharding.SingleDeviceSharding(at))
        function = jax.jit(lambda x: self(x))
        return kept_programs.compiled("double", parts or {}, function, shape, result=0, devices=[at])


def test_a_kept_program_is_used_without_tracing(folder):
    """If broken, programs are kept and never found: each start is as slow as the first; or they compute otherwise."""
    first, second = Traced(), Traced()
    expected = first.compiled()(jnp.arange(3.0))
    np.testing.assert_array_equal(second.compiled()(jnp.arange(3.0)), expected)
    assert (first.times, second.times) == (1, 0)
    assert len(list(folder.iterdir())) == 2  # the program, and a name for it


def test_code_that_lowers_to_the_same_program_need_not_compile_it(folder, monkeypatch):
    """If broken, the first start of a newer jaxseg compiles for half a minute what the older one has left."""
    expected = Traced().compiled()(jnp.arange(3.0))
    newer = Traced()
    monkeypatch.setattr(jaxseg, "__version__", "9.9")
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_: pytest.fail("compiled again"))
    np.testing.assert_array_equal(newer.compiled()(jnp.arange(3.0)), expected)
    assert newer.times == 1


def test_other_settings_devices_and_flags_have_other_programs(folder, monkeypatch):
    """If broken, a run gets the program of other settings, or one that runs on another device."""
    functions = [Traced() for _ in range(5)]
    functions[0].compiled()
    functions[1].compiled({"image_size": 64})
    assert functions[2].compiled(device=1)(jax.device_put(jnp.arange(3.0), jax.local_devices()[1])).devices() == {
        jax.local_devices()[1]
    }
    monkeypatch.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} --xla_cpu_enable_fast_math=true")
    functions[3].compiled()
    with jax.numpy_dtype_promotion("strict"):
        functions[4].compiled()
    assert [function.times for function in functions] == [1] * 5


def test_a_notebook_keeps_and_finds_nothing(tmp_path, monkeypatch):
    """If broken, code that a notebook or a test puts in the place of jaxseg's is replaced by what was kept before."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    functions = [Traced(2.0), Traced(3.0)]
    assert [float(function.compiled()(jnp.ones(3))[0]) for function in functions] == [2, 3]
    made = iter((1, 2))
    assert [kept_programs.value("number", {}, lambda: next(made)) for _ in range(2)] == [1, 2]
    assert not list(tmp_path.iterdir())


def test_a_result_of_another_form_keeps_its_names(folder):
    """If broken, code that names a result anew gets the program kept before, with the old name."""
    at = jax.local_devices()[:1]
    for name in ("old", "new"):
        function = jax.jit(lambda x, name=name: {name: 2 * x})
        made = kept_programs.compiled(name, {}, function, jnp.ones(3), result={"old": 0}, devices=at)
        assert list(made(jnp.ones(3))) == [name]


def test_a_program_for_each_shape(folder):
    """If broken, a last batch of another size meets the program of the others; or each call loads a program."""
    functions = [Traced(), Traced()]
    devices = jax.local_devices()[:1]
    for function in functions:
        doubled = kept_programs.by_shape("double", {}, jax.jit(lambda x, f=function: f(x)), result=0, devices=devices)
        for size in (2, 3, 2, 3):
            np.testing.assert_array_equal(doubled(jnp.ones(size)), np.full(size, 2))
    assert doubled.lower(jnp.ones(2)).cost_analysis()
    assert [function.times for function in functions] == [2, 1]  # once for its cost


def test_values_are_kept(folder):
    """If broken, the shapes of a state are traced in each start."""
    assert kept_programs.value("shape", {}, lambda: {"a": [3]}) == {"a": [3]}
    assert kept_programs.value("shape", {}, lambda: pytest.fail("made again")) == {"a": [3]}


def test_a_program_from_the_cache_of_jax_is_not_kept(tmp_path):
    """If broken, XLA writes a program that it read, which then fails in its first step: functions are missing."""
    program = """
import sys
import jax, jax.numpy as jnp
from jaxseg.system import kept_programs
kept_programs._applies = lambda: sys.argv[1] == "keeps"
function = jax.jit(lambda x: jnp.sort(jnp.sin(x)) @ jnp.tan(x))
shape = jax.ShapeDtypeStruct((64,), jnp.float32)
compiled = kept_programs.compiled("f", {}, function, shape, result=0, devices=jax.local_devices()[:1])
print(float(compiled(jnp.arange(64.0))))
"""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    told = []
    for keeps in ("not", "keeps"):
        call = [sys.executable, "-c", program, keeps]
        told.append(subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout)
        assert any(path.name.endswith("-cache") for path in tmp_path.iterdir())
        assert not (tmp_path / "programs").exists()
    assert told[0] == told[1]


def test_the_second_run_takes_the_programs_of_the_first(tiny, tmp_path):
    """If broken, `jaxseg.train` compiles in each start, or trains otherwise with a program that was kept."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    kept = []
    for name in ("first", "second"):
        call = [sys.executable, "-m", "jaxseg.train", "--workdir", str(tmp_path / name), *flags(tiny)]
        subprocess.run(call, env=environment, capture_output=True, check=True)
        kept.append({path.name: path.stat().st_size for path in (tmp_path / "cache" / "programs").iterdir()})
    # The shapes of a state; its random values, the steps of training and validation, each with a name.
    assert len(kept[0]) == 1 + 2 * 3
    assert kept[1] == kept[0]
    assert results(tmp_path / "first") == results(tmp_path / "second")
