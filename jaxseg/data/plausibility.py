"""A look at a folder's masks as a whole, before hours are spent on learning from them.

A single mask may well be empty or fill its image. That many are tells of masks that are inverted, or that were drawn in
a way that jaxseg does not read as it was meant.
"""

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxseg.data.colours import kinds_of_colours
from jaxseg.data.examples import Examples
from jaxseg.data.identity import hash_pixels
from jaxseg.data.listing import named
from jaxseg.data.looks import contrast
from jaxseg.errors import UserError
from jaxseg.system.machine import cores

SAMPLE = 256
"""Most masks that are decoded before training: about a second for photographs of two megapixels."""

_MANY_EMPTY = 0.1
"""Share of masks without lesion from which the set is doubted."""

_THICKEST = 0.25
"""Share of the pixels above which a mask is not looked at as an outline."""

_ENCLOSED = 2.5
"""How many times its own area a mask must enclose, itself included, to be taken for an outline."""

_LOOKED_AT = 32
"""Most images that are decoded where masks look inverted."""

_Mask = tuple[str, Examples, int]
"""A mask: its image's name, and where it is."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class MaskFacts:
    """What a mask shows.

    Attributes:
      share: share of the pixels that are lesion, in [0, 1].
      corners: true if all four corners are lesion.
      outline: true if the lesion is a thin line around skin.
      digest: hash of the mask, which tells equal ones; "" for a mask that is empty or full.
    """

    share: float
    corners: bool
    outline: bool = False
    digest: str = ""

    @property
    def kind(self) -> str:
        """What is suspicious: "empty", "full", "corners", "outline", or "" for a mask as expected."""
        if self.share == 0:
            return "empty"
        if self.share == 1:
            return "full"
        if self.corners:
            return "corners"
        return "outline" if self.outline else ""


def facts_of(mask: np.ndarray) -> MaskFacts:
    """Returns what a mask shows.

    Args:
      mask: uint8 [H, W, 1], 1 for lesion.
    """
    corners = mask[[0, 0, -1, -1], [0, -1, 0, -1], 0]
    share = float(mask.mean())
    digest = hash_pixels(mask) if 0 < share < 1 else ""
    return MaskFacts(share, bool(corners.all()), _is_outline(mask[..., 0], share), digest)


def _is_outline(mask: np.ndarray, share: float) -> bool:
    """Returns whether a mask [H, W] encloses several times as much as it marks."""
    if not 0 < share < _THICKEST:
        return False
    # Blocks keep a thin line closed, and make a photograph's mask small enough to be filled in a millisecond.
    step = max(1, min(mask.shape) // 256)
    height, width = (side // step * step for side in mask.shape)
    # One axis after the other: several times as fast as both at once.
    small = mask[:height, :width].reshape(height // step, step, width).max(axis=1)
    small = small.reshape(height // step, width // step, step).max(axis=2)
    least = _ENCLOSED * max(small.sum(), 1)
    if small.any(axis=0).sum() * small.any(axis=1).sum() <= least:
        return False  # it encloses no more than its box
    from scipy import ndimage

    return bool(ndimage.binary_fill_holes(small).sum() > least)


def doubts(names: Sequence[str], facts: Sequence[MaskFacts], *, decided: bool = False) -> list[str]:
    """Returns what makes a set's masks suspicious, as phrases that count and name them.

    Args:
      names: the images' names.
      facts: what their masks show.
      decided: true if the user has said what is lesion: then each empty mask is told, as it may say it in another way.
    """
    found = {
        kind: [name for name, fact in zip(names, facts, strict=True) if fact.kind == kind]
        for kind in ("corners", "full", "empty", "outline")
    }
    copies = Counter(fact.digest for fact in facts if fact.digest)
    found["same"] = [name for name, fact in zip(names, facts, strict=True) if copies[fact.digest] > 1]
    if len(found["empty"]) < max(1, _MANY_EMPTY * len(facts)) and not decided:
        found["empty"] = []
    # The setting inverts all masks, the few that are sound included.
    most = 2 * len(found["corners"]) > len(facts)
    invert = "--data.mask-invert true" if most else "invert these files"
    said = {
        "corners": "{n} have lesion in all four corners ({names}), as inverted masks have: " + invert,
        "full": "{n} are lesion all over ({names})",
        "empty": "{n} are without any lesion ({names}); --data.mask-lesion names another value or colour as lesion",
        "outline": "{n} are thin outlines with skin inside ({names}); fill them",
        "same": "{n} are pixel by pixel the mask of another image too ({names})",
    }
    return [said[kind].format(n=len(found[kind]), names=named(found[kind])) for kind in said if found[kind]]


def check_masks(parts: Sequence[Examples], *, for_training: bool = False, decided: bool = False) -> None:
    """Looks at a sample of a folder's masks, and warns in one line of what is suspicious.

    Masks of published and generated sets are not looked at.

    Args:
      parts: splits of one data set.
      for_training: true to refuse a set from which nothing, or the contrary, would be learned.
      decided: true if the user has said what is lesion, by `data.mask_lesion` or `data.mask_invert`.

    Raises:
      UserError: a mask that cannot be read, or, for training, masks that are all empty or all full, or that are plainly
        inverted where no setting says how they are to be read.
    """
    masks = [(name, part, i) for part in parts if part.load_mask for i, name in enumerate(part.names)]
    if not masks:
        return
    picked = sorted({int(i) for i in np.linspace(0, len(masks) - 1, min(len(masks), SAMPLE))})
    facts = _facts([masks[i] for i in picked])
    if for_training:
        _refuse_if_all(0, "has any lesion", masks, picked, facts)
        _refuse_if_all(1, "has any skin", masks, picked, facts)
        if not decided:
            _refuse_inverted(masks, picked, facts)
    names = [masks[i][0] for i in picked]
    phrases = doubts(names, facts, decided=decided) + _colours([masks[i] for i in picked])
    if phrases:
        _log.warning(
            "%s: of %d masks looked at, %s; look at them: python -m jaxseg.inspect --data %s --out DIR",
            parts[0].dataset,
            len(facts),
            "; ".join(phrases),
            parts[0].dataset,
        )


def _colours(masks: Sequence[_Mask]) -> list[str]:
    """Returns a phrase where the lesions of different masks have different colours: one may be another class."""
    coloured = [mask for mask in masks if mask[1].lesion_colour]
    with ThreadPoolExecutor(cores()) as pool:
        found = kinds_of_colours(list(pool.map(lambda mask: mask[1].lesion_colour(mask[2]), coloured)))
    if len(found) < 2:
        return []
    said = [f"{colour} in {len(some)} ({named(coloured[i][0] for i in some)})" for colour, some in found.items()]
    return [f"the lesion has different colours: {', '.join(said)}; --data.mask-lesion says which one is lesion"]


def _facts(masks: Sequence[_Mask]) -> list[MaskFacts]:
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(lambda mask: facts_of(mask[1].load_mask(mask[2])), masks))


def _refuse_if_all(
    share: int, lacks: str, masks: Sequence[_Mask], picked: Sequence[int], facts: Sequence[MaskFacts]
) -> None:
    """Raises UserError if all masks, those not looked at yet included, have this share of lesion, 0 or 1."""
    if any(fact.share != share for fact in facts):
        return
    rest = [masks[i] for i in sorted(set(range(len(masks))) - set(picked))]
    if all(fact.share == share for fact in _facts(rest)):
        raise UserError(
            f"{masks[0][1].dataset}: none of the {len(masks)} masks {lacks}, so there is nothing to learn; "
            "--data.mask-lesion names the value or colour of lesion, python -m jaxseg.inspect shows the masks"
        )


def _refuse_inverted(masks: Sequence[_Mask], picked: Sequence[int], facts: Sequence[MaskFacts]) -> None:
    """Raises UserError if most masks cover most of their image with all corners, and mark what is brighter.

    Both together: a set of close-up pictures may have lesion in the corners, but its lesions are darker than its skin.
    """
    around = [i for i, fact in zip(picked, facts, strict=True) if fact.kind == "corners" and fact.share > 0.5]
    if len(around) <= len(facts) / 2:
        return
    some = [masks[around[int(i)]] for i in np.linspace(0, len(around) - 1, min(len(around), _LOOKED_AT))]
    with ThreadPoolExecutor(cores()) as pool:
        contrasts = list(pool.map(lambda mask: contrast(mask[1].load(mask[2])), some))
    told = [value for value in contrasts if not math.isnan(value)]  # else its lesion or skin is too small to tell
    if not told or np.median(told) >= 0:
        return
    dataset = masks[0][1].dataset
    raise UserError(
        f"{dataset}: {len(around)} of {len(facts)} masks mark most of the image, all four corners included, and the "
        f"brighter part of it ({named(masks[i][0] for i in around)}), as inverted masks do; --data.mask-invert true "
        "swaps lesion and skin, --data.mask-lesion 255 (the value or colour that is lesion) takes them as they are, "
        f"python -m jaxseg.inspect --data {dataset} --out DIR shows them"
    )
