"""What happens to a user's folder of drawn skin images: pairs are added, renamed, removed, saved in other files."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from tests.helpers.skin import grey, pair, save


def draw_folder(root: Path, numbers: Iterable[int], suffix: str = ".png") -> Path:
    """Writes images `imgNN` and their masks into `images/` and `masks/`; what is there already stays."""
    for number in numbers:
        image, mask = pair(number)
        save(root / "images" / f"img{number:02d}{suffix}", image)
        save(root / "masks" / f"img{number:02d}.png", grey(mask))
    return root


def rename(root: Path, old: str, new: str) -> None:
    """Renames an image and its mask."""
    for part in ("images", "masks"):
        path = root / part / f"{old}.png"
        path.rename(path.with_name(f"{new}.png"))


def remove(root: Path, name: str) -> None:
    """Removes an image and its mask."""
    for part in ("images", "masks"):
        (root / part / f"{name}.png").unlink()


def reencode(root: Path, target: Path) -> Path:
    """Copies a folder pixel by pixel into files of another kind and other bytes: BMP images and TIFF masks."""
    for part, suffix in (("images", ".bmp"), ("masks", ".tif")):
        (target / part).mkdir(parents=True)
        for path in (root / part).iterdir():
            with Image.open(path) as image:
                image.save(target / part / f"{path.stem}{suffix}")
    return target
