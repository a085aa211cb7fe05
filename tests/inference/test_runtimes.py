"""`predict --runtime onnx` and `Segmenter.load(runtime="onnx")` against JAX; what is kept; what is missing."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxseg
from jaxseg import predict
from jaxseg.data import open_split
from jaxseg.errors import UserError
from jaxseg.inference import kept_graphs, onnx_runtime
from jaxseg.inference.export import export_onnx
from jaxseg.inference.runtime import RUNTIMES
from jaxseg.pretrained import place
from jaxseg.runs.checkpoint import restore_best
from jaxseg.runs.fingerprint import fingerprint_of
from jaxseg.runs.workdir import CHECKPOINTS, read_config
from jaxseg.steps import Steps, state_target
from jaxseg.system.devices import all_devices
from tests.helpers.pictures import pixels, save_noise

pytest.importorskip("onnx", reason="the package onnx is not installed (extra onnx)")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (extra onnx)")

ATOL = 1e-5
"""Both compute in float32, but sum in other orders, and fold batch norm into kernels."""


@pytest.fixture
def own_graphs(tmp_path, monkeypatch) -> Path:
    """Returns the folder of kept graphs of this test alone."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "programs"))
    return tmp_path / "programs" / "onnx"


@pytest.fixture(params=onnx_runtime.LIBRARIES, ids=lambda library: library.package)
def library(request, monkeypatch):
    """Makes one library the only one that is installed."""
    if not importlib.util.find_spec(request.param.package):
        pytest.skip(f"{request.param.package} is not installed")
    monkeypatch.setattr(onnx_runtime, "LIBRARIES", (request.param,))
    return request.param


def maps_of(segmenter: jaxseg.Segmenter, images) -> np.ndarray:
    return np.stack([probability for _, probability in segmenter.stream((None, image) for image in images)])


@pytest.mark.parametrize("better", [False, True])
def test_a_plain_u_net_gives_the_same_probabilities(tiny, tiny_run, other_run, library, better):
    """If broken, onnx runs another model than jax, or leaves out --tta or --ensemble, or the rest of a batch."""
    runs = [tiny_run, other_run] if better else [tiny_run]
    by_jax, by_onnx = (jaxseg.Segmenter.load(*runs, tta=better, batch_size=4, runtime=name) for name in RUNTIMES)
    assert (by_jax.runtime.name, by_onnx.runtime.name) == ("jax", library.package)
    examples = open_split(tiny.data, "test")
    images = [by_jax.resize(examples.load(i).image) for i in range(5)]  # a whole batch, and one image
    expected = maps_of(by_jax, images)
    assert expected.std() > 0.01  # not the same everywhere, which anything would equal
    np.testing.assert_allclose(maps_of(by_onnx, images), expected, rtol=0, atol=ATOL)
    photograph = examples.load(0).image
    np.testing.assert_allclose(by_onnx(photograph), by_jax(photograph), rtol=0, atol=ATOL)
    assert [m.step for m in by_onnx.members] == [m.step for m in by_jax.members]


def test_the_model_inside_gives_the_same_probabilities(tiny, library):
    """If broken, whoever takes the packaged model gets other masks with onnx than its card's scores are of."""
    by_jax, by_onnx = (jaxseg.Segmenter.load(runtime=name) for name in RUNTIMES)
    image = open_split(tiny.data, "test").load(1).image
    expected = by_jax(image)
    assert expected.std() > 0.01
    np.testing.assert_allclose(by_onnx(image), expected, rtol=0, atol=ATOL)
    assert by_onnx.threshold == by_jax.threshold


@pytest.mark.parametrize("more", [[], ["--tta", "--ensemble"]])
def test_the_command_writes_the_same_masks(tiny_run, other_run, tmp_path, capsys, more):
    """If broken, masks, trust or measurements depend on the runtime, or the log does not say which one it was."""
    save_noise(tmp_path / "in", {"a.png": (40, 61), "b.png": (33, 32), "c.png": (90, 70)})
    flags = ["--workdir", str(tiny_run), "--input", str(tmp_path / "in"), "--batch-size", "2", "--measure"]
    flags += ["--uncertainty", "--probabilities", *more, *([str(other_run)] if more else [])]
    for name in RUNTIMES:
        capsys.readouterr()
        assert predict.main([*flags, "--runtime", name, "--output", str(tmp_path / name)]) == 0
        said = capsys.readouterr().err
        assert "3 of 3 images segmented" in said
        assert ("network runs on" in said) == (name == "onnx")
    segmenter = jaxseg.Segmenter.load(tiny_run, *([other_run] if more else []), tta=bool(more))
    for name in "abc":
        by_jax, by_onnx = (tmp_path / runtime / f"{name}_mask.png" for runtime in RUNTIMES)
        far = np.abs(segmenter(tmp_path / "in" / f"{name}.png") - 0.5) > ATOL
        assert far.mean() > 0.99
        np.testing.assert_array_equal(pixels(by_onnx)[far], pixels(by_jax)[far])
        for kind in ("uncertainty", "probability"):
            maps = [pixels(tmp_path / runtime / f"{name}_{kind}.png").astype(int) for runtime in RUNTIMES]
            assert np.abs(maps[0] - maps[1]).max() <= 1
    heads = {(tmp_path / runtime / "predictions.csv").read_text().splitlines()[0] for runtime in RUNTIMES}
    assert len(heads) == 1
    assert "area_pixels" in heads.pop()


def test_masks_of_two_runtimes_are_not_mixed(tiny_run, tmp_path):
    """If broken, --skip-existing leaves masks of two kinds; or a mask made by jax before today is taken for another."""
    save_noise(tmp_path, {"a.png": (40, 61)})
    flags = ["--workdir", str(tiny_run), "--input", str(tmp_path / "a.png"), "--output", str(tmp_path / "out")]
    assert predict.main([*flags, "--runtime", "onnx"]) == 0
    assert predict.main([*flags, "--runtime", "onnx", "--skip-existing"]) == 0
    with pytest.raises(UserError, match="was made by another model, checkpoint or threshold"):
        predict.main([*flags, "--skip-existing"])


def test_a_missing_library_is_one_line(tiny_run, monkeypatch):
    """If broken, whoever has neither library gets a traceback, or JAX's masks without a word."""
    for library in onnx_runtime.LIBRARIES:
        monkeypatch.setitem(sys.modules, library.package, None)
    with pytest.raises(UserError, match=r"onnx needs ONNX Runtime or OpenVINO: pip install onnx onnxruntime"):
        jaxseg.Segmenter.load(tiny_run, runtime="onnx")


def test_a_missing_writer_is_one_line(tiny_run, monkeypatch, own_graphs):
    """If broken, whoever has a runtime, but not the package that writes graphs, gets a traceback."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    for module in ("onnx_graph", "onnx_translation"):
        monkeypatch.delitem(sys.modules, f"jaxseg.inference.{module}", raising=False)
    with pytest.raises(UserError, match="pip install onnx"):
        jaxseg.Segmenter.load(tiny_run, runtime="onnx")


def test_openvino_reports_nothing():
    """If broken, each start tells Google Analytics of itself, where README says that nothing leaves the machine."""
    if not importlib.util.find_spec("openvino"):
        pytest.skip("openvino is not installed")
    program = (
        "import sys; from jaxseg.inference.onnx_runtime import OpenVino; OpenVino();"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')], 'openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


def test_an_unknown_runtime_is_one_line(tiny_run):
    """If broken, a slip in Python is a KeyError, or means JAX."""
    with pytest.raises(UserError, match="runtime 'tensorrt': there are jax and onnx"):
        jaxseg.Segmenter.load(tiny_run, runtime="tensorrt")


def test_a_model_for_onnx_is_no_source_of_exports(tiny_run):
    """If broken, an export of such a model ends in an AttributeError."""
    with pytest.raises(UserError, match="has no weights to export"):
        export_onnx(jaxseg.Segmenter.load(tiny_run, runtime="onnx"))


def recorded_sizes(segmenter: jaxseg.Segmenter, monkeypatch) -> list[int]:
    """Returns a list that grows by the size of every batch."""
    sizes, start = [], segmenter.runtime.start

    def recording(images):
        sizes.append(len(images))
        return start(images)

    monkeypatch.setattr(segmenter.runtime, "start", recording)
    return sizes


def test_one_image_does_not_wait_for_blank_ones(tiny_run, monkeypatch):
    """If broken, one photograph takes the time of a batch, of blank images."""
    for name in RUNTIMES:
        segmenter = jaxseg.Segmenter.load(tiny_run, batch_size=8, runtime=name)
        sizes = recorded_sizes(segmenter, monkeypatch)
        image = np.zeros((32, 32, 3), np.uint8)
        assert len(maps_of(segmenter, [image])) == 1
        assert sizes == [segmenter.runtime.fewest]
        assert sizes[0] < segmenter.batch_size
        assert len(maps_of(segmenter, [image] * 9)) == 9
        assert sizes[1:] == ([8, 1] if segmenter.runtime.any_size else [8, 8])  # no second compilation for the rest


def test_the_second_start_does_without_jax(tiny_run, tmp_path):
    """If broken, one image takes seconds, of imports and tracing, on every start: of a run, and of the model inside."""
    save_noise(tmp_path, {"a.png": (40, 61)})
    program = (
        "import sys; from jaxseg import predict; code = predict.main(sys.argv[1:]);"
        "print(code, *sorted({'jax', 'flax', 'orbax', 'onnx'} & set(sys.modules)))"
    )
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs")}
    for model in (["--workdir", str(tiny_run)], []):
        flags = [*model, "--input", str(tmp_path / "a.png"), "--output", str(tmp_path / "out"), "--overwrite"]
        told, masks = [], []
        for _ in range(2):
            call = [sys.executable, "-c", program, *flags, "--runtime", "onnx"]
            done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
            told.append(done.stdout.split())
            masks.append((tmp_path / "out/a_mask.png").read_bytes())
        assert {"0", "jax", "onnx"} <= set(told[0])
        assert told[1] == ["0"]
        assert masks[0] == masks[1]


def test_a_damaged_graph_is_made_again(tiny_run, own_graphs):
    """If broken, half a file of a full disk, or a flipped bit, ends in a traceback or in other masks."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = jaxseg.Segmenter.load(tiny_run, runtime="onnx")(image)
    (kept,) = own_graphs.iterdir()
    whole = kept.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (b"", whole[: len(whole) // 2], bytes(flipped)):
        kept.write_bytes(content)
        np.testing.assert_array_equal(jaxseg.Segmenter.load(tiny_run, runtime="onnx")(image), expected)
        assert kept.read_bytes() == whole
    assert list(own_graphs.iterdir()) == [kept]


def test_a_kept_graph_is_used(tiny_run, own_graphs, monkeypatch):
    """If broken, graphs are kept and never found: each start is as slow as the first."""
    jaxseg.Segmenter.load(tiny_run, runtime="onnx")
    monkeypatch.setattr(onnx_runtime, "_translated", lambda *_: pytest.fail("made again"))
    jaxseg.Segmenter.load(tiny_run, tiny_run, tta=True, runtime="onnx")


def test_other_weights_and_settings_have_other_graphs(tiny, tiny_run, other_run, monkeypatch):
    """If broken, a run that was trained on, another network or a newer jaxseg gets the graph of the one before."""
    mine, theirs = fingerprint_of(tiny_run), fingerprint_of(other_run)
    config = read_config(tiny_run)
    keys = [kept_graphs.key_of(mine, config), kept_graphs.key_of(theirs, config)]
    for name, value in {"data.image_size": 64, "model.unet_channels": (4, 16), "model.dtype": "bfloat16"}.items():
        keys.append(kept_graphs.key_of(mine, config.updated({name: value})))
    elsewhere = config.updated({"model.init_from": "x", "train.seed": 7, "data.name": "ph2"})
    assert kept_graphs.key_of(mine, elsewhere) == keys[0]
    monkeypatch.setattr(jaxseg, "__version__", "9.9")
    keys.append(kept_graphs.key_of(mine, config))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "variables", [{"JAX_ENABLE_COMPILATION_CACHE": "false"}, {"JAX_COMPILATION_CACHE_DIR": "gs://b"}]
)
def test_without_a_place_for_them_graphs_are_not_kept(tiny_run, own_graphs, monkeypatch, variables):
    """If broken, files appear where the user wants none, or a folder named `gs:` in the working folder."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    jaxseg.Segmenter.load(tiny_run, runtime="onnx")
    assert not own_graphs.exists()


def test_the_fingerprint_is_of_the_weights_that_are_read(tiny_run, tmp_path):
    """If broken, a kept graph is of another checkpoint than the best, or a damaged model passes for a sound one."""
    config = read_config(tiny_run)
    target = state_target(config, Steps(config, all_devices(1))).variables
    told = fingerprint_of(tiny_run)
    assert told.step == restore_best(tiny_run, target)[1]
    changed = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    assert fingerprint_of(changed) == told
    variables = changed / CHECKPOINTS / str(told.step) / "variables"
    largest = max((path for path in variables.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes() + b"\0")
    assert fingerprint_of(changed).sha256 != told.sha256
    for path in (changed / CHECKPOINTS).glob("*/progress/metadata"):
        path.write_text("{}")
    assert fingerprint_of(changed) is None
    assert fingerprint_of(tmp_path / "nowhere") is None


def test_the_fingerprint_of_a_damaged_packed_model_is_none(tmp_path):
    """If broken, the model inside runs on a graph, although its weights are damaged and jax refuses them."""
    packed = Path(shutil.copytree(place.FOLDER, tmp_path / "packed"))
    about = json.loads((packed / place.CARD).read_text())
    assert fingerprint_of(packed) == (about["step"], about["weights"]["sha256"])
    (packed / place.WEIGHTS).write_bytes((packed / place.WEIGHTS).read_bytes()[:-1])
    assert fingerprint_of(packed) is None
