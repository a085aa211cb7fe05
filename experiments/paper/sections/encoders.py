"""ResNet50V2, the paper's encoder, against ResNet50, its predecessor.

    python -m experiments.paper.sections.encoders --out runs/paper --scale cpu

At scale `cpu` 22 minutes on one core of an AMD EPYC besides the full model. Expect a Dice per image on the external set
of 0.79 for ResNet50 with ImageNet weights, 0.73 for ResNet50 and 0.71 for ResNet50V2 from random weights.
"""

from experiments.paper import rows
from experiments.paper.command import main
from experiments.paper.models import FULL
from experiments.paper.rows import Row
from experiments.paper.study import Study
from jaxseg.config import ENCODER_TITLES

NAME = "encoders"


def rows_of(study: Study) -> list[Row]:
    """Returns the rows that the section shows."""
    return [row for row, _ in titled_rows(study)]


def titled_rows(study: Study) -> list[tuple[Row, str]]:
    """Returns the rows with their titles in the section's tables."""
    titled = []
    for encoder, name in ENCODER_TITLES.items():
        if encoder == study.encoder:
            titled.append((FULL, f"{name}, ImageNet"))
        elif study.encoder != "none":
            # The weights that the command line names are those of the other encoder.
            changes = {"model.encoder": encoder, "model.pretrained": "imagenet"}
            titled.append((Row(f"encoder_{encoder}", f"{name}, ImageNet", changes), f"{name}, ImageNet"))
    for encoder, name in ENCODER_TITLES.items():
        network = encoder if study.encoder != "none" else "none"
        title = f"{name}, random weights"
        row = Row(f"scratch_{encoder}", title, {"model.encoder": network}, pretrained=False)
        titled.append((row, title))
    return titled


def run(study: Study) -> None:
    """Trains the rows that are not there yet, and writes the section."""
    results = [study.row(row) | {"title": title} for row, title in titled_rows(study)]
    study.section(
        NAME,
        title="Encoders",
        paper="3.3.2",
        about="The same decoder on both encoders, with ImageNet weights and from random weights.",
        tables=rows.tables(results),
        missing=rows.missing(results),
        seconds=sum(result["seconds"] for result in rows.done(results)),
    )


if __name__ == "__main__":
    main(run, __doc__)
