"""Runs an exported model without jaxseg: copy this file beside it. It needs jax, flatbuffers, numpy and Pillow.

    python standalone.py ph2.stablehlo photo.jpg mask.png

It accepts 8-bit grey and sRGB images without transparency, one in a file, and segments them as
`python -m jaxseg.predict` does with `--threshold 0.5`. It refuses every other kind (16 bits, palettes, transparency,
CMYK, profiles of other colours), which jaxseg converts by rules of its own (`jaxseg/data/images.py`). A file runs with
the JAX version that wrote it and newer ones.
"""

import io
import sys
from pathlib import Path

import jax.export
import numpy as np
from PIL import Image, ImageCms, ImageOps

model, source, target = sys.argv[1:]
if Path(target).exists():
    if Path(target).samefile(source):
        sys.exit(f"{target}: is the photograph itself; give another name for the mask")
    print(f"{target}: is replaced", file=sys.stderr)
exported = jax.export.deserialize(bytearray(Path(model).read_bytes()))
segment = jax.jit(exported.call)
image = Image.open(io.BytesIO(Path(source).read_bytes()))  # by path, Pillow misreads some TIFF files
bits = 16 if ";16" in str(image.tile) else max(getattr(image, "tag_v2", {}).get(258, (8,)))
pages = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
image = ImageOps.exif_transpose(image)
if image.mode not in ("L", "RGB") or image.has_transparency_data or bits > 8 or pages > 1:
    sys.exit(f"{source}: {image.mode} image; save it as one picture, 8-bit RGB without transparency, first")
profile = image.info.get("icc_profile")
if profile and "srgb" not in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).lower():
    sys.exit(f"{source}: its colour profile is not sRGB; save it as 8-bit RGB in sRGB first")
image = image.convert("RGB")
side = exported.in_avals[0].shape[1]
small = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
probability = Image.fromarray(np.asarray(segment(small[None]))[0])
mask = np.asarray(probability.resize(image.size, Image.Resampling.BILINEAR)) > 0.5
Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(target)
