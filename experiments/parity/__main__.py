"""Measures the differences between jaxseg and Keras, and writes their table into RESULTS.md.

    python -m experiments.parity          (measures, then writes the table: 6 minutes on two CPU cores)
    python -m experiments.parity table    (writes the table from the kept file: a second)

Needs `pip install -e '.[test,keras]'`. `experiments/parity/reference/keras_measures.py` says what is measured and how;
`tests/experiments/test_keras_parity.py` holds each number to its tolerance. The numbers go to
`experiments/results/keras_parity.json`. Expect relative differences of 1e-5 or less, and of 1e-2 after 20 steps in
float32 (rounding moves ReLUs).
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

from experiments.shared.origin import JSON, RESULTS, commit, today, versions
from experiments.shared.tables import PAGE, markdown, write_between
from jaxseg.config import ENCODER_TITLES

SEQUENCES = 5000
"""Loss sequences for the schedules; the test uses 2000."""


def measure() -> JSON:
    """Returns all differences, by what differs."""
    from experiments.parity.reference import keras_measures, keras_recipe, recipe

    def say(what: str) -> None:
        print(f"{time.perf_counter() - began:5.0f} s  {what}", flush=True)

    began, result = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for encoder in keras_measures.ENCODERS:
            say(encoder)
            mine, theirs = keras_measures.parameters(encoder)
            files = [
                keras_measures.file_from_keras(folder, encoder, file, top)
                for file in keras_measures.FILES
                for top in (False, True)
            ]
            result[encoder] = {
                "parameters": {"jaxseg": mine, "keras": theirs},
                "features_224": max(keras_measures.features(encoder, (2, 224, 224, 3)).values()),
                "features_97x131": max(keras_measures.features(encoder, recipe.IMAGE_SHAPE).values()),
                "batch_statistics": max(keras_measures.batch_statistics(encoder).values()),
                "gradients": max(keras_measures.gradients(encoder).values()),
                "files_from_keras": {"layouts": len(files), "tensors_that_differ": sum(files)},
                "file_to_keras": {"tensors_that_differ": keras_measures.file_to_keras(folder, encoder)},
            }
        say("losses, schedules, Adam")
        result["equation_2"] = keras_measures.equation_2()
        result["class_balanced_focal_loss"] = keras_measures.focal_loss()
        result["schedules"] = {"sequences": SEQUENCES, "mismatches": keras_measures.schedule_mismatches(SEQUENCES)}
        result["adam"] = keras_measures.adam()
        for dtype in ("float64", "float32"):
            say(f"{keras_recipe.STEPS} steps of the recipe, {dtype}")
            losses = keras_recipe.run_apart(dtype, folder / "losses.json")
            pairs = list(zip(losses["jaxseg"], losses["keras"], strict=True))
            result[f"recipe_{dtype}"] = {
                "losses": losses,
                "first": abs(pairs[0][0] - pairs[0][1]) / pairs[0][1],
                "largest": max(abs(a - b) / b for a, b in pairs),
            }
    say("done")
    return result


def describe() -> JSON:
    """Returns where, when and with what the parity is measured; call it before, as the commit may change meanwhile."""
    return {
        "kind": "keras_parity",
        "command": "python -m experiments.parity",
        "date": today(),
        "commit": commit(),
        "versions": versions(("keras", "jax", "jaxlib", "flax", "optax", "numpy")),
        "hardware": {"kind": "cpu", "machine": platform.machine(), "cores": os.cpu_count()},
    }


def table(result: JSON) -> str:
    """Returns the Markdown table and a line on its origin."""
    found = result["measured"]
    lines = []
    for encoder, name in ENCODER_TITLES.items():
        measured = found[encoder]
        lines += [
            (f"{name}: parameters", "without top", f"none: {measured['parameters']['keras']:,}"),
            (
                f"{name}: five feature maps",
                "random weights and statistics; 224 x 224 and 97 x 131, batch 2; of the map's largest value",
                f"{max(measured['features_224'], measured['features_97x131']):.0e}",
            ),
            (f"{name}: batch statistics", "after a step of training", f"{measured['batch_statistics']:.0e}"),
            (f"{name}: gradients", "every parameter, float64; of the gradient's norm", f"{measured['gradients']:.0e}"),
            (
                f"{name}: weight files",
                f"{measured['files_from_keras']['layouts']} that Keras wrote, 1 that Keras read",
                f"{sum(measured[way]['tensors_that_differ'] for way in ('files_from_keras', 'file_to_keras'))} tensors",
            ),
        ]
    schedules = found["schedules"]
    wrong = ", ".join(f"{name} in {count}" for name, count in schedules["mismatches"].items() if count)
    lines += [
        ("Focal loss", "equation 2 in float64, logits -60 to 60", f"{found['equation_2']:.0e}"),
        (
            "Class-balanced focal loss",
            "Keras in float64, logits -8 to 8: loss, mean, gradient",
            f"{max(found['class_balanced_focal_loss'].values()):.0e}",
        ),
        (
            "`ReduceLROnPlateau`, `EarlyStopping`",
            f"{schedules['sequences']:,} loss sequences with ties, NaN, infinities: learning rates, stop, best epoch",
            wrong or "none in any, bit for bit",
        ),
        ("Adam", "300 steps, gradients 1e-11 to 10; of one step", f"{found['adam']:.0e}"),
        (
            "The whole recipe",
            f"loss over {len(found['recipe_float64']['losses']['keras'])} steps, 64 px, batch 4, float64",
            f"{found['recipe_float64']['largest']:.0e}",
        ),
        (
            "The same in float32",
            "at the first step; the largest (rounding moves ReLUs, and Adam enlarges it)",
            f"{found['recipe_float32']['first']:.0e}; {found['recipe_float32']['largest']:.0e}",
        ),
    ]
    versions, hardware = result["versions"], result["hardware"]
    origin = (
        f"Keras {versions['keras']} on JAX {versions['jax']}, {hardware['cores']} CPU cores, {result['date']}, commit "
        f"{result['commit']}: [keras_parity.json](keras_parity.json)."
    )
    return "\n".join([markdown(("Compared", "How", "Difference"), lines), "", origin])


def write_table() -> None:
    """Writes the table from the kept file."""
    write_between("keras-parity", table(json.loads((RESULTS / "keras_parity.json").read_text())), PAGE)


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="?", choices=("table",), help="write the table from the kept file, measure nothing"
    )
    if parser.parse_args().what is None:
        began, about, measured = time.perf_counter(), describe(), measure()
        content = {**about, "seconds": round(time.perf_counter() - began), "measured": measured}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "keras_parity.json").write_text(json.dumps(content, indent=1) + "\n")
    write_table()


if __name__ == "__main__":
    main()
