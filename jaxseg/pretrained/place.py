"""Where a packed model lies and what its files are called.

A packed model is a run of which only the best weights are kept, in a few files. One lies in this folder; whatever takes
the folder of a run takes its name, `builtin`.
"""

from pathlib import Path

NAME = "builtin"
"""What stands for the folder of the model inside the package."""

FOLDER = Path(__file__).resolve().parent
"""The folder of the model inside the package."""

CARD, WEIGHTS, IMAGES, MODEL_CARD = "card.json", "weights.npz", "images.json.gz", "MODEL_CARD.md"
"""Files of a packed model: settings, origin and scores; weights; images that they have seen; the card to read."""


def folder_of(name: str | Path) -> Path:
    """Returns the folder of a run, or of the model inside where its name is given; `./builtin` is a folder."""
    return FOLDER if str(name) == NAME else Path(name).expanduser()


def display_name(workdir: Path) -> str:
    """Returns what a folder is called in records and messages: the model inside by its name."""
    return NAME if workdir == FOLDER else str(workdir)


def is_packed(workdir: Path) -> bool:
    """Tells whether a folder holds a packed model."""
    return (workdir / CARD).exists()
