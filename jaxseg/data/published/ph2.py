"""PH2 as a TFDS data set: 200 dermoscopic images with lesion masks and diagnoses.

Importing this module registers the set: `tfds.data_source("ph2", split="train")` then works.
"""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data.folds import committed_split
from jaxseg.data.images import encode_png
from jaxseg.data.published.builder import PublishedBuilder
from jaxseg.data.published.source import Files, Pair, file_at, find, pair_up
from jaxseg.errors import UserError

DIAGNOSES = ("common_nevus", "atypical_nevus", "melanoma")
"""The clinical diagnoses 0, 1 and 2 of PH2_dataset.txt."""

_log = logging.getLogger(__name__)


class Ph2(PublishedBuilder):
    """PH2, split into the 160 training and 40 validation images of the committed split file."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "get PH2Dataset.rar from https://www.fc.up.pt/addi/ph2%20database.html, unpack it (`unrar x PH2Dataset.rar`, "
        "`7z x` or `bsdtar -xf`) and point --source at the folder PH2Dataset"
    )
    ARCHIVES = "PH2*"
    EXPECTED = {split: len(names) for split, names in committed_split("ph2").items()}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Dermoscopic images of the Pedro Hispano hospital with expert lesion masks and diagnoses.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "name": tfds.features.Text(),
                    "diagnosis": tfds.features.ClassLabel(names=DIAGNOSES),
                }
            ),
            supervised_keys=("image", "mask"),
            homepage="https://www.fc.up.pt/addi/ph2%20database.html",
            citation="""@inproceedings{mendonca2013ph2,
              title={PH2 - A dermoscopic image database for research and benchmarking},
              author={Mendon{\\c{c}}a, Teresa and Ferreira, Pedro M and Marques, Jorge S and Marcal, Andr{\\'e} RS
                and Rozeira, Jorge},
              booktitle={Annual International Conference of the IEEE Engineering in Medicine and Biology Society},
              pages={5437--5440},
              year={2013}}""",
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _find(self, files: Files, source: str) -> tuple[dict[str, list[Pair]], dict[str, str]]:
        images = find(files, r"(?P<name>IMD\d+)_Dermoscopic_Image/(?P=name)\.bmp")
        if not images:
            return {}, {}
        masks = find(files, r"(?P<name>IMD\d+)_lesion/(?P=name)_lesion\.bmp")
        pairs = {pair.name: pair for pair in pair_up(images, masks)}
        split = committed_split("ph2")
        if strangers := sorted(pairs.keys() - set(split["train"] + split["validation"])):
            _log.warning("%s: left out, as PH2 has no such images: %s", source, ", ".join(strangers))
        diagnoses = _diagnoses(files, source)
        for name, pair in pairs.items():
            if name not in diagnoses and name not in strangers:
                raise UserError(f"{pair.image.where}: PH2_dataset.txt has no row for {name}; fetch the table again")
        return {s: [pairs[n] for n in names if n in pairs] for s, names in split.items()}, diagnoses

    def _stored_image(self, file: bytes, image: np.ndarray) -> bytes:
        return encode_png(image)  # the bitmap's very pixels in half of its bytes

    def _labels(self, group: str) -> dict[str, Any]:
        return {"diagnosis": group}


def read_table(text: str, where: str) -> dict[str, str]:
    """Reads the diagnoses from PH2_dataset.txt.

    Args:
      text: the table, in the publisher's layout (`|| IMD003 || || 0 || 0 || ...`) or separated by tabs.
      where: what to call it in an error message.

    Returns:
      One of `DIAGNOSES` for each image name.

    Raises:
      UserError: no header with the columns Name and Clinical Diagnosis, or a diagnosis other than 0, 1 and 2.
    """
    rows = [_cells(line) for line in text.lstrip("\ufeff").splitlines()]
    header = next((row for row in rows if "Name" in row and "Clinical Diagnosis" in row), None)
    if header is None:
        raise UserError(f"{where}: no line with the columns Name and Clinical Diagnosis; fetch the table again")
    name_column, diagnosis_column = header.index("Name"), header.index("Clinical Diagnosis")
    diagnoses = {}
    for row in rows:
        if len(row) <= max(name_column, diagnosis_column) or not re.fullmatch(r"IMD\d+", row[name_column]):
            continue  # the header, the legend below the publisher's table, empty lines
        code = row[diagnosis_column]
        if code not in ("0", "1", "2"):
            raise UserError(f"{where}: the clinical diagnosis of {row[name_column]} is {code!r}, not 0, 1 or 2")
        diagnoses[row[name_column]] = DIAGNOSES[int(code)]
    return diagnoses


def _cells(line: str) -> list[str]:
    """Splits a line; in the publisher's layout the bars at both ends delimit no cell, but empty cells count."""
    stripped = line.strip()
    cells = stripped.removeprefix("||").removesuffix("||").split("||") if "||" in line else line.split("\t")
    return [" ".join(cell.split()) for cell in cells]


def _diagnoses(files: Files, source: str) -> dict[str, str]:
    pattern = r"(?P<name>PH2_dataset)\.txt"
    # The table lies beside the folder of the images, which may itself be the source.
    beside = Path(source).expanduser().resolve().parent / "PH2_dataset.txt"
    tables = list(find(files, pattern).values())
    if not tables and beside.is_file():
        tables = [file_at(beside)]
    if not tables:
        raise UserError(f"--source {source}: PH2_dataset.txt is missing, which holds the diagnoses; put it in there")
    return read_table(tables[0].read().decode("utf-8", errors="replace"), tables[0].where)
