"""Few images of PH2: a small network on 5 to 160 of them, alone, beside drawn images, and after drawn images.

    python -m experiments.paper.sections.drawn_few --out runs/paper --scale cpu

At scale `cpu` an hour and a half on two cores of an AMD EPYC. The external set is scored, and chooses nothing.
"""

import time
from collections.abc import Mapping, Sequence

from experiments.paper.command import main
from experiments.paper.drawn_models import KINDS, alone_row, epochs_of, few_row
from experiments.paper.plots import lines
from experiments.paper.rows import Row, mean_sd, values
from experiments.paper.study import Study
from experiments.shared.origin import JSON

NAME = "drawn_few"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows, in the order of the work."""
    sizes = study.scale.drawn
    return [alone_row(study, sizes.seen[0]), *(few_row(study, count, kind) for kind in KINDS for count in sizes.few)]


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    began = time.perf_counter()
    results = {row.name: study.row(row) for row in rows_of(study)}
    few = few_points(study, results)
    own = few_points(study, results, "validation")
    figures = []
    if any(len(points) > 1 for points in few.values()):
        path = study.place(NAME, "curve.png")
        lines(few, path, synthetic=study.synthetic, x_label="PH2 images", y_label="external set: Dice per image")
        figures = [{"file": path.name, "chart": True, "caption": "Mean and standard deviation over the seeds"}]
    study.section(
        NAME,
        title="Few images beside drawn ones",
        about=(
            "The plain U-Net of the model inside the package, from random weights, with the preset's augmentation. "
            "However few the PH2 images, which each seed draws for itself, an epoch has as many steps: they repeat. "
            f"Alone: {study.scale.drawn.few_epochs} epochs. Beside drawn images, new in every step and half of every "
            f"batch: as many steps. After drawn images: {epochs_of(study)} epochs at a tenth of the rate, from the "
            f"same seed's run of {study.scale.drawn.seen[0]:,} drawn images alone, which is the left end of both "
            "curves. PH2 validation chooses the epoch."
        ),
        # The tables show by themselves what was not run.
        tables=[
            few_table(study, few, "Dice per image on the external set"),
            few_table(study, own, "Dice per image on PH2 validation, which chose the epoch"),
        ],
        figures=figures,
        rows=list(results),
        seconds=time.perf_counter() - began,
    )


def few_points(
    study: Study, results: Mapping[str, JSON], test: str = "external"
) -> dict[str, list[tuple[float, float, float]]]:
    """Returns the curves of few images: number, mean and standard deviation of Dice per image, by kind.

    Args:
      study: the study.
      results: results by the row's name.
      test: "external", or "validation", of which drawn images alone have their own.
    """
    none = results.get(alone_row(study, study.scale.drawn.seen[0]).name, {})
    series: dict[str, list[tuple[float, float, float]]] = {}
    for kind in KINDS:
        # No image of PH2, and drawn ones: the left end of both curves with drawn images.
        known = [(0, none)] if kind != "alone" and test == "external" else []
        known += [(n, results.get(few_row(study, n, kind).name, {})) for n in sorted(study.scale.drawn.few)]
        points = [(n, *mean_sd(values(r, test, "per_image", "dice"))) for n, r in known if r.get("tests", {}).get(test)]
        series |= {kind: points} if points else {}
    return series


def few_table(study: Study, few: Mapping[str, Sequence[tuple[float, float, float]]], caption: str) -> JSON:
    """Returns a table of few images, with a line per number and a column per kind.

    Args:
      study: the study.
      few: what `few_points` returns.
      caption: what the numbers are.
    """
    cells = {(count, kind): f"{mean:.3f} ± {sd:.3f}" for kind, points in few.items() for count, mean, sd in points}
    counts = (0, *sorted(study.scale.drawn.few))
    table = [[str(count), *(cells.get((count, kind), "-") for kind in KINDS)] for count in counts]
    head = ["PH2 images", *(f"PH2 {kind}" for kind in KINDS)]
    return {"caption": caption, "head": head, "rows": table}


if __name__ == "__main__":
    main(run, __doc__)
