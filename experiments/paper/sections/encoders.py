"""ResNet50V2, the paper's encoder, against ResNet50, its predecessor.

python -m experiments.paper.sections.encoders --out runs/paper --scale cpu
"""

from experiments.paper import rows, study
from experiments.paper.models import FULL
from experiments.paper.rows import Row

NAMES = {"resnet50v2": "ResNet50V2", "resnet50": "ResNet50"}

NAME = "encoders"


def run(of: study.Study) -> None:
    """Trains what is not trained, and writes the section."""
    results = []
    for encoder, title in NAMES.items():
        if encoder == of.encoder:
            results.append(of.row(FULL) | {"title": f"{title}, ImageNet"})
        elif of.encoder != "none":
            # The file that the command line names is of the other encoder.
            changes = {"model.encoder": encoder, "model.pretrained": "imagenet"}
            results.append(of.row(Row(f"encoder_{encoder}", f"{title}, ImageNet", changes)))
    for encoder, title in NAMES.items():
        network = encoder if of.encoder != "none" else "none"
        row = Row(f"scratch_{encoder}", f"{title}, random weights", {"model.encoder": network}, pretrained=False)
        results.append(of.row(row))
    of.section(
        NAME,
        title="Encoders",
        paper="3.3.2",
        about="The same decoder on both encoders: with ImageNet weights, and from random ones.",
        tables=rows.tables(results),
        missing=rows.missing(results),
        seconds=sum(result["seconds"] for result in rows.done(results)),
    )


if __name__ == "__main__":
    study.main(run, __doc__)
