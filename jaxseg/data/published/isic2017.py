"""ISIC 2017 challenge, part 1, as a TFDS data set: 2,000 training, 150 validation and 600 test images with masks.

Importing this module registers the set: `tfds.data_source("isic2017", split="test")` then works.
"""

from jaxseg.data.published.isic import IsicChallenge


class Isic2017(IsicChallenge):
    """ISIC 2017 part 1, split as published."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "get ISIC-2017_Training_Data.zip, ISIC-2017_Training_Part1_GroundTruth.zip, and the same of Validation and "
        "Test_v2, from https://challenge.isic-archive.com/data/#2017 and point --source at the folder that holds "
        "them, unpacked or not"
    )
    ARCHIVES = "ISIC-2017_*"
    EXPECTED = {"train": 2000, "validation": 150, "test": 600}
    FOLDERS = {
        "train": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
        "validation": ("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
        "test": ("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"),
    }
    DESCRIPTION = "Dermoscopic images of the ISIC 2017 challenge, part 1, with expert lesion masks."
    HOMEPAGE = "https://challenge.isic-archive.com/data/#2017"
    CITATION = """@article{codella2017skin,
              title={Skin lesion analysis toward melanoma detection: A challenge at the 2017 International Symposium on
                Biomedical Imaging (ISBI), hosted by the International Skin Imaging Collaboration (ISIC)},
              author={Codella, Noel C. F. and Gutman, David and Celebi, M. Emre and Helba, Brian and Marchetti, Michael
                A. and Dusza, Stephen W. and Kalloo, Aadi and Liopyris, Konstantinos and Mishra, Nabin and Kittler,
                Harald and Halpern, Allan},
              journal={arXiv preprint arXiv:1710.05006},
              year={2017}}"""
