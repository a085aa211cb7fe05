"""What a run's training images look like: `looks.npz`, which tells copies of them in other sets.

A copy in another format, at another size, cut, turned or mirrored has other pixels, so no hash tells it.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxseg.data.identity import Identity
from jaxseg.data.looks import Look, near_copies, packed, unpacked
from jaxseg.runs.workdir import LOOKS
from jaxseg.system.files import replacing

log = logging.getLogger("jaxseg.evaluate")


def write(workdir: Path, looks: Mapping[str, Look]) -> None:
    """Writes the looks of the images that a run was trained on.

    Args:
      workdir: the run's folder.
      looks: by hash of the image (`Identity.image`).
    """
    if looks:
        with replacing(workdir / LOOKS) as temporary:
            temporary.write_bytes(packed(looks))


def read(workdir: Path) -> dict[str, Look] | None:
    """Returns the looks of the images that a run was trained on; None where it keeps none, as older runs."""
    path = workdir / LOOKS
    if not path.exists():
        return None
    try:
        return unpacked(path)
    except Exception as error:  # a damaged archive makes zipfile and numpy raise many kinds of errors
        log.warning("%s: cannot be read (%s), so copies of training images are not told", path, type(error).__name__)
        return None


def find(workdirs: Sequence[Path], looks: Sequence[Look], identities: Sequence[Identity]) -> list[int] | None:
    """Finds images that look like images that runs were trained on, without being the same.

    Args:
      workdirs: folders of the runs.
      looks: of the images in question.
      identities: of the images in question.

    Returns:
      Indices of such images, in order; None where no run keeps looks.
    """
    kept = [stored for workdir in workdirs if (stored := read(workdir)) is not None]
    if not kept:
        return None
    trained = {key: look for stored in kept for key, look in stored.items()}
    found = {j for _, j in near_copies(list(trained.values()), looks)}
    return sorted(i for i in found if identities[i].image not in trained)
