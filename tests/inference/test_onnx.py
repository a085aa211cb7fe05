"""The exported ONNX file, run by ONNX Runtime, against the model."""

from collections import Counter

import jax
import numpy as np
import pytest

from jaxseg import export
from jaxseg.config import ModelConfig
from jaxseg.data import open_split
from jaxseg.errors import UserError
from jaxseg.inference.segmenter import Segmenter
from jaxseg.models import create_model
from jaxseg.steps import predict_step

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed (extra onnx)")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (extra onnx)")

from jaxseg.inference.onnx_translation import to_onnx  # noqa: E402 (it imports onnx)


def run(model, images: np.ndarray) -> np.ndarray:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (probability,) = session.run(["probability"], {"images": images})
    return probability


def made_up(config: ModelConfig, size: int):
    """Returns a network, and variables under which its maps keep their scale and its batch norms do something."""
    model = create_model(config)
    rng = np.random.default_rng(0)
    blank = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
    shapes = jax.eval_shape(lambda key: model.lazy_init(key, blank, train=False), jax.random.key(0))

    def values(path, shape):
        if shape.ndim > 1:
            return rng.normal(0, np.prod(shape.shape[:-1]) ** -0.5, shape.shape).astype(np.float32)
        about = 0 if path[-1].key in ("bias", "mean") else 1
        return rng.normal(about, 0.2, shape.shape).astype(np.float32)

    return model, jax.tree_util.tree_map_with_path(values, shapes)


@pytest.mark.parametrize("encoder", ["none", "resnet50v2", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_the_graph_equals_the_network(encoder):
    """If broken, a network's operation is translated otherwise than JAX computes it."""
    config = ModelConfig(
        encoder=encoder, pretrained="none", decoder_channels=(16, 16, 8, 8, 4), unet_channels=(4, 8, 12)
    )
    model, variables = made_up(config, 32)
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    # Compiled quickly: the network runs once.
    compiled = jax.jit(
        lambda x: predict_step(variables, x, model=model)[..., 0],
        compiler_options={"xla_backend_optimization_level": 0},
    )
    expected = np.asarray(compiled(images))
    graph = to_onnx(lambda x: predict_step(variables, x, model=model)[..., 0], (32, 32, 3), name="test")
    assert expected.std() > 0.01  # not the same everywhere, which anything would equal
    np.testing.assert_allclose(run(graph, images), expected, atol=1e-5)
    np.testing.assert_allclose(run(graph, images[:1]), expected[:1], atol=1e-5)
    kinds = Counter(node.op_type for node in graph.graph.node)
    if encoder == "none":  # each of its batch norms follows a convolution
        assert not kinds["Mul"]
        assert kinds["Sub"] + kinds["Div"] <= 2  # the input's normalisation


@pytest.mark.parametrize("better", [False, True])
def test_the_file_equals_predict(tiny, tiny_run, other_run, tmp_path, better):
    """If broken, the file is another model than the one that predict uses, or does not take the flags."""
    more = [other_run] if better else []
    flags = ["--workdir", str(tiny_run), "--output", str(tmp_path / "model.onnx")]
    export.main([*flags, *(["--tta", "--ensemble", str(other_run)] if better else [])])
    segmenter = Segmenter.load(tiny_run, *more, tta=better)
    examples = open_split(tiny.data, "test")
    images = np.stack([segmenter.resize(examples.load(i).image) for i in range(3)])
    expected = np.stack([probability for _, probability in segmenter.stream((None, image) for image in images)])
    got = run((tmp_path / "model.onnx").read_bytes(), images)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_file_tells_what_it_is(tiny_run, tmp_path, capsys):
    """If broken, whoever finds the file cannot know how to prepare an image, or learns a path of this machine."""
    export.main(["--workdir", str(tiny_run), "--output", str(tmp_path / "model.onnx")])
    assert "ONNX" in capsys.readouterr().err
    model = onnx.load(tmp_path / "model.onnx")
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert "uint8 [B, 32, 32, 3], RGB" in told["input"]
    assert told["threshold"] == "0.5"
    assert told["trained_on"] == "synthetic"
    assert (told["name"], told["licence"]) == ("jaxseg", "not stated")
    assert told["warning"] == "not a medical device"
    assert str(tiny_run.parent) not in (tmp_path / "model.onnx").read_bytes().decode("latin-1")


def test_the_model_inside_names_its_licence(tmp_path):
    """If broken, whoever passes the file on does not know whether they may."""
    export.main(["--output", str(tmp_path / "model.onnx")])
    told = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert (told["name"], told["licence"]) == ("jaxseg-small", "Apache-2.0")
    assert "ISIC 2016" in told["trained_on"]


def test_half_the_bytes_give_nearly_the_same_masks(tiny_run, tmp_path):
    """If broken, --float16 saves nothing, or rounds where it must not."""
    for name, more in (("whole", []), ("half", ["--float16"])):
        export.main(["--workdir", str(tiny_run), "--output", str(tmp_path / f"{name}.onnx"), *more])
    whole, half = ((tmp_path / f"{name}.onnx").read_bytes() for name in ("whole", "half"))
    images = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(run(half, images), run(whole, images), atol=5e-3)
    kernels = [w for w in onnx.load_from_string(half).graph.initializer if len(w.dims) == 4 and w.dims[0] > 1]
    assert kernels
    assert {w.data_type for w in kernels} == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output", "model.onnx", "--format", "stablehlo"], r"the ending says onnx; .* model\.stablehlo"),
        (["--output", "model.stablehlo", "--format", "onnx"], r"the ending says stablehlo; .* model\.onnx"),
        (["--output", "model", "--float16"], "--float16 is for ONNX; add --format onnx"),
        (["--output", "model.pt"], r"StableHLO or ONNX, not PyTorch's format; give a name as .*model\.onnx"),
    ],
)
def test_name_and_content_agree(tiny_run, tmp_path, monkeypatch, flags, message):
    """If broken, a file's name promises another format than it has."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        export.main(["--workdir", str(tiny_run), *flags])
    assert not list(tmp_path.iterdir())


def test_an_unknown_operation_is_named():
    """If broken, a network that cannot be translated ends in a traceback, or in a file that computes something else."""
    with pytest.raises(UserError, match="operation 'sin' cannot be written as ONNX; use --format stablehlo"):
        to_onnx(lambda x: jax.numpy.sin(x.astype(np.float32)), (8, 8, 3), name="test")
