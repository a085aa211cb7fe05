"""A look at a folder's masks as a whole, before hours are spent on learning from them.

A single mask may well be empty or fill its image. That many are tells of masks that are inverted, or that were drawn in
a way that jaxseg does not read as it was meant.
"""

import dataclasses
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxseg.data.examples import Examples
from jaxseg.data.listing import named
from jaxseg.errors import UserError

SAMPLE = 256
"""Most masks that are decoded before training: about a second for photographs of two megapixels."""

_MANY_EMPTY = 0.1
"""Share of masks without lesion from which the set is doubted."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class MaskFacts:
    """What a mask shows.

    Attributes:
      share: share of the pixels that are lesion, in [0, 1].
      corners: true if all four corners are lesion.
    """

    share: float
    corners: bool

    @property
    def kind(self) -> str:
        """What is suspicious: "empty", "full", "corners", or "" for a mask as one expects it."""
        if self.share == 0:
            return "empty"
        if self.share == 1:
            return "full"
        return "corners" if self.corners else ""


def facts_of(mask: np.ndarray) -> MaskFacts:
    """Returns what a mask shows.

    Args:
      mask: uint8 [H, W, 1], 1 for lesion.
    """
    corners = mask[[0, 0, -1, -1], [0, -1, 0, -1], 0]
    return MaskFacts(float(mask.mean()), bool(corners.all()))


def doubts(names: Sequence[str], facts: Sequence[MaskFacts]) -> list[str]:
    """Returns what makes a set's masks suspicious, as phrases that count and name them.

    Args:
      names: the images' names.
      facts: what their masks show.
    """
    found = {
        kind: [name for name, fact in zip(names, facts, strict=True) if fact.kind == kind]
        for kind in ("corners", "full", "empty")
    }
    if len(found["empty"]) < max(1, _MANY_EMPTY * len(facts)):
        found["empty"] = []
    said = {
        "corners": "{n} have lesion in all four corners ({names}), as inverted masks have: --data.mask-invert true",
        "full": "{n} are lesion all over ({names})",
        "empty": "{n} are without any lesion ({names}); --data.mask-lesion names another value or colour as lesion",
    }
    return [said[kind].format(n=len(found[kind]), names=named(found[kind])) for kind in said if found[kind]]


def check_masks(parts: Sequence[Examples], *, for_training: bool = False) -> None:
    """Looks at a sample of a folder's masks, and warns in one line of what is suspicious.

    Masks of published and generated sets are not looked at.

    Args:
      parts: splits of one data set.
      for_training: true to refuse a set without any lesion.

    Raises:
      UserError: a mask that cannot be read, or, for training, no mask with a lesion.
    """
    masks = [(name, part.load_mask, i) for part in parts if part.load_mask for i, name in enumerate(part.names)]
    if not masks:
        return
    picked = sorted({int(i) for i in np.linspace(0, len(masks) - 1, min(len(masks), SAMPLE))})
    facts = _facts([masks[i] for i in picked])
    if for_training and all(fact.share == 0 for fact in facts):
        rest = [masks[i] for i in sorted(set(range(len(masks))) - set(picked))]
        if not any(fact.share for fact in _facts(rest)):
            raise UserError(
                f"{parts[0].dataset}: none of the {len(masks)} masks has any lesion, so there is nothing to learn; "
                "--data.mask-lesion names the value or colour of lesion, python -m jaxseg.inspect shows the masks"
            )
    names = [masks[i][0] for i in picked]
    if phrases := doubts(names, facts):
        _log.warning(
            "%s: of %d masks looked at, %s; look at them: python -m jaxseg.inspect --data %s --out DIR",
            parts[0].dataset,
            len(facts),
            "; ".join(phrases),
            parts[0].dataset,
        )


def _facts(masks: Sequence[tuple]) -> list[MaskFacts]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda mask: facts_of(mask[1](mask[2])), masks))
