"""Writes the committed split of PH2, `jaxseg/data/splits/ph2.json`, from PH2's own table of diagnoses.

    python -m experiments.paper.ph2_split PH2Dataset/PH2_dataset.txt

160 images train and 40 validate, with each diagnosis in the same proportion: 64 + 16 common nevi, 64 + 16 atypical nevi
and 32 + 8 melanomas. The file holds names only. The script takes a second and writes the same file on every machine.
"""

import argparse
import json
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the publisher's PH2_dataset.txt")
    args = parser.parse_args()
    target = Path(jaxseg.__file__).parent / "data" / "splits" / "ph2.json"
    target.write_text(json.dumps(split_of(args.table), indent=1) + "\n")
    print(f"wrote {target}")
