"""Data sets in their publishers' layouts, made up: PH2 of six images, ISIC 2016 of three."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.config import DataConfig
from jaxseg.data.folds import committed_split

SPLIT = committed_split("ph2")
PICKED = SPLIT["train"][:4] + SPLIT["validation"][:2]
CODES = {name: i % 3 for i, name in enumerate(PICKED)}
DIAGNOSES = ("common_nevus", "atypical_nevus", "melanoma")


def picture(seed: int, size: tuple[int, int] = (20, 12)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


def lesion(seed: int, size: tuple[int, int] = (20, 12)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).random(size[::-1]) > 0.5)


def table(bars: bool) -> str:
    """PH2_dataset.txt with tabs, or in the publisher's layout with bars, an empty column and a legend."""
    if not bars:
        rows = [f"{name}\t{code}\t0" for name, code in CODES.items()]
        return "\n".join(["Name\tClinical Diagnosis\tAsymmetry", *rows])
    header = "|| Name   ||   Histological Diagnosis   ||   Clinical Diagnosis   ||   Asymmetry   ||"
    rows = [
        f"|| {name} ||  {'Common Nevus' * (i % 2)}  ||  {code}  ||  1  ||"
        for i, (name, code) in enumerate(CODES.items())
    ]
    legend = ["", "Legends:", "Clinical Diagnosis: 0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma."]
    return "\r\n".join([header, *rows, *legend])


def make_ph2(parent: Path, bars: bool = True) -> Path:
    """Writes a PH2 of six images in the publisher's layout."""
    root = parent / "PH2Dataset"
    for i, name in enumerate(PICKED):
        home = root / "PH2 Dataset images" / name
        (home / f"{name}_Dermoscopic_Image").mkdir(parents=True)
        (home / f"{name}_lesion").mkdir()
        picture(i).save(home / f"{name}_Dermoscopic_Image" / f"{name}.bmp")
        lesion(i).save(home / f"{name}_lesion" / f"{name}_lesion.bmp")
    (root / "PH2_dataset.txt").write_text(table(bars))
    return root


def make_isic(root: Path, split: str = "Training", count: int = 3) -> Path:
    """Writes an ISIC 2016 split in the publisher's layout."""
    images = root / f"ISBI2016_ISIC_Part1_{split}_Data"
    masks = root / f"ISBI2016_ISIC_Part1_{split}_GroundTruth"
    images.mkdir(parents=True)
    masks.mkdir()
    for i in range(count):
        picture(i).save(images / f"ISIC_000{i}.jpg")
        lesion(i).convert("L").save(masks / f"ISIC_000{i}_Segmentation.png")
    return root


def zip_up(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(folder.rglob("*")):
            target.write(path, path.relative_to(folder.parent))
    return archive


def image_of(root: Path, name: str) -> Path:
    return root / "PH2 Dataset images" / name / f"{name}_Dermoscopic_Image" / f"{name}.bmp"


def mask_of(root: Path, name: str) -> Path:
    return root / "PH2 Dataset images" / name / f"{name}_lesion" / f"{name}_lesion.bmp"


def ph2_config(out: Path, **settings) -> DataConfig:
    return DataConfig(name="ph2", data_dir=str(out), **settings)
