"""A run that goes on elsewhere says so, in the log, in `sessions.json` and on its page."""

import json
from pathlib import Path

import pytest

import jaxseg
from jaxseg import train
from jaxseg.runs import sessions
from tests.helpers.runs import flags


def content(path: Path) -> dict:
    return json.loads(path.read_text())


def test_a_run_that_goes_on_elsewhere_says_so(tiny, tmp_path, capsys, monkeypatch):
    """If broken, a run whose second half had other versions and devices is reported as if all had been alike."""
    run = tmp_path / "run"
    config = run / "config.json"
    train.main(["--workdir", str(run), *flags(tiny.updated({"train.epochs": 1}))])
    first = content(config)
    train.main(["--workdir", str(run), "--train.epochs", "2"])
    assert not (run / "sessions.json").exists()
    assert "the run goes on with" not in capsys.readouterr().err

    monkeypatch.setattr(jaxseg, "__version__", "9.9")
    train.main(["--workdir", str(run), "--train.epochs", "3", "--train.devices", "2"])
    changed = f"2 x cpu, not 1 x cpu; jaxseg 9.9, not {first['versions']['jaxseg']}"
    assert f"the run goes on with {changed}: sessions.json keeps both" in capsys.readouterr().err
    assert content(config) == first
    [session] = content(run / "sessions.json")["sessions"]
    assert (session["after_epoch"], session["device"]["count"], session["versions"]["jaxseg"]) == (2, 2, "9.9")
    assert f"after epoch 2 with {changed}" in (run / "report.html").read_text()
    assert content(run / "summary.json")["device"]["count"] == 2


def test_looking_at_a_finished_run_elsewhere_changes_nothing(tiny, tmp_path, capsys):
    """If broken, the machine on which somebody repeats the command is recorded as the one that trained."""
    run = tmp_path / "run"
    config = tiny.updated({"train.epochs": 1})
    train.main(["--workdir", str(run), *flags(config)])
    before = content(run / "config.json"), content(run / "summary.json")
    train.main(["--workdir", str(run), *flags(config.updated({"train.devices": 2}))])
    assert (content(run / "config.json"), content(run / "summary.json")) == before
    assert "the run goes on with" not in capsys.readouterr().err


@pytest.mark.parametrize("lacking", ["device", "versions", "commit"])
def test_what_older_runs_do_not_record_is_not_compared(lacking, tmp_path):
    """If broken, a run of an older release cannot go on, or is said to have changed."""
    facts = {"device": {"platform": "cpu", "kind": "cpu", "count": 1}, "versions": {"jax": "0.10"}, "commit": "abc"}
    older = {name: value for name, value in facts.items() if name != lacking}
    (tmp_path / "config.json").write_text(json.dumps(older))
    assert not sessions.add(tmp_path, facts | {"started": "now"}, 1)
    assert not (tmp_path / "sessions.json").exists()
    other = {"device": facts["device"] | {"count": 4}, "versions": {"jax": "0.11"}, "commit": "def", "started": "now"}
    assert sessions.add(tmp_path, other, 1).count("not") == 2
    assert not sessions.add(tmp_path, other, 2)
    assert sessions.add(tmp_path, facts | {"started": "later"}, 3)
    assert [session["after_epoch"] for session in sessions.recorded(tmp_path)[1:]] == [1, 3]
    assert len(sessions.in_words(sessions.recorded(tmp_path))) == 2
