"""Reading, checking and writing encoder weights. Files here hold a tiny encoder."""

import contextlib
import functools
import logging
import sys
import zipfile

import chex
import h5py
import jax
import numpy as np
import pytest

from experiments.parity.reference.keras_files import write_by_name, write_numbered
from jaxseg import weights
from jaxseg.errors import UserError
from jaxseg.models import resnet
from jaxseg.system.files import replacing
from jaxseg.weights import keras_hdf5
from tests.helpers.tiny_weights import TOP, V2, seeded

pytestmark = pytest.mark.usefixtures("tiny_encoders")


LAYOUTS = [
    write_by_name,
    functools.partial(write_by_name, scope="_1"),
    functools.partial(write_by_name, root="model_weights"),
    write_numbered,
    functools.partial(write_numbered, named=False),
    functools.partial(write_numbered, prefix="layers/functional/"),
]


@pytest.mark.parametrize("encoder", ["resnet50v2", "resnet50"])
@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_gives_the_same_variables(tmp_path, write, encoder):
    """If broken, a tensor lands in another layer of the same shape, unseen until the scores are poor."""
    tensors, variables = seeded(encoder)
    loaded = weights.load_keras(write(tmp_path / "w.h5", tensors), encoder)
    chex.assert_trees_all_equal(loaded, variables)
    module = resnet.ENCODERS[encoder]()
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    chex.assert_trees_all_equal_shapes_and_dtypes(loaded, shapes)


@pytest.mark.parametrize("write", LAYOUTS)
def test_the_classifier_head_is_left_out_and_said_so(tmp_path, caplog, write):
    """If broken, Keras' files with the classifier's head, as common as those without, are refused."""
    tensors, variables = seeded()
    with caplog.at_level(logging.INFO, "jaxseg"):
        loaded = weights.load_keras(write(tmp_path / "w.h5", tensors | TOP))
    chex.assert_trees_all_equal(loaded, variables)
    assert "left out the classifier head (predictions/" in caplog.text


def test_float16_files_become_float32(tmp_path):
    """If broken, a half-precision file makes a half-precision model."""
    tensors, variables = seeded()
    path = write_by_name(tmp_path / "w.h5", {k: v.astype(np.float16) for k, v in tensors.items()})
    loaded = weights.load_keras(path)
    assert {x.dtype for x in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}
    chex.assert_trees_all_close(loaded, variables, rtol=1e-3, atol=1e-4)


KEY = "conv2_block1_preact_bn/moving_variance"


@pytest.mark.parametrize("write", [write_by_name, write_numbered])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(KEY), f"{KEY} is missing"),
        (lambda t: t.update({KEY: np.ones(9, np.float32)}), rf"{KEY} has shape \(9,\) and should have \(8,\)"),
        (lambda t: t.update({KEY: np.ones(8, np.int32)}), f"{KEY} holds int32"),
        (lambda t: t.update({KEY: np.full(8, np.nan, np.float32)}), f"{KEY} has values that are not finite"),
        (lambda t: t.update({KEY: np.full(8, 1e300)}), f"{KEY} has values that are not finite"),
        (lambda t: t.update({KEY: np.full(8, -1, np.float32)}), f"{KEY} has negative values"),
        (lambda t: t.update({"conv6_conv/kernel": np.ones(8, np.float32)}), "conv6_conv/.* is not part of it"),
        (lambda t: t.clear(), "conv1_conv/kernel is missing"),
    ],
)
def test_a_wrong_tensor_is_named(tmp_path, write, change, message):
    """If broken, weights are skipped or reshaped in silence, and the network trains, worse."""
    tensors, _ = seeded()
    change(tensors)
    with pytest.raises(UserError, match=message) as error:
        weights.load_keras(write(tmp_path / "w.h5", tensors))
    assert "\n" not in str(error.value)


def test_weights_of_the_other_encoder_are_recognised(tmp_path):
    """If broken, the likeliest mistake of all, weights of the other encoder, is told as damage."""
    path = write_by_name(tmp_path / "v1.h5", seeded("resnet50")[0])
    with pytest.raises(UserError, match="conv2_block1_preact_bn/gamma is missing; it looks like weights of resnet50:"):
        weights.load_keras(path, V2)
    with pytest.raises(UserError, match="must be one of resnet50v2, resnet50; did you mean 'resnet50v2'"):
        weights.load_keras(path, "resnet50v3")


def test_a_tensor_there_twice_is_refused(tmp_path):
    """If broken, one of two tensors of one name is taken, and nobody knows which is meant."""
    path = write_by_name(tmp_path / "w.h5", seeded()[0])
    with h5py.File(path, "r+") as file:
        file["post_bn/other/gamma:0"] = file["post_bn/post_bn/gamma:0"][()]
    with pytest.raises(UserError, match="post_bn/gamma is there twice"):
        weights.load_keras(path)


@pytest.mark.parametrize("kind", ["external", "soft", "storage", "virtual", "circle"])
def test_nothing_outside_of_the_file_is_read(tmp_path, kind):
    """If broken, a downloaded file pulls in other files of its reader's, or is read for ever."""
    tensors, _ = seeded()
    path = write_by_name(tmp_path / "w.h5", tensors)
    other = write_by_name(tmp_path / "other.h5", tensors)
    name = "post_bn/post_bn/gamma:0"
    with h5py.File(path, "r+") as file:
        del file[name]
        if kind == "external":
            file[name] = h5py.ExternalLink(other.name, name)
        elif kind == "soft":
            file[name] = h5py.SoftLink("/conv1_conv/conv1_conv/bias:0")
        elif kind == "storage":
            (tmp_path / "raw").write_bytes(tensors["post_bn/gamma"].tobytes())
            file.create_dataset(name, (256,), np.float32, external=[(str(tmp_path / "raw"), 0, 1024)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((256,), np.float32)
            layout[:] = h5py.VirtualSource(other, name, (256,))
            file.create_virtual_dataset(name, layout)
        else:
            file["post_bn/post_bn/again"] = file["post_bn"]
    with pytest.raises(UserError, match=r"post_bn/.* (is a link|keeps its values in another file)"):
        weights.load_keras(path)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_unreadable_files_get_one_line(tmp_path, suffix):
    """If broken, a cut-off download is answered by h5py's own message, which is of no use."""
    path = tmp_path / f"w{suffix}"
    write_by_name(path, seeded()[0]) if suffix == ".h5" else weights.save_ported(path, seeded()[1], V2)
    whole = path.read_bytes()
    cases = {
        "the file is empty": b"",
        "not an HDF5 file": b"<html>not found</html>" * 100,
        "damaged": whole[: len(whole) // 2],
    }
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            weights.load_file(path)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="is a folder"):
        weights.load_file(tmp_path)


def test_other_hdf5_and_npz_files_are_refused(tmp_path):
    """If broken, HDF5 and npz files of other content are taken for weights."""
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images"] = np.zeros((2, 2))
    with pytest.raises(UserError, match="not a Keras weight file: images"):
        weights.load_file(tmp_path / "data.h5")
    np.savez(tmp_path / "pickle.npz", **{"params/conv1_conv/kernel": np.array([{}], object)})
    with pytest.raises(UserError, match="allow_pickle"):
        weights.load_file(tmp_path / "pickle.npz")
    np.savez(tmp_path / "data.npz", images=np.zeros(2))
    with pytest.raises(UserError, match="params/conv1_conv/kernel is missing"):
        weights.load_file(tmp_path / "data.npz")


@pytest.mark.parametrize(("program", "answered"), [("kill -SEGV $$", True), ("sleep 60", True), ("exit 1", False)])
def test_a_file_that_the_hdf5_library_fails_on_is_answered(tmp_path, monkeypatch, program, answered):
    """If broken, a damaged file that makes the library crash or hang takes the run, and Ctrl-C, with it."""
    path = write_by_name(tmp_path / "w.h5", seeded()[0])
    weights.load_keras(path)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(keras_hdf5, "PROBE_SECS", 0.5)
    # An exception in the probe is not its business: reading raises it again, and it is told from there.
    with pytest.raises(UserError, match="crashes or hangs; fetch it again") if answered else contextlib.nullcontext():
        weights.load_keras(path)


def test_the_probe_of_the_hdf5_library_reads_all_there_is(tmp_path):
    """If broken, the probe skips what the library fails on."""
    path = write_numbered(tmp_path / "w.h5", seeded()[0])
    keras_hdf5.read_all(str(path))
    with h5py.File(path, "r+") as file:
        value = file["layers/batch_normalization/vars/0"][()]
        del file["layers/batch_normalization/vars/0"]
        file.create_dataset("layers/batch_normalization/vars/0", data=value, chunks=value.shape, fletcher32=True)
        at = file["layers/batch_normalization/vars/0"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"checksum|filter"):
        keras_hdf5.read_all(str(path))


@pytest.mark.parametrize("kind", ["many arrays", "bomb", "no array"])
def test_ported_files_that_are_more_or_other_than_they_seem(tmp_path, kind, monkeypatch):
    """If broken, a small download fills the memory, or ends in a traceback."""
    monkeypatch.setattr(weights.files, "MAX_UNPACKED_BYTES", 2**22)
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if kind == "many arrays":
            for i in range(10_001):
                archive.writestr(f"{i}.npy", b"")
        elif kind == "bomb":
            with archive.open("params/conv1_conv/kernel.npy", "w") as member:
                member.write(bytes(2**23))
        else:
            archive.writestr("params/conv1_conv/kernel.npy", b"no array")
    message = r"has shape \(\)" if kind == "no array" else "over 10,000 arrays or 4,194,304 bytes in it"
    with pytest.raises(UserError, match=message):
        weights.load_file(path)


@pytest.mark.parametrize("kind", ["paths", "pieces"])
def test_hdf5_files_that_are_more_than_they_seem(tmp_path, kind):
    """If broken, a small file takes hours, or fills the memory."""
    path = write_by_name(tmp_path / "w.h5", seeded()[0])
    with h5py.File(path, "r+") as file:
        if kind == "paths":  # ten groups in ten groups, eight times over, each stored once
            inner = file.create_group("inner")
            for depth in range(8):
                outer = file.create_group(f"depth{depth}")
                for i in range(10):
                    outer[str(i)] = inner
                inner = outer
        else:
            options = {"chunks": (2**28,), "maxshape": (None,), "compression": "gzip"}
            file.create_dataset("post_bn/more", (1,), np.float32, **options)
    with pytest.raises(UserError, match=r"more than 10,000 groups|in pieces larger than"):
        weights.load_keras(path)


def test_ported_and_keras_files_hold_what_was_saved(tmp_path):
    """If broken, what one command writes, the next reads otherwise, or not at all."""
    _, variables = seeded()
    weights.save_ported(tmp_path / "w.npz", variables, V2)
    weights.save_keras(tmp_path / "w.h5", variables, V2)
    for path in (tmp_path / "w.npz", tmp_path / "w.h5"):
        chex.assert_trees_all_equal(weights.load_file(path, V2), variables)
    with h5py.File(tmp_path / "w.h5") as file:
        names = [n.decode() for n in file.attrs["layer_names"]]
    # Keras' loader goes by order: the shortcut's convolution comes after the second one.
    assert names[5:8] == ["conv2_block1_2_bn", "conv2_block1_0_conv", "conv2_block1_3_conv"]
    with pytest.raises(UserError, match=r"NAME\.h5"):
        weights.save_keras(tmp_path / "w.weights.h5", variables, V2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.h5", "w.npz"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """If broken, an interrupted write leaves half a file under a good name."""
    path = tmp_path / "w.npz"
    path.write_bytes(b"old")

    def write():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_keras_archives_are_answered_with_what_to_do(tmp_path):
    """If broken, a `.keras` file, Keras 3's default, is called damaged, and nobody says what to give instead."""
    (tmp_path / "w.keras").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"\.keras archives are not taken.*save_weights\('NAME\.weights\.h5'\)"):
        weights.load_file(tmp_path / "w.keras")
