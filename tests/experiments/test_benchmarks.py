"""The benchmark scripts: they run, on a tiny network; nothing here looks at how fast anything is."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from experiments.benchmarks import table
from experiments.benchmarks.measuring import PARTS
from experiments.benchmarks.worker import Worker, WorkerError
from experiments.benchmarks.workers import compile_ahead
from experiments.benchmarks.workers.timed_job import Timeline
from experiments.shared.tables import per_second, spread
from tests.helpers.paths import ROOT


def run(script, out, *more):
    # One device, as a benchmark finds it.
    env = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"experiments.benchmarks.{script}", "--quick", "--out", out, *more]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.json")
    assert path.with_suffix(".md").read_text().startswith("| ")
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    result = json.loads(path.read_text())
    assert {"command", "commit", "date", "hardware", "versions"} < set(result)
    assert result["quick"]
    rows = list(table.BENCHMARKS[path.stem.rpartition("_")[0]](result))
    assert all(len(cells) == 3 for cells in rows), rows
    assert rows
    return result


@pytest.mark.slow
def test_step(tmp_path):
    """If broken, the bare steps, their cost by XLA or the device's limits are not measured."""
    result = run("step", tmp_path)
    for case in result["cases"]:
        for what in ("train", "predict"):
            step = case[what]
            assert step["images_per_second"]["rounds"] == 2
            assert min(step["flops"], step["bytes"], step["compile_seconds"], step["memory_bytes"]) > 0
            assert 0 < step["flop_share"] <= step["floor_share"]


@pytest.mark.slow
def test_job(tmp_path):
    """If broken, a function of the trainer that is wrapped from outside has another name, or its time goes nowhere."""
    result = run("job", tmp_path)
    for job in (result["job"], *result["growth"]):
        assert sum(job["seconds"].values()) == pytest.approx(job["total"])
        for part in ("compile", "checkpoint", "input wait", "validation", "step", "start-up"):
            assert job["seconds"][part] > 0, part
    assert len(result["job"]["epochs"]) == 2


@pytest.mark.slow
def test_start(tmp_path):
    """If broken, the start of training, of a prediction or of a command is not measured."""
    result = run("start", tmp_path)
    assert result["prediction"].keys() >= {"jax"}
    for by_cache in (result["training"], *result["prediction"].values()):
        assert set(by_cache) == {"cold", "warm"}
        assert min(seconds["median"] for seconds in by_cache.values()) > 0
    assert {"import", "help"} == set(result["commands"]["jaxseg.train"])


@pytest.mark.slow
def test_input(tmp_path):
    """If broken, the made set cannot be built or read, or the pipeline or the augmentation does not run alone."""
    result = run("input", tmp_path)
    assert result["input"]["made"]["images"] == 8
    assert set(result["input"]["made"]["pipeline"]) == {"0", "2"}
    assert result["augment"]["2"]["images_per_second"]["median"] > 0


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs PyTorch: pip install -e '.[peer]'")
def test_peer(tmp_path):
    """If broken, the frameworks do not take turns, or train different networks."""
    result = run("peer", tmp_path, "--peers", "torch")
    for played in result["matches"]:
        found = played["contestants"]
        assert {len(contestant["seconds_by_round"]) for contestant in found.values()} == {2}
        assert found["torch"]["parameters"] == found["jaxseg"]["parameters"]
        # XLA leaves out the products with padding, of which small images have many.
        assert found["jaxseg"]["flops"] == pytest.approx(found["torch"]["flops"], rel=0.15)
        assert found["jaxseg"]["ratio"]["median"] == 1


@pytest.mark.slow
def test_memory(tmp_path):
    """If broken, the memory of training is not noted epoch by epoch, or a missing PyTorch ends the measurement."""
    result = run("memory", tmp_path)
    ours, *peers = result["cases"]
    assert len(ours["resident_bytes"]) == ours["steps"] == 6
    assert max(ours["resident_bytes"]) < 1.01 * ours["peak_process_bytes"]  # Linux counts both inexactly
    for case in peers:
        if "failed" in case:
            assert case["failed"].startswith("not installed")
        else:
            assert len(case["resident_bytes"]) == case["steps"] - 1


@pytest.mark.slow
@pytest.mark.parametrize(("target", "compiler"), [("h100", "jax_cuda12_plugin"), ("v5e", "libtpu")])
def test_ahead(tmp_path, target, compiler):
    """If broken, the steps do not compile for a GPU or a TPU, or their cost is not found."""
    if not importlib.util.find_spec(compiler):
        pytest.skip(f"needs the compiler for {target}: pip install -e '.[gpu]' or '.[tpu]'")
    result = run("ahead", tmp_path, "--targets", target)
    for what in ("train", "predict"):
        step = result["cases"][0][what]
        assert min(step[name] for name in ("compile_seconds", "flops", "bytes", "kernels", "memory_bytes")) > 0
    assert result["cases"][0]["train"]["flops"] > result["cases"][0]["predict"]["flops"]


def test_kernels_are_counted():
    """If broken, what starts nothing is counted, an asynchronous operation twice, or what a kernel is made of."""
    module = """HloModule m

%inside (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %n = f32[2]{0} negate(%p)
}

ENTRY %main (a: f32[2]) -> (f32[2], f32[2]) {
  %a = f32[2]{0} parameter(0)
  %copy-start.1 = (f32[2]{0}, f32[2]{0}, u32[]) copy-start(%a)
  fusion.1 = f32[2]{0:T(8,128)S(1)} fusion(%a), kind=kLoop, calls=%inside
  %conv = (f32[2]{0}, u8[0]{0}) custom-call(%a, %fusion.1), custom_call_target="__cudnn$convForward"
  %part = f32[2]{0} get-tuple-element(%conv), index=0
  %copy-done.1 = f32[2]{0} copy-done(%copy-start.1)
  ROOT %out = (f32[2]{0}, f32[2]{0}) tuple(%part, %copy-done.1)
}
"""
    assert compile_ahead.kernels(module) == 3


def test_a_worker_answers_and_fails_in_a_line(tmp_path, monkeypatch):
    """If broken, a case that runs out of memory ends the whole benchmark, or printed text is taken for an answer."""
    (tmp_path / "half.py").write_text(
        "import sys\n"
        "from experiments.benchmarks.worker import serve\n"
        "def answer(number):\n"
        "    print('noise')\n"
        "    if number == 'exit': sys.exit(3)\n"
        "    return {'half': 1 / number}\n"
        "serve(answer)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Worker("half") as worker:
        assert worker.ask(number=2) == {"half": 0.5}
        with pytest.raises(WorkerError, match="ZeroDivisionError: division by zero"):
            worker.ask(number=0)
        assert worker.ask(number=4) == {"half": 0.25}
        with pytest.raises(WorkerError, match="exit code 3"):
            worker.ask(number="exit")


def test_the_split_adds_up():
    """If broken, a moment within two parts is counted twice, goes to the wrong one, or is lost."""
    timeline = Timeline()
    for name, began, ended in [
        ("start-up", 0, 4),
        ("compile", 1, 2),
        ("step", 5, 10),
        ("compile", 5, 7),
        ("compile", 5, 6),  # within the one before
        ("input wait", 8, 9),
        ("checkpoint", 11, 20),  # goes on after the end
    ]:
        timeline.add(name, began, ended)
    split = timeline.split(0, 12)
    assert sum(split.values()) == 12
    assert [split[part] for part in PARTS] == [3, 1, 1, 0, 2, 3, 2]


def test_the_table_tells_what_was_not_run(tmp_path, monkeypatch):
    """If broken, RESULTS.md shows a quick run's numbers, or is silent about a device that was not measured."""
    (tmp_path / "step_cpu.json").write_text(json.dumps({"quick": True}))
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    rows = table.table().splitlines()[2:]
    assert [row.rpartition("not run | ")[2] for row in rows] == ["CPU |", "GPU |", "TPU |"]
    assert [row.count("`benchmarks.") for row in rows] == [7, 5, 5]  # compiled ahead, and memory: on a CPU alone


def test_spreads():
    """If broken, rates are taken from the wrong end of the seconds' spread."""
    seconds = spread([4.0, 1.0, 2.0])
    assert seconds == {"median": 2.0, "quartiles": [1.5, 3.0], "range": [1.0, 4.0], "rounds": 3}
    assert per_second(6, seconds) == {
        "median": 3.0,
        "quartiles": [2.0, 4.0],
        "range": [1.5, 6.0],
        "rounds": 3,
    }
