"""Small ICC profiles (version 2) of other colours than sRGB, and what their numbers mean in sRGB, by the formulas."""

import struct

import numpy as np

P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
"""Columns: the primaries of Display P3, XYZ under D50 (Apple's profile)."""

_SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
"""The same of sRGB (IEC 61966-2-1)."""

_WHITE = (0.9642, 1.0, 0.8249)


def rgb_profile(primaries: np.ndarray, gamma: float) -> bytes:
    """Returns a profile of three primaries, columns of XYZ [3, 3] under D50, and one exponent."""
    colours = {f"{name}XYZ": _xyz(column) for name, column in zip("rgb", primaries.T, strict=True)}
    return _profile(b"RGB ", colours | {f"{name}TRC": _curve(gamma) for name in "rgb"})


def grey_profile(gamma: float) -> bytes:
    """Returns a profile of grey levels with an exponent."""
    return _profile(b"GRAY", {"kTRC": _curve(gamma)})


def ink_profile() -> bytes:
    """Returns a profile of CMYK in which only black ink colours the paper: its lightness falls from 100 to 0."""
    levels = bytes(range(256))
    inks = b"".join(bytes([0 if place % 2 else 255, 128, 128]) for place in range(16))  # black varies fastest
    matrix = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + 4 * levels + inks + 3 * levels
    return _profile(b"CMYK", {"A2B0": table}, kind=b"prtr", connection=b"Lab ")


def in_srgb(values: np.ndarray, primaries: np.ndarray, gamma: float) -> np.ndarray:
    """Returns what uint8 [..., 3] of such a profile are in sRGB, float [..., 3] in [0, 255]."""
    linear = np.clip((values / 255) ** gamma @ (np.linalg.inv(_SRGB) @ primaries).T, 0, 1)
    return 255 * encoded_srgb(linear)


def encoded_srgb(linear: np.ndarray) -> np.ndarray:
    """Returns light in [0, 1] by sRGB's curve, in [0, 1]."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _profile(space: bytes, tags: dict[str, bytes], kind: bytes = b"mntr", connection: bytes = b"XYZ ") -> bytes:
    tags = {"desc": _description(b"made for a test"), "wtpt": _xyz(_WHITE), "cprt": b"text\0\0\0\0none\0"} | tags
    table, content, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", start + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    size = start + len(content)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, kind, space, connection) + bytes(12) + b"acsp"
    header += bytes(68 - len(header)) + struct.pack(">3i", *(round(65536 * value) for value in _WHITE))
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + content


def _description(text: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(1 + 8 + 3 + 67)


def _xyz(values: np.ndarray | tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * float(value)) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma))
