"""Steps of large networks are compiled in a process of their own, and by the asking one where that does not work."""

import json
import subprocess
import sys

import pytest

from jaxseg.config import Config
from jaxseg.steps import Steps
from jaxseg.system.devices import pick_devices
from jaxseg.training import apart
from tests.helpers.programs import run

PROGRAM = """if True:
    import json
    import jax
    import numpy as np
    from jaxseg.config import Config
    from jaxseg.steps import Steps, create_train_state
    from jaxseg.system import kept_programs, startup
    from jaxseg.system.devices import pick_devices
    from jaxseg.training import apart
    kept_programs._applies = lambda: True  # as in `python -m jaxseg.train`
    apart.FEWEST_PARAMETERS = 0
    startup.tune()
    {change}
    own = []
    compile = jax.stages.Lowered.compile
    jax.stages.Lowered.compile = lambda lowered: own.append(1) or compile(lowered)
    config = Config.from_dict(json.loads({config!r}))
    steps = Steps(config, pick_devices(0, config.train.batch_size))
    steps.compile_train(config, apart.compiler("train", config, steps, config.train.batch_size))
    steps.compile_evaluate(config, 4, apart.compiler("evaluate", config, steps, 4))
    compiled_here = len(own)
    batch = steps.shard({{
        name: np.ones((shape.shape[0] * shape.shape[1], *shape.shape[2:]), shape.dtype)
        for name, shape in steps.batch_shapes(config, 4).items()
    }})
    state = steps.replicate(create_train_state(jax.random.key(0), config))
    rest = jax.random.key_data(jax.random.key(1)), np.float32(0.1)
    state, metrics = steps.train(state, batch, *map(steps.replicate, rest))
    sums = steps.evaluate(state.variables, batch)
    print(json.dumps([compiled_here, float(metrics["loss"]), float(metrics["grad_norm"]), float(sums["loss"])]))
"""


def answers(tmp_path, config: Config, change: str = "") -> list[float]:
    """Returns how many programs the asking process compiled, and what the steps gave."""
    program = PROGRAM.format(config=json.dumps(config.to_dict()), change=change)
    return json.loads(run(program, JAX_COMPILATION_CACHE_DIR=str(tmp_path)))


@pytest.fixture
def small(tiny) -> Config:
    """Returns settings of batches of four."""
    return tiny.updated({"train.batch_size": 4})


def test_another_process_compiles_the_same_program(tmp_path, small):
    """If broken, the process that trains compiles, and its steps take up to 20 % longer; or its numbers change."""
    here = answers(tmp_path / "a", small, "kept_programs._applies = lambda: False")
    there = answers(tmp_path / "b", small)
    assert (here[0], there[0]) == (2, 0)
    assert there[1:] == here[1:]


@pytest.mark.parametrize(
    "change", ["apart.sys.executable = '/nowhere/python'", "jax.config.update('jax_enable_checks', True)"]
)
def test_what_no_other_process_compiles_this_one_does(tmp_path, small, change):
    """If broken, a run does not start where the other process fails, or would compile another program."""
    assert answers(tmp_path, small, change)[0] == 2


def test_the_other_process_ends_with_the_run():
    """If broken, a run that is killed while it waits leaves a process that compiles for a minute."""
    surroundings = (
        "from jaxseg.system import kept_programs, startup; startup.tune(); print(kept_programs.surroundings())"
    )
    given = {"devices": 1, "batch_size": 16, "surroundings": run(surroundings).strip()}  # else it would end at once
    call = [sys.executable, "-m", apart.__name__]
    with subprocess.Popen(call, stdin=subprocess.PIPE, text=True) as process:
        process.stdin.write(json.dumps({"step": "train", "config": Config().to_dict(), **given}) + "\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):  # it compiles
            process.wait(timeout=2)
        process.stdin.close()
        assert process.wait(timeout=60) == 1


def test_small_networks_are_compiled_at_once(tiny):
    """If broken, the start of a small network waits for another process that takes longer than its compilation."""
    steps = Steps(tiny, pick_devices(1, tiny.train.batch_size))
    assert apart.compiler("train", tiny, steps, tiny.train.batch_size) is None
    assert apart.compiler("train", Config(), Steps(Config(), steps.devices), 16) is not None
