"""Makes the files that people feed to jaxseg by mistake, or to harm it; `test_bad_input.py` has the answers."""

import io
import json
import os
import pickle
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

ORIENTATION = 0x0112

LESION = np.zeros((20, 30), bool)
LESION[5:15, 8:20] = True

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "png", **options) -> bytes:
    """Returns an image file's content."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width: int, height: int) -> bytes:
    """Returns a PNG of a hundred bytes whose header promises that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def tiff_of(width: int, height: int) -> bytes:
    """Returns a TIFF of a hundred bytes whose header promises that many pixels."""
    data = bytearray(encoded(np.zeros((9, 7), np.uint8), "tiff"))
    for tag, value in ((256, width), (257, height)):
        at = data.index(struct.pack("<H", tag), 8)
        data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, value)
    return bytes(data)


def turned(orientation: int) -> Image.Exif:
    """Returns an EXIF block."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def not_finite() -> bytes:
    """Returns a float TIFF with a NaN in it."""
    values = np.full((20, 30), 0.5, np.float32)
    values[3, 3] = np.nan
    return encoded(values, "tiff")


_FRAMES = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}

BAD_IMAGES: dict[str, tuple[str, bytes, str]] = {
    "truncated JPEG": ("a.jpg", encoded(RGB.repeat(5, 0), "jpeg")[:400], "cannot be decoded .*; fetch it again"),
    "truncated PNG": ("a.png", encoded(RGB)[:500], "cannot be decoded .*; fetch it again"),
    "truncated TIFF": ("a.tif", encoded(RGB, "tiff")[:500], "cannot be decoded .*; fetch it again"),
    "truncated WebP": ("a.webp", encoded(RGB, "webp", lossless=True)[:300], "cannot be decoded .*; fetch it again"),
    "header alone": ("a.jpg", encoded(RGB, "jpeg")[:2], "not an image that can be read"),
    "damaged inside": ("a.png", encoded(RGB).replace(b"IDAT", b"IDxT"), "not an image that can be read|cannot"),
    "zero bytes": ("a.png", b"", "the file is empty; fetch it again"),
    "only zeros": ("a.png", bytes(4096), "not an image that can be read"),
    "text named .jpg": ("a.jpg", b"see the attached picture", "not an image that can be read"),
    "a web page named .png": (
        "a.png",
        b"<!DOCTYPE html><html><body>404</body></html>",
        "not an image that can be read",
    ),
    "PDF named .jpg": ("a.jpg", b"%PDF-1.7\n%\xe2\xe3\n1 0 obj\n<<>>\nendobj\n", "not an image that can be read"),
    "PostScript named .png": (
        "a.png",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "not an image that can be",
    ),
    "SVG named .png": ("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image that can be read"),
    "pickle named .png": ("a.png", pickle.dumps(RGB), "not an image that can be read"),
    "decompression bomb, PNG": ("a.png", png_of(60_000, 60_000), "more than 89,000,000 pixels; shrink the image"),
    "decompression bomb, TIFF": ("a.tif", tiff_of(2**31, 2**31), "more than 89,000,000 pixels|cannot be decoded"),
    "just too large": ("a.png", png_of(8_901, 10_000), "more than 89,000,000 pixels; shrink the image"),
    "float with NaN": ("a.tif", not_finite(), "values that are not finite"),
}
"""Image files that cannot be used: name, content, and what is said of them."""

HARMLESS_IMAGES: dict[str, bytes] = {
    "1x1.png": encoded(RGB[:1, :1]),
    "1x500.png": encoded(RGB[:1, :1].repeat(500, 1)),
    "40000x10.png": encoded(RGB[:10, :1].repeat(40_000, 1)),
    "grey.jpg": encoded(RGB[..., 0], "jpeg"),
    "cmyk.jpg": encoded(Image.fromarray(RGB).convert("CMYK"), "jpeg"),
    "lab.tif": encoded(Image.fromarray(RGB).convert("LAB"), "tiff"),
    "palette.png": encoded(Image.fromarray(RGB).convert("P")),
    "one bit.png": encoded(LESION),
    "alpha.png": encoded(Image.fromarray(RGB).convert("RGBA")),
    "grey alpha.png": encoded(Image.fromarray(RGB).convert("LA")),
    "16 bit.png": encoded(RGB[..., 0].astype(np.uint16) * 257),
    "16 bit.tif": encoded(RGB[..., 0].astype(np.uint16) * 257, "tiff"),
    "float.tiff": encoded(RGB[..., 0].astype(np.float32) / 255, "tiff"),
    "animated.png": encoded(RGB, "png", **_FRAMES),
    "animated.webp": encoded(RGB, "webp", **_FRAMES),
    "two pages.tif": encoded(RGB, "tiff", **_FRAMES),
    "turned.jpg": encoded(RGB, "jpeg", exif=turned(6)),
    "orientation 99.jpg": encoded(RGB, "jpeg", exif=turned(99)),
    "cut exif.jpg": encoded(RGB, "jpeg", exif=turned(3).tobytes()[:-9]),
    "noise exif.jpg": encoded(RGB, "jpeg", exif=b"Exif\0\0II*\0" + bytes(range(60))),
    "a PNG named.jpg": encoded(RGB),
    "UPPER.PNG": encoded(RGB),
    "with  spaces .png": encoded(RGB),
    "病变-é-🔬.png": encoded(RGB),
    "$HOME;rm -rf *'\".png": encoded(RGB),
    "-o.png": encoded(RGB),
    "line\nbreak.png": encoded(RGB),
}
"""Image files that just work; a mask comes out of each."""

HARMLESS_MASKS: dict[str, tuple[bytes, int]] = {
    "black": (encoded(LESION * np.uint8(0)), 0),
    "white": (encoded(LESION * np.uint8(0) + np.uint8(255)), LESION.size),
    "one bit": (encoded(LESION), LESION.sum()),
    "ones": (encoded(LESION * np.uint8(1)), LESION.sum()),
    "grey levels": (encoded(LESION * np.uint8(160) + np.uint8(40)), LESION.sum()),
    "16 bit": (encoded(LESION * np.uint16(65535)), LESION.sum()),
    "red": (encoded(LESION[..., None] * np.uint8([255, 0, 0])), LESION.sum()),
    "palette": (encoded(Image.fromarray(LESION * np.uint8(255)).convert("P")), LESION.sum()),
    "alpha": (encoded(LESION[..., None] * np.uint8([255, 255, 255, 255])), LESION.sum()),
    "cmyk": (encoded(Image.fromarray(LESION * np.uint8(255)).convert("CMYK"), "tiff"), LESION.sum()),
}
"""Mask files that just work, and how many pixels of lesion they hold."""

BAD_MASKS: dict[str, tuple[bytes, str]] = {
    "of another size": (encoded(LESION[:-1]), r"30x20 pixels, but its mask .* has 30x19; save both at the same size"),
    "turned by EXIF": (encoded(LESION, "png", exif=turned(6)), r"30x20 pixels, but its mask .* has 20x30"),
    "labels 0 and 2": (encoded(LESION * np.uint8(2)), "values from 0 to 2 are no lesion mask; save it with 0 .* 255"),
    "zero bytes": (b"", "the file is empty; fetch it again"),
    "text": (b"lesion", "not an image that can be read"),
    "truncated": (encoded(RGB)[:500], "cannot be decoded .*; fetch it again"),
    "bomb": (png_of(60_000, 60_000), "more than 89,000,000 pixels"),
    "not finite": (not_finite(), "values that are not finite"),
}
"""Mask files that cannot be used, and what is said of them."""


def data_set(folder: Path, count: int = 6) -> Path:
    """Writes a sound folder of pairs, im0.png and so on."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        (folder / "images" / f"im{i}.png").write_bytes(encoded(RGB))
        (folder / "masks" / f"im{i}.png").write_bytes(encoded(LESION))
    return folder


def archive(path: Path, name: str, mode: int = stat.S_IFREG | 0o644, size: int | None = None, flags: int = 0) -> Path:
    """Writes a zip archive of one member, with any name, mode, flags, or a false size."""
    with zipfile.ZipFile(path, "w") as target:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        target.writestr(member, b"content of the member")
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    if size is not None:
        data[central + 24 : central + 28] = size.to_bytes(4, "little")
    data[central + 8] |= flags
    data[6] |= flags
    path.write_bytes(data)
    return path


def edited_run(run: Path, place: Path, change) -> Path:
    """Copies a run and changes the content of its config.json."""
    shutil.copytree(run, place)
    values = json.loads((place / "config.json").read_text())
    change(values)
    (place / "config.json").write_text(json.dumps(values))
    return place


def hdf5(path: Path, **tensors: np.ndarray) -> Path:
    """Writes an HDF5 file; double underscores in names part groups."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv1_conv"]
        for name, value in tensors.items():
            file[name.replace("__", "/")] = value
    return path


class Evil:
    """Unpickled, it would leave a file behind: a witness that something was executed."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def isic_zip(place: Path, **options) -> Path:
    """Writes an archive of an image of ISIC 2016 beside one of its mask, the former's spoilt by options."""
    (place / "in").mkdir()
    stem = "ISBI2016_ISIC_Part1_Training"
    archive(place / "in" / f"{stem}_Data.zip", f"{stem}_Data/ISIC_0001.jpg", **options)
    archive(place / "in" / f"{stem}_GroundTruth.zip", f"{stem}_GroundTruth/ISIC_0001_Segmentation.png")
    return place / "in"


def ph2(place: Path, text: str = "") -> Path:
    """Writes one image of PH2 in the publisher's layout, and its table if there is a text."""
    home = place / "in" / "IMD003"
    for part, name, picture in (("Dermoscopic_Image", "IMD003", RGB), ("lesion", "IMD003_lesion", LESION)):
        (home / f"IMD003_{part}").mkdir(parents=True)
        (home / f"IMD003_{part}" / f"{name}.bmp").write_bytes(encoded(picture, "bmp"))
    if text:
        (place / "in" / "PH2_dataset.txt").write_text(text)
    return place / "in"


def remove(path: Path) -> None:
    """Removes a file or a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def edit(run: Path, **values: object) -> None:
    """Changes a run's config.json."""
    content = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(content | values))
