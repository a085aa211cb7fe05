"""What the TFDS builders of published sets have in common: from the publisher's files to array_record.

TFDS prepares without TensorFlow only in the array_record format and with images given as bytes.
"""

import abc
import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data.images import decode_image, decode_mask, encode_png, header_of
from jaxseg.data.listing import HEIF_SUFFIXES, SUFFIXES, SUPERPIXELS, named
from jaxseg.data.published.place import VERSION
from jaxseg.data.published.source import UNPACK, Files, Pair, list_source, packed
from jaxseg.errors import UserError
from jaxseg.system.progress_bar import progress

_log = logging.getLogger(__name__)


class PublishedBuilder(tfds.core.GeneratorBasedBuilder, abc.ABC):
    """A set of images with lesion masks, built from the publisher's folder or zip archives.

    The publisher's files are TFDS' "manual dir" (`DownloadConfig(manual_dir=...)`), or the argument `source`, which
    may be an archive too. Records keep the order of the names; `info.metadata` holds the names and groups of each
    split in that order, so that opening a set reads no image, and a hash of the publisher's files.
    """

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES = {str(VERSION): "First version."}

    ARCHIVES = "*"
    """Glob of the publisher's archive names, without their ending."""

    EXPECTED: Mapping[str, int] = {}
    """The published number of images of each split."""

    def __init__(self, *, source: str | None = None, file_format: str | None = "array_record", **kwargs: Any):
        self._source = source
        self._kept_together: dict[str, str] = {}
        super().__init__(file_format=file_format, **kwargs)

    @abc.abstractmethod
    def _find(self, files: Files, source: str) -> tuple[dict[str, list[Pair]], dict[str, str]]:
        """Returns the pairs of each split, and each image's group by name ({} where unknown).

        Where images of a lesion or patient must stay together, it sets `_kept_together`, the lesion by image name.
        """

    @abc.abstractmethod
    def _stored_image(self, file: bytes, image: np.ndarray) -> bytes:
        """Returns what is stored of an image, given its file's content and its pixels."""

    def _labels(self, group: str) -> dict[str, Any]:
        """Returns the features of an image besides "image", "mask" and "name"."""
        return {}

    def find_pairs(self, source: str) -> tuple[dict[str, list[Pair]], dict[str, str]]:
        """Looks through the publisher's files without reading the images.

        Args:
          source: folder or zip archive.

        Returns:
          The pairs of each split that is there, and each image's group by name.

        Raises:
          UserError: the source is missing, is no sound archive, holds none of the set, or an image without mask.
        """
        files = list_source(source, self.ARCHIVES)
        splits, groups = self._find(files, source)
        splits = {split: pairs for split, pairs in splits.items() if pairs}
        if not splits:
            if archives := packed(files, self.ARCHIVES):
                raise UserError(f"{archives[0].where}: {UNPACK}")
            wanted = " ".join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
            raise UserError(f"--source {source}: no images of {self.name} in there; {wanted}")
        if sentence := _left_out(files, splits):
            _log.warning("%s: %s", source, sentence)
        return splits, groups

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        source = self._source or str(dl_manager.manual_dir)
        splits, groups = self.find_pairs(source)
        self._warn_if_partial({split: len(pairs) for split, pairs in splits.items()}, source)
        self.info.metadata["splits"] = {
            split: {
                "names": [p.name for p in pairs],
                "groups": [groups.get(p.name, "") for p in pairs],
                **({"kept_together": [self._kept_together[p.name] for p in pairs]} if self._kept_together else {}),
            }
            for split, pairs in splits.items()
        }
        return {split: self._generate_examples(split, pairs, groups) for split, pairs in splits.items()}

    def _generate_examples(
        self, split: str, pairs: list[Pair], groups: Mapping[str, str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        digest = hashlib.sha256()
        for key, pair in enumerate(progress(pairs, f"{self.name} {split}", len(pairs))):
            image_file, mask_file = pair.image.read(), pair.mask.read()
            digest.update(hashlib.sha256(image_file).digest() + hashlib.sha256(mask_file).digest())
            image, mask = _decoded(pair, image_file, mask_file)
            example = {"image": self._stored_image(image_file, image), "mask": encode_png(mask), "name": pair.name}
            yield key, example | self._labels(groups.get(pair.name, ""))
        # TFDS writes the metadata once all splits are generated.
        self.info.metadata["splits"][split]["sha256"] = digest.hexdigest()

    def _warn_if_partial(self, counts: Mapping[str, int], source: str) -> None:
        if counts != dict(self.EXPECTED):
            listed = ", ".join(f"{split} {counts.get(split, 0)} of {n}" for split, n in self.EXPECTED.items())
            _log.warning("%s: partial copy of %s: %s published images found", source, self.name, listed)


def _left_out(files: Files, splits: Mapping[str, list[Pair]]) -> str:
    """Returns a line that counts and names the pictures of a source that are in no split; empty if there are none."""
    used = {file.where for pairs in splits.values() for pair in pairs for file in (pair.image, pair.mask)}
    others = [path for path, file in files.items() if file.where not in used]
    pictures = [path for path in others if path.lower().endswith((*SUFFIXES, *HEIF_SUFFIXES))]
    superpixels = [path for path in pictures if SUPERPIXELS in path.lower()]
    further = [path for path in pictures if SUPERPIXELS not in path.lower()]
    parts = [
        f"{len(paths):,} {what} ({named(PurePosixPath(path).name for path in paths)})"
        for paths, what in ((superpixels, "superpixels"), (further, "pictures that belong to no image of the set"))
        if paths
    ]
    return f"left out {', '.join(parts)}" if parts else ""


def _decoded(pair: Pair, image_file: bytes, mask_file: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a pair, image uint8 [H, W, 3] and mask uint8 [H, W, 1] in {0, 1}, and makes sure that it fits together.

    Raises:
      UserError: a file that cannot be decoded, or an image and a mask of different sizes or orientations.
    """
    turned, as_drawn = (
        header_of(*file).orientation for file in ((image_file, pair.image.where), (mask_file, pair.mask.where))
    )
    if turned != as_drawn:
        raise UserError(
            f"{pair.image.where}: is turned by its EXIF orientation ({turned}), and its mask {pair.mask.where} is not; "
            "fetch both again"
        )
    image, mask = decode_image(image_file, pair.image.where), decode_mask(mask_file, pair.mask.where)
    if image.shape[:2] != mask.shape[:2]:
        (h, w), (mask_h, mask_w) = image.shape[:2], mask.shape[:2]
        raise UserError(
            f"{pair.image.where}: the image has {w}x{h} pixels but its mask {pair.mask.where} has {mask_w}x{mask_h}; "
            "fetch both again"
        )
    return image, mask
