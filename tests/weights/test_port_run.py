"""`port_weights` from a run's folder; from files, it is tested in `test_weights.py`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.parity.reference import recipe
from jaxseg import port_weights, weights
from jaxseg.errors import UserError
from jaxseg.models import resnet
from jaxseg.optim import EarlyStopState
from jaxseg.runs import workdir as files
from jaxseg.runs.checkpoint import Checkpoints
from jaxseg.runs.progress import Progress
from jaxseg.steps import Steps, state_target
from jaxseg.system.files import write_json


def test_an_encoder_trained_here_goes_back_to_keras(tmp_path, tiny, capsys, monkeypatch):
    """If broken, Keras gets the latest weights and not the best, no batch statistics, or another encoder's."""
    monkeypatch.setitem(resnet.ENCODERS, "resnet50", resnet._ResNet50Tiny)
    config = tiny.updated({"model.encoder": "resnet50", "model.decoder_channels": (4,) * 5})
    write_json(tmp_path / "run" / files.CONFIG, files.describe_run(config))
    shapes = state_target(config, Steps(config, jax.local_devices()[:1]))
    history = ({"step": 3}, {"step": 6})
    saved = []
    with Checkpoints(tmp_path / "run") as checkpoints:
        for epoch in (1, 2):  # the first is the best
            made = jax.tree.map_with_path(lambda path, x, e=epoch: recipe.draw(f"{path}{e}", x.shape, 0), shapes)
            state = jax.tree.map(jnp.asarray, made.replace(step=np.int32(3 * epoch)))
            checkpoints.save(state, Progress(early_stop=EarlyStopState(epoch, 0.5, 1), history=history[:epoch]))
            saved.append(made)
    output = tmp_path / "w.h5"
    port_weights.main(["--source", str(tmp_path / "run"), "--output", str(output), "--to", "keras"])
    assert "run, the encoder of its best checkpoint, at step 3" in capsys.readouterr().out
    encoder = {"params": saved[0].params["encoder"], "batch_stats": saved[0].batch_stats["encoder"]}
    chex.assert_trees_all_equal(weights.load_keras(output, "resnet50"), encoder)
    with pytest.raises(UserError, match=r"--to jaxseg writes an .npz file; give the name .*w2\.npz, or --to keras"):
        port_weights.main(["--source", str(output), "--output", str(tmp_path / "w2.h5")])
    with pytest.raises(UserError, match="trained resnet50; leave"):
        port_weights.port(tmp_path / "run", output, "resnet50v2")


def test_a_folder_without_an_encoder_to_port_gets_one_line(tmp_path, tiny_run):
    """If broken, a wrong folder, or a run of the plain U-Net, ends in a traceback."""
    with pytest.raises(UserError, match="no config"):
        port_weights.port(tmp_path, tmp_path / "w.npz")
    with pytest.raises(UserError, match="plain U-Net"):
        port_weights.port(tiny_run, tmp_path / "w.npz")
