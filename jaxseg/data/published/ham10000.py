"""HAM10000 as a TFDS data set: 10,015 dermoscopic images of 7,470 lesions, with masks and diagnoses.

Importing this module registers the set: `tfds.data_source("ham10000", split="train")` then works.
"""

import csv
import io

from jaxseg.data.published.isic import IsicChallenge
from jaxseg.data.published.source import Files, Pair, find, pair_up
from jaxseg.errors import UserError


class Ham10000(IsicChallenge):
    """HAM10000, not split: several images show the same lesion, and stay on one side of every split and fold."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "get HAM10000_images_part_1.zip, HAM10000_images_part_2.zip, HAM10000_segmentations_lesion_tschandl.zip and "
        "HAM10000_metadata from https://doi.org/10.7910/DVN/DBW86T and point --source at the folder that holds them, "
        "unpacked or not"
    )
    ARCHIVES = "HAM10000_*"
    EXPECTED = {"train": 10015}
    DESCRIPTION = "Dermoscopic images of common pigmented lesions, with lesion masks, diagnoses and lesion numbers."
    HOMEPAGE = "https://doi.org/10.7910/DVN/DBW86T"
    CITATION = """@article{tschandl2018ham10000,
              title={The HAM10000 dataset, a large collection of multi-source dermatoscopic images of common pigmented
                skin lesions},
              author={Tschandl, Philipp and Rosendahl, Cliff and Kittler, Harald},
              journal={Scientific Data},
              volume={5},
              pages={180161},
              year={2018}}"""

    def _find(self, files: Files, source: str) -> tuple[dict[str, list[Pair]], dict[str, str]]:
        images = find(files, r"HAM10000_images_part_[12]/(?:[^/]+/)*(?P<name>ISIC_\d+)\.jpe?g")
        if not images:
            return {}, {}
        masks = find(files, r"HAM10000_segmentations_lesion_tschandl/(?:[^/]+/)*(?P<name>ISIC_\d+)_segmentation\.png")
        tables = list(find(files, r"(?P<name>HAM10000_metadata)(?:\.csv|\.tab|\.txt)?").values())
        if not tables:
            raise UserError(
                f"--source {source}: HAM10000_metadata is missing, which says which images show the same lesion; put "
                "it in there"
            )
        rows = read_metadata(tables[0].read().decode("utf-8-sig", errors="replace"), tables[0].where)
        pairs = pair_up(images, masks)
        for pair in pairs:
            if pair.name not in rows:
                raise UserError(f"{pair.image.where}: {tables[0].where} has no row for {pair.name}; fetch it again")
        self._kept_together = {pair.name: rows[pair.name][0] for pair in pairs}
        return {"train": pairs}, {pair.name: rows[pair.name][1] for pair in pairs}


def read_metadata(text: str, where: str) -> dict[str, tuple[str, str]]:
    """Reads lesion and diagnosis of each image from HAM10000_metadata.

    Args:
      text: the table, separated by commas or tabs.
      where: what to call it in an error message.

    Returns:
      (lesion number, diagnosis) by image name.

    Raises:
      UserError: no header with the columns lesion_id, image_id and dx, or a row that lacks one of them.
    """
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    if not {"lesion_id", "image_id", "dx"} <= set(reader.fieldnames or ()):
        raise UserError(f"{where}: no header with the columns lesion_id, image_id and dx; fetch the table again")
    rows = {}
    for row in reader:
        if not all(row[column] for column in ("lesion_id", "image_id", "dx")):
            raise UserError(f"{where}: line {reader.line_num} is cut off, or lacks a cell; fetch the table again")
        rows[row["image_id"].upper()] = row["lesion_id"], row["dx"]
    return rows
