"""An image and its mask: read, of one size, and turned alike."""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxseg.data.depth import TOLD
from jaxseg.data.images import Header, decode_mask, header_of
from jaxseg.data.listing import named
from jaxseg.data.masks import MaskRule
from jaxseg.data.orientation import turn_mask
from jaxseg.data.outlines import Outlines
from jaxseg.errors import UserError

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
      image: the image's file.
      mask: the mask's file.
      outlines: what is drawn on the image, where the mask's file holds outlines.
      orientation: EXIF orientation by which to turn the mask; None: the mask's own.
    """

    image: Path
    mask: Path
    outlines: Outlines | None = None
    orientation: int | None = None

    def load_mask(self, rule: MaskRule) -> np.ndarray:
        """Returns the mask, uint8 {0, 1} [H, W, 1], read as `rule` says; outlines can only be inverted."""
        if self.outlines is None:
            return decode_mask(self.mask, rule=rule, orientation=self.orientation)
        mask = turn_mask(self.outlines.mask(), self.orientation or 1)
        return 1 - mask if rule.invert else mask

    def mask_header(self) -> Header:
        """Returns size and orientation of the mask."""
        return header_of(self.mask) if self.outlines is None else Header(self.outlines.size, 1)


def oriented(files: Iterable[Pair], setting: str) -> list[Pair]:
    """Settles how masks are turned whose EXIF orientation is not that of their image, and checks all sizes.

    Drawing tools that ignore the orientation leave a mask on the stored pixels and without one; other tools draw on the
    picture as it is shown. The sizes tell which where the picture's sides differ and are swapped; elsewhere the set's
    other masks tell, or the user.

    Args:
      files: the pairs of a set.
      setting: `data.mask_orientation`.

    Returns:
      The pairs, in their order, each with the orientation by which to turn its mask.

    Raises:
      UserError: an image and its mask have different sizes, or nothing tells how a mask is to be turned.
    """
    pairs, unclear, seen = [], [], {"image": [], "own": []}
    animated, deep = [], []
    for pair in files:
        image_header, mask_header = header_of(pair.image), pair.mask_header()
        if image_header.pictures > 1:
            animated.append(pair.image.name)
        if image_header.is_deep:
            deep.append(pair.image.name)
        if image_header.orientation != mask_header.orientation:
            ways = _ways_to_turn(pair, image_header, mask_header, setting)
            if len(ways) > 1:
                unclear.append(len(pairs))
            elif ways:
                seen[ways[0]].append(pair.mask.name)
            if ways == ["image"]:
                pair = dataclasses.replace(pair, orientation=image_header.orientation)
        check_sizes(pair, image_header.size, _size(mask_header, pair.orientation), image_header, mask_header)
        pairs.append(pair)
    _tell_of_images(animated, deep)
    if unclear:
        way = next((way for way in seen if seen[way] and not seen["own" if way == "image" else "image"]), None)
        if way is None:
            _refuse_orientation([pairs[i] for i in unclear])
        seen[way] += [pairs[i].mask.name for i in unclear]
        if way == "image":
            for i in unclear:
                orientation = header_of(pairs[i].image).orientation
                pairs[i] = dataclasses.replace(pairs[i], orientation=orientation)
    if masks := seen["image"]:
        _log.warning(
            "%d images have an EXIF orientation that their masks lack: these masks are turned as their images are (%s);"
            " python -m jaxseg.inspect shows the outlines",
            len(masks),
            named(masks),
        )
    return pairs


def _ways_to_turn(pair: Pair, image: Header, mask: Header, setting: str) -> list[str]:
    """Returns how a mask of another orientation than its image's can be meant: drawn as its "own" says, or "image".

    Args:
      pair: the pair.
      image: the image's header.
      mask: the mask's header.
      setting: `data.mask_orientation`.
    """
    fits = {"own": mask.size == image.size, "image": mask.turned_by(image.orientation) == image.size}
    if setting != "auto":
        return [setting] if fits[setting] else []
    if all(fits.values()) and pair.outlines:
        return ["own"]  # tools for outlines draw on the picture as it is shown
    ways = [way for way, does_fit in fits.items() if does_fit]
    # A mask that says how it is to be turned is believed, or refused.
    return [] if ways == ["image"] and mask.orientation != 1 else ways


def _tell_of_images(animated: Sequence[str], deep: Sequence[str]) -> None:
    """Warns of images, by name, that hold more than one picture, and tells of those of more than 8 bits."""
    if animated:
        _log.warning(
            "%d images hold several pictures (frames or pages), of which the first is taken: %s",
            len(animated),
            named(animated),
        )
    if deep:
        _log.info(TOLD, len(deep), named(deep))


def _size(header: Header, orientation: int | None) -> tuple[int, int]:
    return header.size if orientation is None else header.turned_by(orientation)


def _refuse_orientation(pairs: Sequence[Pair]) -> None:
    raise UserError(
        f"{pairs[0].image}: this and {len(pairs) - 1} more images have another EXIF orientation than their masks, and "
        "the sizes do not tell which way the masks were drawn; --data.mask-orientation image turns them as their "
        "images (drawn on the stored pixels: labelme, OpenCV, Pillow), --data.mask-orientation own leaves them as "
        "they are (drawn on the picture as shown)"
    )


def check_sizes(
    pair: Pair,
    size: tuple[int, int],
    mask_size: tuple[int, int],
    image_header: Header | None = None,
    mask_header: Header | None = None,
) -> None:
    """Checks that an image and its mask have the same size.

    Args:
      pair: their files.
      size: (height, width) of the image, turned as it is shown.
      mask_size: (height, width) of the mask, turned as it will be read.
      image_header: what the image's file says, for the message.
      mask_header: what the mask's file says, likewise.

    Raises:
      UserError: they differ.
    """
    if size == mask_size:
        return
    turned = ""
    if image_header and mask_header and image_header.orientation != mask_header.orientation:
        turned = (
            f" (after the EXIF orientations, {image_header.orientation} of the image and {mask_header.orientation} of "
            "the mask; --data.mask-orientation image turns masks as their images)"
        )
    raise UserError(
        f"{pair.image}: {size[1]}x{size[0]} pixels, but its mask {pair.mask} has {mask_size[1]}x{mask_size[0]}{turned};"
        " save both at the same size"
    )
