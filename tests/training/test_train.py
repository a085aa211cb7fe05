"""The whole training job: one that runs, one that resumes exactly, and mistakes that are told in a line."""

import json
import shutil
import signal
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import steps, train
from jaxseg.config import preset
from jaxseg.errors import RunError, UserError
from jaxseg.inference.segmenter import Segmenter
from jaxseg.runs.checkpoint import Checkpoints
from jaxseg.system.stop import Stopped, StopRequest
from jaxseg.training import loop, writers
from jaxseg.training.folder import resolve
from jaxseg.training.hooks import Hook
from tests.helpers.runs import AskedAt, flags


def history(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_times(lines):
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def test_a_run_leaves_what_it_promises(tiny_run):
    """If broken, a file of the workdir is missing, or does not hold what the design page lists."""
    config = json.loads((tiny_run / "config.json").read_text())
    summary = json.loads((tiny_run / "summary.json").read_text())
    lines = history(tiny_run)
    assert config["config"]["data"]["name"] == "synthetic"
    assert config["data"]["synthetic"] is True
    assert {"jax", "flax", "optax", "orbax-checkpoint"} < set(config["versions"])
    assert [line["epoch"] for line in lines] == [1, 2]
    assert [line["step"] for line in lines] == [3, 6]
    wanted = {
        "train_loss",
        "val_loss",
        "val_dice",
        "val_jaccard",
        "val_dice_pooled",
        "learning_rate",
        "images_per_second",
    }
    assert wanted < set(lines[0])
    assert summary["best"]["val_loss"] == min(line["val_loss"] for line in lines)
    assert summary["epochs"] == 2
    assert list((tiny_run / "tensorboard").glob("events.out.tfevents.*"))
    assert (tiny_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "python -m jaxseg.evaluate" in (tiny_run / "report.html").read_text()


def test_curves_are_drawn_now_and_then_and_in_the_end(tiny, tmp_path, monkeypatch):
    """If broken, short epochs wait for a drawing each, or the picture lacks the last ones, or those before a stop."""
    drawn = []
    monkeypatch.setattr(writers.curves, "plot_curves", lambda history, *_, **__: drawn.append(len(history)))
    train.train_and_evaluate(tiny.updated({"train.epochs": 3}), tmp_path / "run")
    assert drawn == [1, 3]
    drawn.clear()
    stop = StopRequest()

    class StopAfterTwo(Hook):
        def on_epoch(self, progress):
            if progress.epoch == 2:
                stop.signum = signal.SIGTERM

    with pytest.raises(Stopped):
        train.train_and_evaluate(tiny.updated({"train.epochs": 3}), tmp_path / "stopped", stop, [StopAfterTwo()])
    assert drawn == [1, 2]


@pytest.mark.slow
def test_the_papers_preset_takes_a_step(tmp_path):
    """If broken, the default configuration, only shrunk in image size and count, does not train."""
    config = preset("paper").updated(
        {
            "data.name": "synthetic",
            "data.image_size": 32,
            "data.synthetic_train": 8,
            "data.synthetic_eval": 3,
            "model.pretrained": "none",
            "train.batch_size": 8,
            "train.epochs": 1,
        }
    )
    state, summary = train.train_and_evaluate(config, tmp_path / "run")
    assert int(state.step) == 1
    assert np.isfinite(summary["best"]["val_loss"])
    chex.assert_tree_all_finite(jax.device_get(state.params))


def test_a_stopped_run_resumes_exactly(tiny, tiny_run, tmp_path):
    """If broken, a run that was stopped after an epoch and resumed ends with other weights than one that was not."""
    train.train_and_evaluate(tiny.updated({"train.epochs": 1}), tmp_path / "run")
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.latest() == 3
    resumed, _ = train.train_and_evaluate(tiny, tmp_path / "run")
    assert without_times(history(tmp_path / "run")) == without_times(history(tiny_run))
    whole, _ = train.train_and_evaluate(tiny, tiny_run)  # finished: trains nothing, restores its best
    chex.assert_trees_all_equal(jax.device_get(resumed), jax.device_get(whole))


def test_one_seed_decides_all(tiny, tiny_run, tmp_path):
    """If broken, something draws from the clock or the system, or threads change the order of the images."""
    # The same program on the same CPU devices is deterministic to the last bit.
    state, _ = train.train_and_evaluate(tiny.updated({"data.workers": 0}), tmp_path / "same")
    assert without_times(history(tmp_path / "same")) == without_times(history(tiny_run))
    whole, _ = train.train_and_evaluate(tiny, tiny_run)
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(whole))
    train.train_and_evaluate(tiny.updated({"train.seed": 1, "train.epochs": 1}), tmp_path / "other")
    assert history(tmp_path / "other")[0]["train_loss"] != history(tiny_run)[0]["train_loss"]


class _Compilations(Hook):
    """Notes how many programs JAX has compiled, in all threads, at moments of a run.

    Attributes:
      started: count when the hooks start.
      stepped: count after each step.
      ended: count after each epoch.
    """

    def __init__(self):
        self.started, self.stepped, self.ended = 0, [], []
        self._count = 0
        jax.monitoring.register_event_duration_secs_listener(self._compiled)

    def _compiled(self, event: str, seconds: float, **_) -> None:
        self._count += event == "/jax/core/compile/backend_compile_duration"

    def on_start(self, run, progress):
        self.started = self._count

    def on_step(self, metrics):
        self.stepped.append(self._count)

    def on_epoch(self, progress):
        self.ended.append(self._count)


@pytest.mark.usefixtures("own_steps")
def test_the_step_is_compiled_once(tiny, tmp_path):
    """If broken, a new shape, type or placement after the first step, an epoch or a restore compiles the step again.

    Or it is compiled ahead for other arguments than those that it is called with, or again for a run in the same
    process.
    """
    first, resumed = _Compilations(), _Compilations()
    train.train_and_evaluate(tiny, tmp_path / "run", hooks=[first])
    train.train_and_evaluate(tiny.updated({"train.epochs": 4}), tmp_path / "run", hooks=[resumed])
    assert first.started > 0, "JAX reports compilations by another name"
    # The training step is compiled before the hooks start, the validation step at the end of the first epoch.
    assert set(first.stepped[:3]) == {first.started}
    assert first.ended[0] == first.started + 1
    assert set(first.stepped[3:]) | set(first.ended) == {first.ended[0]}
    assert {*resumed.stepped, *resumed.ended} == {resumed.started}


def test_a_step_that_is_too_large_for_the_machine_is_told_beforehand(tiny, tmp_path, monkeypatch, heard):
    """If broken, a training ends with the word "Killed" alone, or every training says that it might."""
    once = tiny.updated({"train.epochs": 1})
    monkeypatch.setattr(loop, "available_bytes", lambda: 2**40)
    train.train_and_evaluate(once, tmp_path / "run")
    assert "GiB" not in heard.text
    monkeypatch.setattr(loop, "available_bytes", lambda: 2**10)
    train.train_and_evaluate(once, tmp_path / "larger")
    assert "and 0.0 are left" in heard.text
    assert "lower --train.batch-size" in heard.text


def test_resume_on_more_devices(tiny, tiny_run, tmp_path):
    """If broken, a checkpoint can be read only on as many devices as wrote it."""
    train.train_and_evaluate(tiny.updated({"train.epochs": 1}), tmp_path / "run")
    train.train_and_evaluate(tiny.updated({"train.devices": 4}), tmp_path / "run")
    got, want = history(tmp_path / "run")[-1], history(tiny_run)[-1]
    # Sums in another order, then Adam steps that amplify float noise: the loss agrees to a few digits.
    assert got["train_loss"] == pytest.approx(want["train_loss"], rel=1e-3)


def test_a_line_that_is_missing_or_ahead_is_mended(tiny, tiny_run, tmp_path):
    """If broken, a crash between checkpoint and metrics.jsonl leaves a gap, or resuming writes a line twice."""
    whole = without_times(history(tiny_run))
    for lines in (whole[:1], [*whole, {"epoch": 3}]):
        run = tmp_path / str(len(lines))
        shutil.copytree(tiny_run, run)
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        train.train_and_evaluate(tiny, run)
        assert without_times(history(run)) == whole


def test_the_best_weights_are_restored(tiny, tmp_path):
    """If broken, the final or returned weights are the last epoch's, where the paper restores the best."""
    # At a huge learning rate the loss jumps, so that the best epoch is unlikely to be the last.
    run = tmp_path / "run"
    state, summary = train.train_and_evaluate(tiny.updated({"optim.learning_rate": 0.5, "train.epochs": 4}), run)
    losses = [line["val_loss"] for line in history(run)]
    assert summary["best_epoch"] == 1 + int(np.argmin(losses)) < 4
    assert int(state.step) == 3 * summary["best_epoch"]
    assert Segmenter.load(run).step == int(state.step)


def test_auto_without_ph2_is_loudly_synthetic(tiny, tmp_path, caplog):
    """If broken, somebody takes a score on generated images for one on lesions."""
    config = tiny.updated({"data.name": "auto", "data.data_dir": str(tmp_path), "model.pretrained": "imagenet"})
    resolved = resolve(config, tmp_path / "none")
    assert (resolved.data.name, resolved.model.pretrained) == ("synthetic", "none")
    assert "SYNTHETIC DATA" in caplog.text


def test_another_configuration_is_refused(tiny, tiny_run):
    """If broken, a second run mixes into, or overwrites, the first one's folder."""
    with pytest.raises(UserError, match=r"holds a run with train.seed = 0, not 1; .* another --workdir"):
        train.train_and_evaluate(tiny.updated({"train.seed": 1}), tiny_run)


def test_the_command_resumes_with_the_runs_own_settings(tiny_run, tmp_path, capsys):
    """If broken, `train --workdir W` on a finished run starts the default preset instead of saying so."""
    shutil.copytree(tiny_run, tmp_path / "run")
    train.main(["--workdir", str(tmp_path / "run")])
    assert "finished: all epochs are done; best epoch" in capsys.readouterr().err


@pytest.mark.usefixtures("own_steps")
def test_a_diverging_loss_stops_the_run(tiny, tmp_path, monkeypatch):
    """If broken, a run trains on NaN for hours, or NaN replaces the last good checkpoint."""
    run = tmp_path / "run"
    train.train_and_evaluate(tiny.updated({"train.epochs": 1}), run)
    monkeypatch.setattr(steps, "create_loss", lambda _: lambda logits, masks: logits.mean() * np.nan)
    steps.forget_compiled()
    with pytest.raises(RunError, match=r"loss = nan at step 4, in epoch 2: .* earlier epochs are kept\. Try"):
        train.train_and_evaluate(tiny, run)
    with Checkpoints(run) as checkpoints:
        assert checkpoints.latest() == 3


@pytest.mark.usefixtures("own_steps")
def test_parameters_that_are_not_finite_are_never_saved(tiny, tmp_path, monkeypatch):
    """If broken, the last step of an epoch, whose loss is finite, ruins the parameters, and they become the latest."""
    create = steps.create_optimizer

    def ruinous(config):
        inner = create(config)

        def update(grads, state, params=None):
            updates, state = inner.update(grads, state, params)
            return jax.tree.map(lambda u: jnp.where(state.count == 6, jnp.nan, u), updates), state

        return inner._replace(update=update)

    monkeypatch.setattr(steps, "create_optimizer", ruinous)
    with pytest.raises(RunError, match="loss = nan at step 6, in validation after epoch 2: training diverged"):
        train.train_and_evaluate(tiny, tmp_path / "run")
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.latest() == 3


@pytest.mark.usefixtures("own_steps")
def test_a_gradient_that_is_not_finite_stops_the_run(tiny, tmp_path, monkeypatch):
    """If broken, an infinite gradient with a finite loss ruins the parameters, and a SIGTERM saves them."""
    monkeypatch.setattr(steps, "create_loss", lambda _: lambda logits, masks: jnp.sqrt(jnp.sum(logits * 0)))
    with pytest.raises(RunError, match="grad_norm = nan at step 1, in epoch 1"):
        train.train_and_evaluate(tiny, tmp_path / "run")


def test_a_run_that_cannot_begin_leaves_nothing(tiny, tmp_path):
    """If broken, a mistyped weight file leaves an empty folder that looks like a run."""
    config = tiny.updated({"model.encoder": "resnet50v2", "model.pretrained": str(tmp_path / "missing.h5")})
    with pytest.raises(UserError, match=r"missing\.h5.*no such file"):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_for_a_network_without_encoder_are_refused(tiny, tmp_path):
    """If broken, --model.pretrained FILE is ignored for the plain U-Net."""
    with pytest.raises(UserError, match="the plain U-Net"):
        resolve(tiny.updated({"model.pretrained": "weights.h5"}), tmp_path)


def test_a_rate_for_a_network_without_encoder_is_refused(tiny, tmp_path):
    """If broken, --optim.encoder-rate is ignored for the plain U-Net, or ends in a KeyError."""
    with pytest.raises(UserError, match=r"optim\.encoder_rate = 0\.1: the plain U-Net .* use --optim\.encoder-rate 1$"):
        resolve(tiny.updated({"optim.encoder_rate": 0.1}), tmp_path)


def test_hooks_are_called_at_their_moments(tiny, tmp_path):
    """If broken, a caller's hook misses an epoch, a step or a phase, or is not closed when the run ends early."""
    calls = []

    class Recorder(Hook):
        def on_start(self, run, progress):
            calls.append(("start", len(run.train_set), progress.epoch))

        def on_phase_start(self, phase):
            calls.append(f"{phase} begins")

        def on_phase_end(self, phase):
            calls.append(f"{phase} ends")

        def on_step(self, metrics):
            assert np.isfinite(jax.device_get(metrics["loss"]))
            calls.append("step")

        def on_validation_batch(self, sums):
            assert np.isfinite(jax.device_get(sums["loss"]))
            calls.append("batch")

        def on_fetch(self, steps):
            calls.append(("fetch", steps))

        def on_epoch(self, progress):
            assert (tmp_path / "run" / "config.json").exists()
            calls.append(("epoch", progress.epoch))

        def on_end(self, summary, progress):
            assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
            calls.append("end")

        def on_close(self):
            calls.append("close")

    with pytest.raises(Stopped):
        train.train_and_evaluate(tiny, tmp_path / "run", AskedAt(3), [Recorder()])
    step = ["input begins", "input ends", "step"]
    saved = ["checkpoint begins", "checkpoint ends"]
    validated = ["validation begins", "validation ends"]
    stopped = [("start", 12, 0), "steps begins", *step, *step, ("fetch", 2), "steps ends", *validated, *saved, "close"]
    assert calls == stopped
    calls.clear()
    train.train_and_evaluate(tiny.updated({"train.epochs": 1}), tmp_path / "run", hooks=[Recorder()])
    validated[1:1] = ["batch", "batch"]  # 6 images, 4 at a time
    epoch = ["steps begins", *step, ("fetch", 1), "steps ends", *validated, *saved, ("epoch", 1)]
    assert calls == [("start", 12, 0), *epoch, *saved, "end", "close"]


VISIBLE = """
import sys
from jaxseg import cli, train
parser = cli.Parser("train", "", "")
cli.add_settings(parser)
{}
train.train_and_evaluate(cli.config_from(parser.parse_args(sys.argv[2:])), sys.argv[1])
"""


@pytest.mark.parametrize(
    ("setup", "shown"),
    [("", True), ("import logging; logging.getLogger('jaxseg').addHandler(logging.NullHandler())", False)],
)
def test_training_from_python_shows_its_progress(tiny, tmp_path, setup, shown):
    """If broken, a notebook is silent for hours; or a program with its own logging gets our lines as well."""
    command = [sys.executable, "-c", VISIBLE.format(setup), str(tmp_path / "run")]
    done = subprocess.run([*command, *flags(tiny.updated({"train.epochs": 1}))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("epoch 1/1  train loss" in done.stderr) == shown
    assert done.stdout == ""
