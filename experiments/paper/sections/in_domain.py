"""Trained and scored in one domain: cross-validation on the training images of ISIC 2016.

python -m experiments.paper.sections.in_domain --out runs/paper --scale cpu
"""

from experiments.paper import study
from experiments.paper.rows import Row
from experiments.paper.sections.cross_validation import section

NAME = "in_domain"


def run(of: study.Study) -> None:
    """Trains what is not trained, and writes the section."""
    name, changes = of.scale.in_domain
    row = Row("in_domain", f"the full model, trained on {name}, folds", {"data.name": name, **changes}, folds=True)
    section(
        of,
        NAME,
        row,
        title="In its own domain",
        about=(
            "How much of the distance to the paper's numbers is that between data sets? The same network, trained on "
            "images of the external set's kind, and scored on those that were held out."
        ),
    )


if __name__ == "__main__":
    study.main(run, __doc__)
