"""ISIC 2018 challenge, task 1, as a TFDS data set: 2,594 training, 100 validation and 1,000 test images with masks.

Importing this module registers the set: `tfds.data_source("isic2018", split="test")` then works.
"""

from jaxseg.data.published.isic import IsicChallenge


class Isic2018(IsicChallenge):
    """ISIC 2018 task 1, split as published."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "get ISIC2018_Task1-2_Training_Input.zip, ISIC2018_Task1_Training_GroundTruth.zip, and the same of Validation "
        "and Test, from https://challenge.isic-archive.com/data/#2018 and point --source at the folder that holds "
        "them, unpacked or not"
    )
    ARCHIVES = "ISIC2018_Task1*"
    EXPECTED = {"train": 2594, "validation": 100, "test": 1000}
    FOLDERS = {
        "train": ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
        "validation": ("ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth"),
        "test": ("ISIC2018_Task1-2_Test_Input", "ISIC2018_Task1_Test_GroundTruth"),
    }
    DESCRIPTION = "Dermoscopic images of the ISIC 2018 challenge, task 1, with expert lesion masks."
    HOMEPAGE = "https://challenge.isic-archive.com/data/#2018"
    CITATION = """@article{codella2019skin,
              title={Skin lesion analysis toward melanoma detection 2018: A challenge hosted by the International Skin
                Imaging Collaboration (ISIC)},
              author={Codella, Noel and Rotemberg, Veronica and Tschandl, Philipp and Celebi, M. Emre and Dusza, Stephen
                and Gutman, David and Helba, Brian and Kalloo, Aadi and Liopyris, Konstantinos and Marchetti, Michael
                and Kittler, Harald and Halpern, Allan},
              journal={arXiv preprint arXiv:1902.03368},
              year={2019}}"""
