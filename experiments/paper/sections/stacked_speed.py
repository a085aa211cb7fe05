"""Runs trained together as one program, against the same runs one after the other.

python -m experiments.paper.sections.stacked_speed --out runs/paper --scale cpu
"""

import dataclasses
import json
import time

from experiments.paper import study
from experiments.paper.models import FULL
from experiments.paper.rows import JSON
from experiments.paper.stacked import train_together
from experiments.shared.tables import shown, spread
from jaxseg.system.files import write_json

NAME = "stacked_speed"

ROUNDS = 2

STEPS = 3
"""Of each run in a round, besides the first, which compiles."""


def run(of: study.Study) -> None:
    """Measures, and writes the section."""
    path, tables, missing = of.place(NAME, "measured.json"), [], []
    if not path.exists() and not of.report:
        write_json(path, measure(of))
    if path.exists():
        measured = json.loads(path.read_text())
        tables = [table(measured)]
    else:
        missing = ["Trained together: was not measured"]
    of.section(
        NAME,
        title="Trained together",
        about=(
            f"Runs of the full model, {STEPS + 1} steps each: their parameters stacked, the step mapped over them, and "
            f"one after the other; {ROUNDS} rounds in turn, nothing kept of what was compiled."
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
    return {"caption": "Median, and quartiles in brackets, of all runs together", "head": head, "rows": lines}


def measure(of: study.Study) -> JSON:
    """Trains both ways in turn; returns seconds."""
    import jax

    began = time.perf_counter()
    config = of.config(FULL).updated({"train.epochs": 1})
    members = [
        dataclasses.replace(m, train=m.train.select(range((STEPS + 1) * config.train.batch_size), "first"))
        for m in of.members(FULL, config)
    ]
    jax.config.update("jax_enable_compilation_cache", False)
    parts: dict[str, dict[str, list[float]]] = {}
    for _ in range(ROUNDS):
        for how, groups in (("together", [members]), ("one after the other", [[member] for member in members])):
            study.say(f"{len(members)} runs {how}")
            done = [train_together(config, group, study.say)[0] for group in groups]
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
    study.main(run, __doc__)
