"""Speed of runs that are trained together as one program, against the same runs one after the other.

    python -m experiments.paper.sections.stacked_speed --out runs/paper --scale cpu

At scale `cpu` nine minutes on two cores of an AMD EPYC. Expect half of the time for compilation (50 s against 105 s)
and the same time for the steps.
"""

import dataclasses
import json
import time

import jax

from experiments.paper.command import main
from experiments.paper.models import FULL
from experiments.paper.rows import Row
from experiments.paper.stacked import train_together
from experiments.paper.study import Study
from experiments.shared.console import say
from experiments.shared.origin import JSON
from experiments.shared.tables import shown, spread
from jaxseg.system.files import write_json

NAME = "stacked_speed"

ROUNDS = 2
"""Rounds of each way, in turn."""

STEPS = 3
"""Steps of each run in a round, besides the first one, which compiles."""


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    del study  # no row is trained
    return []


def run(study: Study) -> None:
    """Measures, and writes the section."""
    path, tables, missing = study.place(NAME, "measured.json"), [], []
    if not path.exists() and not study.report:
        write_json(path, measure(study))
    if path.exists():
        measured = json.loads(path.read_text())
        tables = [table(measured)]
    else:
        missing = ["Trained together: not measured"]
    study.section(
        NAME,
        title="Trained together",
        about=(
            f"Runs of the full model, {STEPS + 1} steps each: as one program with stacked parameters, and one after "
            f"the other; {ROUNDS} rounds in turn, without a cache of compiled programs."
        ),
        tables=tables,
        missing=missing,
        seconds=measured["seconds"] if tables else 0.0,
    )


def table(measured: JSON) -> JSON:
    """Returns a line per way of training."""
    lines = [
        [f"{measured['runs']} runs {how}", shown(spread(part["compile"]), " s"), shown(spread(part["epoch"]), " s")]
        for how, part in measured["parts"].items()
    ]
    head = ["How", "First step and validation, which compile", f"{STEPS} more steps, and the rest of validation"]
    return {"caption": "Seconds of all runs: median, and quartiles in brackets", "head": head, "rows": lines}


def measure(study: Study) -> JSON:
    """Trains both ways in turn; returns the seconds of each."""
    began = time.perf_counter()
    config = study.config(FULL).updated({"train.epochs": 1})
    members = [
        dataclasses.replace(m, train=m.train.select(range((STEPS + 1) * config.train.batch_size), "first"))
        for m in study.members(FULL, config)
    ]
    jax.config.update("jax_enable_compilation_cache", False)
    parts: dict[str, dict[str, list[float]]] = {}
    for _ in range(ROUNDS):
        for how, groups in (("together", [members]), ("one after the other", [[member] for member in members])):
            say(f"{len(members)} runs {how}")
            done = [train_together(config, group, say)[0] for group in groups]
            part = parts.setdefault(how, {"compile": [], "epoch": []})
            part["compile"].append(sum(trained.compile_seconds for trained in done))
            part["epoch"].append(sum(trained.seconds for trained in done))
    jax.config.update("jax_enable_compilation_cache", True)
    return {
        "runs": len(members),
        "parts": parts,
        "seconds": time.perf_counter() - began,
    }


if __name__ == "__main__":
    main(run, __doc__)
