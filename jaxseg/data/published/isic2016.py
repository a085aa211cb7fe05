"""ISIC 2016 challenge, part 1, as a TFDS data set: 900 training and 379 test images with lesion masks.

Importing this module registers the set: `tfds.data_source("isic2016", split="test")` then works.
"""

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data.published.builder import PublishedBuilder
from jaxseg.data.published.source import Files, Pair, find, pair_up

_FOLDERS = {"train": "ISBI2016_ISIC_Part1_Training", "test": "ISBI2016_ISIC_Part1_Test"}
"""What the publisher's folders and archives of each split begin with; `_Data` or `_GroundTruth` follows."""


class Isic2016(PublishedBuilder):
    """ISIC 2016 part 1, split as published; the splits that the source has are built."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "get ISBI2016_ISIC_Part1_Training_Data.zip, ..._Training_GroundTruth.zip, ..._Test_Data.zip and "
        "..._Test_GroundTruth.zip from https://challenge.isic-archive.com/data/#2016 and point --source at the folder "
        "that holds them, unpacked or not"
    )
    ARCHIVES = "ISBI2016_ISIC_Part1_*"
    EXPECTED = {"train": 900, "test": 379}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Dermoscopic images of the ISIC 2016 challenge, part 1, with expert lesion masks.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "mask"),
            homepage="https://challenge.isic-archive.com/data/#2016",
            citation="""@article{gutman2016skin,
              title={Skin lesion analysis toward melanoma detection: A challenge at the International Symposium on
                Biomedical Imaging (ISBI) 2016, hosted by the International Skin Imaging Collaboration (ISIC)},
              author={Gutman, David and Codella, Noel CF and Celebi, Emre and Helba, Brian and Marchetti, Michael
                and Mishra, Nabin and Halpern, Allan},
              journal={arXiv preprint arXiv:1605.01397},
              year={2016}}""",
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _find(self, files: Files, source: str) -> tuple[dict[str, list[Pair]], dict[str, str]]:
        splits = {}
        for split, folder in _FOLDERS.items():
            images = find(files, rf"{folder}_Data/(?:[^/]+/)*(?P<name>ISIC_\d+)\.jpe?g")
            masks = find(files, rf"{folder}_GroundTruth/(?:[^/]+/)*(?P<name>ISIC_\d+)_Segmentation\.png")
            splits[split] = pair_up(images, masks)
        return splits, {}

    def _stored_image(self, file: bytes, image: np.ndarray) -> bytes:
        return file  # the JPEG as published
