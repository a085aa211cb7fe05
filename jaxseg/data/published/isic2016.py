"""ISIC 2016 challenge, part 1, as a TFDS data set: 900 training and 379 test images with lesion masks.

Importing this module registers the set: `tfds.data_source("isic2016", split="test")` then works.
"""

from jaxseg.data.published.isic import IsicChallenge

_NAME = "ISBI2016_ISIC_Part1"


class Isic2016(IsicChallenge):
    """ISIC 2016 part 1, split as published; it has no validation images."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "get ISBI2016_ISIC_Part1_Training_Data.zip, ..._Training_GroundTruth.zip, ..._Test_Data.zip and "
        "..._Test_GroundTruth.zip from https://challenge.isic-archive.com/data/#2016 and point --source at the folder "
        "that holds them, unpacked or not"
    )
    ARCHIVES = f"{_NAME}_*"
    EXPECTED = {"train": 900, "test": 379}
    FOLDERS = {
        "train": (f"{_NAME}_Training_Data", f"{_NAME}_Training_GroundTruth"),
        "test": (f"{_NAME}_Test_Data", f"{_NAME}_Test_GroundTruth"),
    }
    DESCRIPTION = "Dermoscopic images of the ISIC 2016 challenge, part 1, with expert lesion masks."
    HOMEPAGE = "https://challenge.isic-archive.com/data/#2016"
    CITATION = """@article{gutman2016skin,
              title={Skin lesion analysis toward melanoma detection: A challenge at the International Symposium on
                Biomedical Imaging (ISBI) 2016, hosted by the International Skin Imaging Collaboration (ISIC)},
              author={Gutman, David and Codella, Noel CF and Celebi, Emre and Helba, Brian and Marchetti, Michael
                and Mishra, Nabin and Halpern, Allan},
              journal={arXiv preprint arXiv:1605.01397},
              year={2016}}"""
