"""What every data set looks like to the rest of jaxseg: a named, random-access list of images and masks."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Example(NamedTuple):
    """One image at its own size.

    Attributes:
      image: uint8 [H, W, 3], RGB in [0, 255].
      mask: uint8 [H, W, 1], 1 for lesion and 0 for skin.
    """

    image: np.ndarray
    mask: np.ndarray


_BY_INDEX = ("load", "load_mask", "read_image", "stamp", "lesion_colour")
"""Fields of `Examples` that are functions of an image's index."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split of a data set.

    Attributes:
      dataset: the set's name, as "ph2", or its folder.
      split: the split's name, as "validation".
      names: one unique name per image, as "IMD003".
      groups: per image what stratifies folds and subgroup scores, as its diagnosis; "" where unknown.
      load: returns the example at an index in [0, len); safe to call from several threads.
      version: what changes when the data do, as the TFDS version and byte counts.
      kept_together: per image the lesion or patient that it shows, whose images must stay on one side of a split;
        empty where none are known.
      load_mask: returns the mask alone at an index, uint8 [H, W, 1], where its file is separate; safe to call from
        several threads.
      few: true if there are fewer images than one holds out a share of; then a batch repeats them.
      read_image: returns the encoded image at an index, as it is stored; None where no file holds it.
      stamp: returns a short text that changes whenever the stored image or mask at an index does, without reading
        them; None where nothing tells.
      lesion_colour: returns the colour that the lesion has in the mask's file at an index, (red, green, blue) in
        [0, 255], or None for a mask without lesion; None where masks are no pictures of their own, or where a
        setting says what is lesion.
    """

    dataset: str
    split: str
    names: tuple[str, ...]
    groups: tuple[str, ...]
    load: Callable[[int], Example]
    version: str = ""
    kept_together: tuple[str, ...] = ()
    load_mask: Callable[[int], np.ndarray] | None = None
    few: bool = False
    read_image: Callable[[int], bytes] | None = None
    stamp: Callable[[int], str] | None = None
    lesion_colour: Callable[[int], tuple[int, int, int] | None] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def select(self, indices: np.ndarray, split: str) -> "Examples":
        """Returns a part of the images as a split of its own.

        Args:
          indices: int [N], which images.
          split: name of the part.
        """
        picked = [int(i) for i in indices]

        def of_part(attribute: str) -> Callable[[int], Any] | None:
            function = getattr(self, attribute)
            return (lambda i: function(picked[i])) if function else None

        return dataclasses.replace(
            self,
            split=split,
            names=tuple(self.names[i] for i in picked),
            groups=tuple(self.groups[i] for i in picked),
            kept_together=tuple(self.kept_together[i] for i in picked) if self.kept_together else (),
            **{attribute: of_part(attribute) for attribute in _BY_INDEX},
        )

    def followed_by(self, other: "Examples", split: str) -> "Examples":
        """Returns this split and another of the same set, one after the other.

        Args:
          other: the second part.
          split: name of the whole.
        """

        def either(attribute: str) -> Callable[[int], Any] | None:
            first, second = getattr(self, attribute), getattr(other, attribute)
            if first is None or second is None:
                return None
            return lambda i: first(i) if i < len(self) else second(i - len(self))

        return dataclasses.replace(
            self,
            split=split,
            names=self.names + other.names,
            groups=self.groups + other.groups,
            kept_together=self.kept_together + other.kept_together,
            **{attribute: either(attribute) for attribute in _BY_INDEX},
        )

    def shared_with(self, other: "Examples") -> set[str]:
        """Returns the names of images that both hold; images of different data sets are different ones."""
        return set(self.names) & set(other.names) if self.dataset == other.dataset else set()

    def fingerprint(self) -> str:
        """Returns a short hash of what this split holds: set, version, names and their order."""
        text = "\n".join([self.dataset, self.version, *self.names])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
