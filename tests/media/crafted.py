"""Picture files and colour profiles by the byte, for what Pillow does not write."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

SRGB, ADOBE, P3, PROPHOTO = (  # chromaticities of red, green, blue and white, and gamma
    ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290), 2.2),
    ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290), 2.2),
    ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.3127, 0.3290), 2.2),
    ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585), 1.8),
)
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def png(size: tuple[int, int], depth: int, colour: int, data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (width, height): rows of `data` one after the other, `chunks` before them."""
    width, height = size
    row = len(data) // height
    rows = b"".join(b"\0" + data[i * row : (i + 1) * row] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def tiff(
    size: tuple[int, int],
    data: bytes,
    bits: int,
    photometric: int = 1,
    sample_format: int = 1,
    orientation: int = 1,
    order: str = "<",
) -> bytes:
    """An uncompressed greyscale TIFF of (width, height)."""
    tags = {256: size[0], 257: size[1], 258: bits, 259: 1, 262: photometric, 273: 8, 274: orientation, 277: 1, 278: size[1]}
    tags |= {279: len(data), 339: sample_format}
    data += b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data))
    return head + data + struct.pack(order + "H", len(tags)) + entries + b"\0\0\0\0"


def profile(space: Sequence, kind: bytes = b"RGB ") -> bytes:
    """An ICC profile: matrix and gamma of an RGB space, or gamma alone (GRAY)."""
    *points, gamma = space
    red, green, blue, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in points)
    cones = BRADFORD @ white
    adapt = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / cones) @ BRADFORD
    primaries = np.stack([red, green, blue], 1)
    columns = adapt @ (primaries * np.linalg.solve(primaries, white))
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"
    if kind == b"GRAY":
        tags = {b"kTRC": curve}
    else:
        tags = {b"%cXYZ" % c: _xyz(columns[:, i]) for i, c in enumerate(b"rgb")} | {b"%cTRC" % c: curve for c in b"rgb"}
    return _icc(kind, b"XYZ ", b"mntr", tags)


def cmyk_profile() -> bytes:
    """An ICC profile of a printer whose inks are those of Pillow's plain conversion, but half as strong."""
    corners = []
    for index in range(16):
        cyan, magenta, yellow, black = (index >> 3 & 1, index >> 2 & 1, index >> 1 & 1, index & 1)
        light = 100 * (1 - 0.5 * (0.3 * cyan + 0.59 * magenta + 0.11 * yellow)) * (1 - 0.5 * black)
        corners.append(bytes([round(light * 2.55), 128, 128]))  # grey inks: L*, a* = b* = 0
    identity = struct.pack(">9i", *[65536 if i % 4 == 0 else 0 for i in range(9)])
    line = bytes(range(256))
    lut = b"mft1" + struct.pack(">IBBBB", 0, 4, 3, 2, 0) + identity + line * 4 + b"".join(corners) + line * 3
    return _icc(b"CMYK", b"Lab ", b"prtr", {b"A2B0": lut})


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + struct.pack(">I3i", 0, *[round(v * 65536) for v in values])


def _icc(space: bytes, connection: bytes, device: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"made for a test"
    desc = b"desc" + struct.pack(">II", 0, len(text) + 1) + text + b"\0" + b"\0" * 78
    tags = {b"desc": desc, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(D50)} | tags
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x02400000, device, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    head += struct.pack(">3i", *[round(v * 65536) for v in D50])
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
