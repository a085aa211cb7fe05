"""What the lesion segmentation tasks of the ISIC challenges have in common: their layout and what is stored."""

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data.published.builder import PublishedBuilder
from jaxseg.data.published.source import Files, Pair, find, pair_up


class IsicChallenge(PublishedBuilder, skip_registration=True):
    """A challenge's images and masks, split as published; the splits that the source has are built.

    Images are stored as the JPEG files that were published. Superpixels beside the images are left out.
    """

    FOLDERS: dict[str, tuple[str, str]] = {}
    """Names of the publisher's folders, and archives, of each split: of the images, of the masks."""

    DESCRIPTION = ""
    HOMEPAGE = ""
    CITATION = ""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "mask"),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _find(self, files: Files, source: str) -> tuple[dict[str, list[Pair]], dict[str, str]]:
        splits = {}
        for split, (image_folder, mask_folder) in self.FOLDERS.items():
            images = find(files, rf"{image_folder}/(?:[^/]+/)*(?P<name>ISIC_\d+)\.jpe?g")
            masks = find(files, rf"{mask_folder}/(?:[^/]+/)*(?P<name>ISIC_\d+)_Segmentation\.png")
            splits[split] = pair_up(images, masks)
        return splits, {}

    def _stored_image(self, file: bytes, image: np.ndarray) -> bytes:
        return file
