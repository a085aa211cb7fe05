"""How many labelled images does it take? With and without ImageNet weights, with and without augmentation.

python -m experiments.paper.sections.low_data --out runs/paper --scale cpu
"""

from experiments.paper import rows, study
from experiments.paper.plots import lines
from experiments.paper.rows import Row, mean_sd, values

KINDS = {
    "ImageNet, augmented": (True, True),
    "ImageNet, not augmented": (True, False),
    "random weights, augmented": (False, True),
    "random weights, not augmented": (False, False),
}
"""By label: pretrained, augmented."""

NAME = "low_data"


def row(of: study.Study, count: int, label: str) -> Row:
    """Returns the row of a number of images and a kind."""
    pretrained, augmented = KINDS[label]
    name = f"low_data_{count}{'_pretrained' * pretrained}{'_augmented' * augmented}"
    every, with_weights = of.scale.low_data_settings
    changes = {**every, **(with_weights if pretrained else {}), "augment.enabled": augmented}
    return Row(name, f"{count} images, {label}", changes, pretrained=pretrained, train_images=count, keep=False)


def run(of: study.Study) -> None:
    """Trains what is not trained, and writes the section."""
    # The largest first: a study that is cut short has the ends of every curve before its middle.
    counts = sorted(of.scale.low_data, key=lambda n: (n not in (min(of.scale.low_data), max(of.scale.low_data)), n))
    results = {(count, label): of.row(row(of, count, label)) for count in counts for label in KINDS}
    done = rows.done(list(results.values()))
    figures = []
    if done:
        series = {}
        for label in KINDS:
            mine = [(count, results[count, label]) for count in sorted(of.scale.low_data)]
            series[label] = [
                (count, *mean_sd(values(result, "external", "per_image", "dice")))
                for count, result in mine
                if "missing" not in result
            ]
        lines(
            {label: points for label, points in series.items() if points},
            of.place(NAME, "low_data.png"),
            synthetic=of.synthetic,
            x_label="training images",
            y_label="external set: Dice per image",
            log_x=True,
        )
        figures = [{"file": "low_data.png", "chart": True, "caption": "Mean and standard deviation over the seeds"}]
    of.section(
        NAME,
        title="Few images",
        about=(
            "Each seed draws its own images, stratified by diagnosis, and sees them as often as makes the steps those "
            "of all images. All use the same validation images besides, to choose the epoch."
        ),
        tables=[chart_table(of, results)],
        figures=figures,
        missing=rows.missing(list(results.values())),
        seconds=sum(result["seconds"] for result in done),
    )


def chart_table(of: study.Study, results: dict[tuple[int, str], rows.JSON]) -> rows.JSON:
    """Returns a table with a line per number of images and a column per kind."""
    lines = []
    for count in sorted(of.scale.low_data):
        cells = [
            rows.cell(r, "external", "per_image", "dice") if "tests" in r else "not run"
            for r in (results[count, label] for label in KINDS)
        ]
        lines.append([str(count), *cells])
    return {"caption": "External set: Dice per image", "head": ["Training images", *KINDS], "rows": lines}


if __name__ == "__main__":
    study.main(run, __doc__)
