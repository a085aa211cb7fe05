"""Writes the committed split of PH2, `jaxseg/data/splits/ph2.json`, from PH2's own table of diagnoses.

    python -m experiments.paper.ph2_split PH2Dataset/PH2_dataset.txt

160 images train and 40 validate, with each diagnosis in the same proportion: 64 + 16 common nevi, 64 + 16 atypical nevi
and 32 + 8 melanomas. The file holds names only. The script takes a second and writes the same file on every machine.
"""

import json
import sys
from pathlib import Path

import jaxseg
from jaxseg.data.folds import make_split
from jaxseg.data.published.ph2 import read_table

SEED = 0


def split_of(table: Path) -> dict:
    """Returns the split file's content from the path of PH2_dataset.txt."""
    diagnoses = read_table(table.read_text(), str(table))
    names = sorted(diagnoses)
    return make_split("ph2", names, [diagnoses[n] for n in names], SEED)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m experiments.paper.ph2_split PH2_dataset.txt")
    target = Path(jaxseg.__file__).parent / "data" / "splits" / "ph2.json"
    target.write_text(json.dumps(split_of(Path(sys.argv[1])), indent=1) + "\n")
    print(f"wrote {target}")
