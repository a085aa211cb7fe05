"""The exported model, run by `jaxseg/inference/standalone.py` in a process that cannot import jaxseg."""

import json
import shutil
import subprocess
import sys

import jax.export
import numpy as np
import pytest
from PIL import Image, ImageCms

from jaxseg import export
from jaxseg.data import open_split
from jaxseg.data.images import decode_image
from jaxseg.errors import RunError, UserError
from jaxseg.inference.segmenter import Segmenter
from tests.helpers.icc import P3, rgb_profile
from tests.helpers.paths import ROOT

APART = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
"""Environment of a process that sees one device, and nothing of this one."""


def loader() -> str:
    """Returns the program that runs an exported model without jaxseg."""
    return (ROOT / "jaxseg" / "inference" / "standalone.py").read_text()


@pytest.mark.parametrize("better", [False, True])
def test_the_file_equals_the_model_without_jaxseg(tiny, tiny_run, other_run, tmp_path, better):
    """If broken, the exported model computes something else, needs jaxseg, or takes one size of batch alone.

    1e-5: XLA may sum in another order for another size of batch.
    """
    more = [other_run] if better else []
    flags = ["--workdir", str(tiny_run), "--output", str(tmp_path / "model.stablehlo")]
    export.main([*flags, *["--tta", "--ensemble", str(other_run)] * better])
    segmenter = Segmenter.load(tiny_run, *more, tta=better)
    examples = open_split(tiny.data, "test")
    images = np.stack([segmenter.resize(examples.load(i).image) for i in range(3)])
    np.save(tmp_path / "images.npy", images)
    Image.fromarray(examples.load(0).image).save(tmp_path / "photo.png")
    hidden = "import sys\nsys.modules['jaxseg'] = None  # importing it now fails\n"
    batches = (
        "images = np.load('images.npy')\n"
        "np.save('three.npy', segment(images))\n"
        "np.save('one.npy', segment(images[:1]))\n"
        "assert len(jax.devices()) == 1\n"
    )
    (tmp_path / "segment.py").write_text(hidden + loader() + batches)
    command = [sys.executable, "segment.py", "model.stablehlo", "photo.png", "mask.png"]
    done = subprocess.run(command, cwd=tmp_path, env=APART, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = np.stack([probability for _, probability in segmenter.stream((None, image) for image in images)])
    np.testing.assert_allclose(np.load(tmp_path / "three.npy"), expected, atol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "one.npy"), expected[:1], atol=1e-5)
    with Image.open(tmp_path / "mask.png") as mask:
        assert np.mean((np.asarray(mask) > 0) != (segmenter(examples.load(0).image) > 0.5)) < 1e-3


def test_the_file_is_for_one_device_and_every_platform(tiny_run, tmp_path, capsys):
    """If broken, a model exported on a machine of four GPUs does not run on one, or nobody is told what was written."""
    export.main(["--workdir", str(tiny_run), "--output", str(tmp_path / "new/model")])
    exported = jax.export.deserialize(bytearray((tmp_path / "new/model").read_bytes()))
    assert exported.nr_devices == 1
    assert set(exported.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    said = capsys.readouterr().err
    assert "uint8 [B, 32, 32, 3]" in said
    assert "float32 [B, 32, 32]; lesion above 0.5" in said


def test_nothing_is_overwritten_unless_asked(tiny_run, tmp_path):
    """If broken, a model that is in use is replaced, or half a file is left."""
    flags = ["--workdir", str(tiny_run), "--output", str(tmp_path / "model")]
    (tmp_path / "model").write_text("mine")
    with pytest.raises(UserError, match="is there already; --overwrite replaces it"):
        export.main(flags)
    with pytest.raises(UserError, match="is a folder; give the file"):
        export.main([*flags[:-1], str(tmp_path)])
    assert (tmp_path / "model").read_text() == "mine"
    export.main([*flags, "--overwrite"])
    assert (tmp_path / "model").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    copy = shutil.copytree(tiny_run, tmp_path / "run")
    with pytest.raises(UserError, match=r"config\.json: is a file of the run itself; give another name"):
        export.main(["--workdir", str(copy), "--output", str(copy / "config.json"), "--format", "onnx", "--overwrite"])
    with pytest.raises(UserError, match="has no name before its ending; is a shell variable unset"):
        export.main([*flags[:-1], str(tmp_path / ".onnx")])


@pytest.mark.parametrize("name", ["model.tflite", "model.PT", "model.h5"])
def test_another_formats_name_is_refused(tiny_run, tmp_path, name):
    """If broken, a file called model.tflite holds StableHLO, which fails in another program a week later."""
    with pytest.raises(UserError, match=r"export writes StableHLO or ONNX, not .*; give a name as .*model\.stablehlo"):
        export.main(["--workdir", str(tiny_run), "--output", str(tmp_path / name)])
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_one_line(tiny_run, tmp_path):
    """If broken, a mistyped folder ends in a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write .*file/model: "):
        export.main(["--workdir", str(tiny_run), "--output", str(tmp_path / "file/model")])


KINDS = {
    "grey": (Image.fromarray(np.full((40, 60), 90, np.uint8)), True),
    "rgb": (Image.fromarray(np.full((40, 60, 3), 90, np.uint8)), True),
    "16 bits": (Image.fromarray(np.full((40, 60), 20000, np.uint16)), False),
    "transparent": (Image.fromarray(np.full((40, 60, 4), 90, np.uint8)), False),
    "palette": (Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).quantize(4), False),
    "profile": (Image.fromarray(np.full((40, 60, 3), 90, np.uint8)), False),
    "frames": (Image.fromarray(np.full((40, 60, 3), 90, np.uint8)), False),
}
"""An image of each kind, and whether the standalone program accepts it."""


IN_TURN = """
import json, runpy, sys

program, model, *paths = sys.argv[1:]
said = []
for path in paths:
    source, _, target = path.partition(":")
    sys.argv = [program, model, source, target]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as refusal:
        said.append(refusal.code)
    else:
        said.append(None)
print(json.dumps(said))
"""
"""Runs the standalone program on one image after the other: starting a process for each would take most of the time."""


def test_the_standalone_program_agrees_with_predict_on_what_it_accepts(tiny_run, tmp_path):
    """If broken, an exported model segments some kinds of image otherwise than jaxseg, without a word."""
    export.main(["--workdir", str(tiny_run), "--output", str(tmp_path / "model.stablehlo")])
    segmenter = Segmenter.load(tiny_run)
    noise = np.random.default_rng(0).integers(0, 60, (40, 60))
    for name, (image, _) in KINDS.items():
        pixels = np.asarray(image)
        if pixels.dtype == np.uint8 and image.mode != "P":  # flat images would hide a difference
            image = Image.fromarray((pixels + (noise if pixels.ndim == 2 else noise[..., None])).astype(np.uint8))
        options = {
            "frames": {"save_all": True, "append_images": [image.rotate(180)]},
            "profile": {"icc_profile": rgb_profile(P3, 2.2)},
            "rgb": {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
        }
        image.save(tmp_path / f"{name}.png", **options.get(name, {}))
    itself = (tmp_path / "rgb.png").read_bytes()
    program = str(ROOT / "jaxseg/inference/standalone.py")
    tasks = [*(f"{name}.png:{name}_mask.png" for name in KINDS), "rgb.png:rgb.png"]
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN, program, "model.stablehlo", *tasks],
        cwd=tmp_path,
        env=APART,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *said, last = json.loads(done.stdout)
    assert "is the photograph itself" in last
    assert (tmp_path / "rgb.png").read_bytes() == itself
    for (name, (_, accepted)), refusal in zip(KINDS.items(), said, strict=True):
        assert (refusal is None) == accepted, (name, refusal)
        if accepted:
            with Image.open(tmp_path / f"{name}_mask.png") as mask:
                found = np.asarray(mask) > 0
            assert np.mean(found != (segmenter(decode_image(tmp_path / f"{name}.png")) > 0.5)) < 1e-3, name
        else:
            assert "8-bit RGB" in refusal, name


def test_a_network_of_many_channels_is_exported(tmp_path):
    """If broken, only networks of tests are: real ones take fewer products for a convolution, by the batch's size."""
    path = tmp_path / "model.stablehlo"
    export.main(["--output", str(path)])
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    segmenter = Segmenter.load()
    side = segmenter.image_size
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    expected = [segmenter(image) for image in images]
    np.testing.assert_allclose(np.asarray(exported.call(images)), expected, atol=1e-5)
