"""Keras' real ResNet50 weights, where they are at hand."""

import chex
import h5py
import jax
import pytest

from experiments.parity.reference import recipe
from jaxseg import port_weights, weights
from jaxseg.models import resnet
from tests.helpers.paths import SHARED as NEIGHBOUR

SHARED = NEIGHBOUR / "data" / "resnet50_imagenet_notop.h5"


@pytest.mark.skipif(not SHARED.is_file(), reason="Keras' real ResNet50 weights are not in ../shared/data")
def test_the_real_file_of_keras_is_ported_whole(tmp_path, capsys):
    """If broken, tensors of the real file are left out, or land where the network sees no structure in them."""
    output = tmp_path / "resnet50.npz"
    port_weights.main(["--source", str(SHARED), "--output", str(output), "--encoder", "resnet50"])
    assert "318 tensors, 23,587,712 parameters" in capsys.readouterr().out
    ported = weights.load_pretrained(str(output), "resnet50")
    tensors = {t.keras_key: t.of(ported) for t in weights.expected_tensors("resnet50")}
    with h5py.File(SHARED) as file:
        for key, value in tensors.items():
            chex.assert_trees_all_equal(value, file[f"{key.split('/')[0]}/{key}:0"][()])
    # Normalised maps of trained weights are of the order of one; of misplaced weights they explode or vanish.
    features = jax.jit(resnet.ResNet50().apply)(ported, recipe.images("resnet50", (1, 64, 64, 3)))
    assert 0.1 < float(features["conv5_block3_out"].std()) < 3
