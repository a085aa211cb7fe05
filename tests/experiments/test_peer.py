"""The comparison with other frameworks: who wins, what is missing, and that PyTorch has the same network."""

import functools
import re
import sys

import jax
import numpy as np
import pytest

from experiments.benchmarks import memory, peer, table
from experiments.benchmarks.contestants import CONTESTANTS, ENCODERS, OURS, RIVALS, WHAT, Contestant
from experiments.benchmarks.workers.contest import answering
from jaxseg.config import Config
from jaxseg.models import create_model


def played(**contestants):
    """Returns a match of training steps of resnet50v2, given the seconds of each contestant's rounds."""
    facts = {
        "first_step_seconds": 60.0,
        "peak_process_bytes": 2**30,
        "parameters": 28_156_993,
        "flops": 2e11,
        "versions": {"torch": "2.0"},
        "how": "eager, 2 threads",
    }
    found = {name.replace("_", "-"): {"seconds_by_round": times, **facts} for name, times in contestants.items()}
    return {"step": "train", "encoder": "resnet50v2", "contestants": found}


def test_the_best_of_each_group_is_judged_round_by_round():
    """If broken, jaxseg is compared with a slow rival, across rounds, or the wrong way round."""
    match = played(jaxseg=[1.0, 2.0, 4.0], torch=[3.0, 6.0, 12.0], torch_compiled=[1.1, 2.2, 8.0], smp=[1.0, 1.0, 1.0])
    match["contestants"]["keras-jax"] = {"failed": "not installed: keras"}
    judged = peer.judged(match, 8)
    assert [(best["rivals"], best["name"], best["aim"]) for best in judged["best"]] == [
        ("PyTorch", "torch-compiled", 1.2),
        ("segmentation_models_pytorch", "smp", None),
    ]
    ratio = judged["contestants"]["torch-compiled"]["ratio"]
    assert ratio["median"] == pytest.approx(1.1)
    assert ratio["range"] == pytest.approx([1.1, 2.0])
    assert judged["contestants"][OURS]["images_per_second"]["median"] == 4
    assert peer.aim(judged["best"][0], judged) == "1.2, missed"
    assert peer.aim(judged["best"][1], judged) == ""
    assert "ratio" not in judged["contestants"]["keras-jax"]


def test_an_aim_that_is_met_exactly_is_reached():
    """If broken, the tables say the opposite of what was measured."""
    judged = peer.judged(played(jaxseg=[1.0], torch=[1.2]), 8)
    assert peer.aim(judged["best"][0], judged) == "1.2, reached"


def test_tables_have_a_line_for_what_was_not_measured():
    """If broken, a peer that is not installed, or fails, is silently missing from the tables."""
    match = played(jaxseg=[1.0, 1.0], torch=[1.5, 1.5])
    match["contestants"] |= {
        "torch-compiled": {"failed": "InductorError: no C++ compiler"},
        "keras-jax": {"failed": "not installed: keras"},
    }
    result = {
        "batch_size": 8,
        "image_size": 224,
        "dtype": "float32",
        "rounds": 2,
        "steps_per_round": 3,
        "matches": [peer.judged(match, 8)],
    }
    lines = peer.tables(result).splitlines()
    assert "| train step | resnet50v2 | PyTorch | PyTorch, eager | 1.50 (1.50 to 1.50) | 1.2, reached |" in lines
    (keras,) = [line for line in lines if "Keras on JAX" in line]
    assert "not installed: keras" in keras
    heads = [line for line in lines if line.startswith("| Step")]
    assert keras.count("|") == heads[1].count("|")
    rows = list(table.peer_rows(result))
    assert [row[0] for row in rows] == [
        "Train step beside PyTorch",
        "Train step beside PyTorch, compiled",
        "Train step beside Keras on JAX",
    ]
    assert rows[0][2] == (
        "1.50 (1.50 to 1.50) times the rate of PyTorch, eager, the fastest, which is 5.33 (5.33 to 5.33) images/s; "
        "aim: 1.2, reached"
    )
    assert rows[2][1:] == ("resnet50v2, batch 8, 224 px, float32", "not installed: keras")


def test_a_match_goes_on_without_those_that_are_missing_or_fail(tmp_path, monkeypatch):
    """If broken, one peer that is not installed, or cannot be prepared, ends the measurement of all."""
    (tmp_path / "racer.py").write_text(
        "import os, sys\n"
        "from experiments.benchmarks.worker import serve\n"
        "from experiments.benchmarks.workers.contest import answering\n"
        "class Racer:\n"
        "    def __init__(self, step, encoder, dtype, batch_size, image_size, broken):\n"
        "        if broken: raise RuntimeError('no compiler')\n"
        "    def run(self, count):\n"
        "        if count == 2 and os.environ['HOW'] == 'tired': os._exit(9)\n"
        "    def facts(self): return {'parameters': 1, 'how': os.environ['HOW']}\n"
        "serve(answering(Racer))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(Contestant, "module", property(lambda self: self.worker))
    racer = functools.partial(Contestant, worker="racer", needs=(), env={"HOW": "on foot"})
    racers = {
        OURS: racer("ours", options={"broken": False}),
        "broken": racer("broken", options={"broken": True}),
        "tired": racer("tired", options={"broken": False}, env={"HOW": "tired"}),
        "absent": Contestant("absent", "racer", ("json", "no_such_package")),
    }
    monkeypatch.setattr(peer, "CONTESTANTS", racers)
    missing = {name: racer.missing(sys.executable) for name, racer in racers.items()}
    assert missing == {OURS: [], "broken": [], "tired": [], "absent": ["no_such_package"]}
    shape = {"encoder": "resnet50", "dtype": "float32", "batch_size": 2, "image_size": 32}
    found = peer.match("train", shape, list(racers), missing, sys.executable, rounds=3, steps=2)["contestants"]
    assert found["broken"] == {"failed": "RuntimeError: no compiler"}
    assert found["tired"]["failed"] == "the process died with exit code 9"
    assert found["absent"] == {"failed": "not installed: no_such_package"}
    assert len(found[OURS]["seconds_by_round"]) == 3
    assert found[OURS]["how"] == "on foot"
    assert found[OURS]["peak_process_bytes"] > 0


def test_a_worker_takes_the_steps_it_is_asked_for():
    """If broken, the compilation is timed with the steps, or the seconds of a step are those of all."""
    taken = []

    class Counter:
        def __init__(self, step):
            taken.append(step)

        def run(self, count):
            taken.append(count)

        def facts(self):
            return {"parameters": 1}

    answer = answering(Counter, double=lambda number: {"doubled": 2 * number})
    assert answer("prepare", step="train")["first_step_seconds"] >= 0
    assert answer("run", count=3)["seconds"] < 1
    assert taken == ["train", 1, 1, 3]
    assert answer("facts") == {"parameters": 1}
    assert answer("double", number=4) == {"doubled": 8}
    assert min(answer("memory").values()) > 2**20  # bytes, not kibibytes


def test_every_rival_takes_part_in_its_step():
    """If broken, a group names a contestant that never runs, or somebody runs and is compared with nobody."""
    for step in WHAT:
        there = {name for e in ENCODERS for name, c in CONTESTANTS.items() if c.takes_part(step, e, "float32", "cpu")}
        assert {OURS, *(name for rivals in RIVALS[step] for name in rivals.members)} == there
    assert not CONTESTANTS["openvino"].takes_part("predict", "resnet50", "bfloat16", "cpu")
    assert not CONTESTANTS["openvino"].takes_part("predict", "resnet50", "float32", "gpu")


def test_memory_is_compared_with_the_same_network_s():
    """If broken, growth is taken from the wrong epochs, or a peak is divided by that of another network."""
    title = CONTESTANTS["torch"].title
    cases = [
        memory.case("resnet50", title, 10, [4, 4, 4, 4, 4, 4, 4, 4, 4], 4),
        memory.case("resnet50v2", memory.OURS[0], 16, [1, 2, 3, 4, 5, *[10] * 5, 99, *[11] * 5], 13 * 2**30),
        {"encoder": "resnet50v2", "title": "x", "failed": "not installed: torch"},
    ]
    assert memory.growth(cases[0]) is None
    assert memory.growth(cases[1]) == pytest.approx(0.1)
    assert memory.ratio(cases[1], cases) is None
    # The first step's memory was not noted.
    cases.append(memory.case("resnet50v2", title, 15, [1, 2, 3, 4, *[20] * 5, *[25] * 5], 10 * 2**30))
    assert memory.growth(cases[-1]) == pytest.approx(0.25)
    assert memory.ratio(cases[1], cases) == pytest.approx(1.3)
    result = {"batch_size": 16, "image_size": 224, "cases": cases}
    rows = list(table.memory_rows(result))
    assert rows[1][2] == "13.00 GiB, 1.30 times eager PyTorch's; +10.0% from 6-10 to 12-16"
    assert rows[2][2] == "not installed: torch"
    assert "| resnet50v2 | x | not installed: torch |  |  |" in memory.tables(result)


def torch_name(path):
    """Returns the name in `torch_network` of one of jaxseg's variables, given its path."""
    *modules, variable = path
    if modules[0] == "encoder":
        name = re.sub(r"^(conv\d_block\d)_(\d)_(\w+)$", r"\1.\3\2", modules[1])
        modules = ["encoder", re.sub(r"^(conv\d_block\d)_preact_bn$", r"\1.preact_bn", name)]
    kinds = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    return ".".join([*modules, kinds.get(variable, variable)])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_pytorch_has_the_same_network(encoder):
    """If broken, jaxseg is measured beside a network that has other layers, and the ratio means nothing."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[peer]'")
    from experiments.benchmarks.workers.torch_network import ResNetUNet

    model = create_model(Config().updated({"model.encoder": encoder}).model)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 64, 96, 3), np.uint8)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)

    def drawn(path, shape):
        if path[-1].key == "kernel":
            fan = np.prod(shape.shape[:-1])
            return rng.normal(0, 1 / np.sqrt(fan), shape.shape).astype(np.float32)
        return rng.uniform(0.5, 1.5, shape.shape).astype(np.float32)

    variables = jax.tree.map_with_path(drawn, shapes)
    tensors = {}
    for path, value in jax.tree.leaves_with_path(variables):
        names = [key.key for key in path[1:]]
        if names[-1] == "kernel":
            value = value.transpose((2, 3, 0, 1) if names[-2] == "up" else (3, 2, 0, 1))
        tensors[torch_name(names)] = torch.from_numpy(np.ascontiguousarray(value))
    network = ResNetUNet(encoder).eval()
    rest = network.load_state_dict(tensors, strict=False)
    assert not rest.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in rest.missing_keys)
    # With jaxseg's padding: zeros, where PyTorch's own pads with minus infinity.
    network.encoder.pool = torch.nn.Sequential(torch.nn.ZeroPad2d(1), torch.nn.MaxPool2d(3, 2))
    ours = np.asarray(jax.jit(functools.partial(model.apply, train=False))(variables, images))
    scaled = np.array(model.encoder.preprocess(images)).transpose(0, 3, 1, 2)
    with torch.no_grad():
        theirs = network(torch.from_numpy(np.ascontiguousarray(scaled))).numpy().transpose(0, 2, 3, 1)
    # Float32 rounds differently in the two libraries' convolutions.
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(ours).max()
    assert sum(p.numel() for p in network.parameters()) == sum(v.size for v in jax.tree.leaves(variables["params"]))
