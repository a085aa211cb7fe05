"""Measures how far jaxseg is from Keras, and writes README's table of it.

    KERAS_BACKEND=jax python -m experiments.parity          (measure, then write the table)
    python -m experiments.parity table                      (write the table from the file of the last time)

Needs `pip install -e '.[test,keras]'`; a quarter of an hour on two CPU cores. What is measured, and how, is in
`tests/reference/keras_measures.py`; `tests/test_keras_parity.py` holds each number to its tolerance. The numbers go to
`experiments/results/keras_parity.json`.
"""

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from experiments.shared.origin import RESULTS, ROOT, commit, today, versions
from experiments.shared.tables import row, write_between

sys.path.insert(0, str(ROOT / "tests"))

SEQUENCES = 5000
"""Loss sequences for the schedules; the test has 2000."""

NAMES = {"resnet50v2": "ResNet50V2", "resnet50": "ResNet50"}


def measure() -> dict:
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


def describe() -> dict:
    """Returns where, when and with what it is measured; called before, as the commit may move on meanwhile."""
    return {
        "kind": "keras_parity",
        "command": "KERAS_BACKEND=jax python -m experiments.parity",
        "date": today(),
        "commit": commit(),
        "versions": versions(("keras", "jax", "jaxlib", "flax", "optax", "numpy")),
        "hardware": {"kind": "cpu", "machine": platform.machine(), "cores": os.cpu_count()},
    }


def table(result: dict) -> str:
    """Returns the Markdown table and a line on its origin."""
    found = result["measured"]
    lines = [row("Compared", "How", "Difference"), row(*["---"] * 3)]
    for encoder, name in NAMES.items():
        of = found[encoder]
        lines += [
            row(f"{name}: parameters", "without top", f"none: {of['parameters']['keras']:,}"),
            row(
                f"{name}: five feature maps",
                "random weights and statistics; 224 x 224 and 97 x 131, batch 2; of the map's largest value",
                f"{max(of['features_224'], of['features_97x131']):.0e}",
            ),
            row(f"{name}: batch statistics", "after a step of training", f"{of['batch_statistics']:.0e}"),
            row(f"{name}: gradients", "every parameter, float64; of the gradient's norm", f"{of['gradients']:.0e}"),
            row(
                f"{name}: weight files",
                f"{of['files_from_keras']['layouts']} that Keras wrote, 1 that Keras read",
                f"{of['files_from_keras']['tensors_that_differ'] + of['file_to_keras']['tensors_that_differ']} tensors",
            ),
        ]
    schedules = found["schedules"]
    wrong = ", ".join(f"{name} in {count}" for name, count in schedules["mismatches"].items() if count)
    lines += [
        row("Focal loss", "equation 2 in float64, logits -60 to 60", f"{found['equation_2']:.0e}"),
        row(
            "Class-balanced focal loss",
            "Keras in float64, logits -8 to 8: loss, mean, gradient",
            f"{max(found['class_balanced_focal_loss'].values()):.0e}",
        ),
        row(
            "`ReduceLROnPlateau`, `EarlyStopping`",
            f"{schedules['sequences']:,} loss sequences with ties, NaN, infinities: learning rates, stop, best epoch",
            wrong or "none in any, bit for bit",
        ),
        row("Adam", "300 steps, gradients 1e-11 to 10; of one step", f"{found['adam']:.0e}"),
        row(
            "The whole recipe",
            f"loss over {len(found['recipe_float64']['losses']['keras'])} steps, 64 px, batch 4, float64",
            f"{found['recipe_float64']['largest']:.0e}",
        ),
        row(
            "The same in float32",
            "at the first step; the largest (rounding moves ReLUs, and Adam enlarges it)",
            f"{found['recipe_float32']['first']:.0e}; {found['recipe_float32']['largest']:.0e}",
        ),
    ]
    versions, hardware = result["versions"], result["hardware"]
    origin = (
        f"Keras {versions['keras']} on JAX {versions['jax']}, {hardware['cores']} CPU cores, {result['date']}, commit "
        f"{result['commit']}: [keras_parity.json](experiments/results/keras_parity.json)."
    )
    return "\n".join([*lines, "", origin])


def write_table() -> None:
    """Writes README's table."""
    write_between("keras-parity", table(json.loads((RESULTS / "keras_parity.json").read_text())))


def main() -> None:
    """Measures unless told not to, and writes the table."""
    if sys.argv[1:] not in ([], ["table"]):
        sys.exit(__doc__)
    if not sys.argv[1:]:
        began, about, measured = time.perf_counter(), describe(), measure()
        content = {**about, "seconds": round(time.perf_counter() - began), "measured": measured}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "keras_parity.json").write_text(json.dumps(content, indent=1) + "\n")
    write_table()


if __name__ == "__main__":
    main()
