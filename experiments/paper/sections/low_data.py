"""How many labelled images does it take? With and without ImageNet weights, with and without augmentation.

    python -m experiments.paper.sections.low_data --out runs/paper --scale cpu

At scale `cpu` an hour and a half on one core of an AMD EPYC, 20 rows of three seeds. Expect a Dice per image on the
external set from 0.62 to 0.78.
"""

from experiments.paper import rows
from experiments.paper.command import main
from experiments.paper.plots import lines
from experiments.paper.rows import Row, mean_sd, values
from experiments.paper.study import Study
from experiments.shared.origin import JSON

KINDS = {
    "ImageNet, augmented": (True, True),
    "ImageNet, not augmented": (True, False),
    "random weights, augmented": (False, True),
    "random weights, not augmented": (False, False),
}
"""Whether the encoder is pretrained and whether images are augmented, by label."""

NAME = "low_data"


def row(study: Study, count: int, label: str) -> Row:
    """Returns the row of a number of training images and a kind.

    Args:
      study: the study.
      count: training images.
      label: a key of `KINDS`.
    """
    pretrained, augmented = KINDS[label]
    name = f"low_data_{count}{'_pretrained' if pretrained else ''}{'_augmented' if augmented else ''}"
    settings, with_weights = study.scale.low_data_settings
    changes = {**settings, **(with_weights if pretrained else {}), "augment.enabled": augmented}
    return Row(name, f"{count} images, {label}", changes, pretrained=pretrained, train_images=count, keep=False)


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    # The ends of every curve first: a study that is cut short has them before the middle.
    ends = (min(study.scale.low_data), max(study.scale.low_data))
    counts = sorted(study.scale.low_data, key=lambda count: (count not in ends, count))
    return [row(study, count, label) for count in counts for label in KINDS]


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    trained = {planned.name: study.row(planned) for planned in rows_of(study)}
    results = {
        (count, label): trained[row(study, count, label).name] for count in study.scale.low_data for label in KINDS
    }
    done = rows.done(list(results.values()))
    figures = []
    if done:
        series = {}
        for label in KINDS:
            by_count = [(count, results[count, label]) for count in sorted(study.scale.low_data)]
            series[label] = [
                (count, *mean_sd(values(result, "external", "per_image", "dice")))
                for count, result in by_count
                if "missing" not in result
            ]
        lines(
            {label: points for label, points in series.items() if points},
            study.place(NAME, "low_data.png"),
            synthetic=study.synthetic,
            x_label="training images",
            y_label="external set: Dice per image",
            log_x=True,
        )
        figures = [{"file": "low_data.png", "chart": True, "caption": "Mean and standard deviation over the seeds"}]
    study.section(
        NAME,
        title="Few images",
        about=(
            "Each seed draws its own images, stratified by diagnosis, and repeats them until an epoch has as many "
            "steps as with all images. All use the same validation images to choose the epoch."
        ),
        tables=[chart_table(study, results)],
        figures=figures,
        missing=rows.missing(list(results.values())),
        seconds=sum(result["seconds"] for result in done),
    )


def chart_table(study: Study, results: dict[tuple[int, str], JSON]) -> JSON:
    """Returns a table with a line per number of images and a column per kind.

    Args:
      study: the study.
      results: results by number of images and label.
    """
    lines = []
    for count in sorted(study.scale.low_data):
        cells = [
            rows.cell(r, "external", "per_image", "dice") if "tests" in r else "not run"
            for r in (results[count, label] for label in KINDS)
        ]
        lines.append([str(count), *cells])
    return {"caption": "External set: Dice per image", "head": ["Training images", *KINDS], "rows": lines}


if __name__ == "__main__":
    main(run, __doc__)
