"""Hostile files: WAV, PNG and `.tok` put together from their parts, the other types by edits of small real files."""

import io
import json
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
import soundfile
import torch
from conftest import DATA
from hypothesis import strategies as st
from PIL import Image, ImageCms

import tokenizers_zoo as tz

EDGES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFF24, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
File = tuple[str, bytes]  # suffix, content


def number(bits: int) -> st.SearchStrategy[int]:
    """Unsigned, often at an edge of a field's range."""
    return st.sampled_from([edge for edge in EDGES if edge < 1 << bits]) | st.integers(0, (1 << bits) - 1)


def mostly(value: Any, other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """`value` in fifteen of sixteen draws."""
    return st.integers(0, 15).flatmap(lambda n: other if n == 15 else st.just(value))


def long(most: int = 20_000) -> st.SearchStrategy[bytes]:
    """Up to `most` bytes from a few random ones."""
    return st.builds(lambda some, times: (some * times)[:most], st.binary(max_size=40), st.sampled_from([0, 1, 2, 50, 500]))


# WAV

CODINGS = [(1, 16), (1, 8), (1, 24), (1, 32), (3, 32), (3, 64), (6, 8), (7, 8)]  # format tag, bits a sample
OTHERS = st.tuples(st.sampled_from([0, 1, 2, 3, 17, 49, 85, 0xFFFE]), number(16))
RATES = [8000, 16000, 22050, 44100, 48000, 96000, 384_000, 4000, 16_001, 47_999, 383_987, 0, 1, 2, 999, 2**31 - 1, 2**32 - 1]


@st.composite
def wav(draw: st.DrawFn) -> File:
    """Forms, codings, rates, chunks in any order, sizes that are true, unknown or wrong, a missing pad byte, a lost end."""
    form = draw(st.sampled_from([b"RIFF", b"RIFF", b"RIFF", b"RIFX", b"RF64", b"BW64"]))
    order = ">" if form == b"RIFX" else "<"
    coding, bits = draw(mostly(None, OTHERS)) or draw(st.sampled_from(CODINGS))
    channels = draw(mostly(None, number(16))) or draw(st.sampled_from([1, 1, 2, 2, 3, 6]))
    rate = draw(st.sampled_from(RATES) | st.integers(4000, 384_000))
    block = draw(mostly(max(1, channels * bits // 8), number(16))) & 0xFFFF
    head = struct.pack(order + "HHIIHH", coding, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    if draw(st.booleans()):  # the extensible form
        guid = struct.pack(order + "H", coding) + bytes.fromhex("000000001000800000aa00389b71")
        mask = draw(mostly((1 << channels % 18) - 1, number(32)))
        head = struct.pack(order + "H", 0xFFFE) + head[2:] + struct.pack(order + "HHI", 22, bits, mask) + guid
    sizes = (mostly(None, number(64)), mostly(None, number(64)), number(64), number(32))
    chunks = [(b"fmt ", head), (b"data", draw(long()))]
    if form in (b"RF64", b"BW64"):
        chunks.insert(0, (b"ds64", struct.pack("<QQQI", *(draw(size) or 0 for size in sizes))))
    for name in draw(
        st.lists(st.sampled_from([b"LIST", b"fact", b"JUNK", b"bext", b"cue ", b"smpl", b"data", b"\0\0\0\0"]), max_size=2)
    ):
        chunks.insert(draw(st.integers(0, len(chunks))), (name, draw(long(300))))
    body = b""
    for name, content in chunks:
        size = draw(mostly(len(content), number(32)))
        pad = b"\0" * (len(content) % 2 if draw(mostly(True, st.booleans())) else 0)
        body += name + struct.pack(order + "I", size) + content + pad
    data = form + struct.pack(order + "I", draw(mostly(len(body) + 4, number(32)))) + b"WAVE" + body
    return ".wav", data[: len(data) - draw(mostly(0, st.integers(0, 200)))]


# PNG

KINDS = [
    (1, 0),
    (2, 0),
    (8, 0),
    (16, 0),
    (8, 2),
    (16, 2),
    (1, 3),
    (4, 3),
    (8, 3),
    (8, 4),
    (16, 4),
    (8, 6),
    (16, 6),
]  # depth, colour
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
EXTRAS = [b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"pHYs", b"bKGD", b"acTL"]
EXTRAS += [b"fcTL", b"fdAT", b"sBIT", b"cICP", b"IDAT", b"IEND", b"IHDR", b"tIME", b"JUNK"]


@st.composite
def png(draw: st.DrawFn) -> File:
    """Headers true and absurd, pixels of the right and of a wrong length, every ancillary chunk, checksums mostly right."""
    side = st.integers(1, 40) | mostly(1, st.sampled_from([0, 3000, 9000, 16_384, 65_535, 2**31 - 1, 2**32 - 1]))
    width, height = draw(side), draw(side)
    depth, colour = draw(mostly(None, st.tuples(number(8), number(8)))) or draw(st.sampled_from(KINDS))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, draw(mostly(0, st.integers(0, 2))))
    row = min(1 + -(-width * CHANNELS.get(colour, 1) * depth // 8), 2000)
    line = bytes([draw(st.integers(0, 5))]) + draw(st.binary(min_size=1, max_size=8)) * row
    pixels = line[:row] * max(0, min(height, 64) + draw(mostly(0, st.integers(-3, 3))))
    packed = zlib.compress(pixels)
    packed = draw(mostly(packed, st.just(packed[: len(packed) // 2]) | st.binary(max_size=30)))
    chunks = [(b"IHDR", head)]
    if colour == 3:
        chunks.append((b"PLTE", draw(st.binary(min_size=3, max_size=12)) * 3))
    chunks += [(name, draw(_extra(name))) for name in draw(st.lists(st.sampled_from(EXTRAS), max_size=3))]
    cut = draw(st.integers(0, len(packed)))
    chunks += [(b"IDAT", packed[:cut]), (b"IDAT", packed[cut:]), (b"IEND", b"")]
    if draw(mostly(False, st.just(True))):
        chunks = draw(st.permutations(chunks))
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks:
        checksum = draw(mostly(zlib.crc32(name + content), number(32)))
        data += struct.pack(">I", draw(mostly(len(content), number(32)))) + name + content + struct.pack(">I", checksum)
    return ".png", data[: len(data) - draw(mostly(0, st.integers(0, 60)))]


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01%b\0\0\0\0\0\0"  # one entry: the orientation


@cache
def _extra(name: bytes) -> st.SearchStrategy[bytes]:
    """Plausible contents of a chunk, or any bytes."""
    zeros, srgb = zlib.compress(bytes(1 << 22)), zlib.compress(SRGB)  # the first: four megabytes from four kilobytes
    known = {
        b"gAMA": number(32).map(lambda n: struct.pack(">I", n)),
        b"cHRM": st.lists(number(32), min_size=8, max_size=8).map(lambda n: struct.pack(">8I", *n)),
        b"iCCP": st.sampled_from([zeros, srgb, srgb[:200]]).map(lambda packed: b"name\0\0" + packed),
        b"zTXt": st.sampled_from([zeros, zlib.compress(b"text")]).map(lambda packed: b"name\0\0" + packed),
        b"eXIf": number(16).map(lambda n: EXIF % struct.pack(">H", n)),
        b"acTL": st.tuples(number(32), number(32)).map(lambda n: struct.pack(">II", *n)),
        b"tRNS": st.binary(max_size=8),
    }
    return known.get(name, st.just(b"")) | st.binary(max_size=40)


# .tok


@st.composite
def tok(draw: st.DrawFn) -> File:
    """A token file with parts of its header replaced, removed or added, its tensors edited, and the checksum that fits."""
    data = _token_file()
    size = int.from_bytes(data[:8], "little")
    outer, tensors = json.loads(data[8 : 8 + size]), data[8 + size :]
    inner = json.loads(outer["__metadata__"]["tokens"])
    for _ in range(draw(st.integers(0, 2))):
        inner = draw(edited_tree(inner))
    inner = inner if isinstance(inner, dict) else {"spec": inner}
    outer["__metadata__"]["tokens"] = json.dumps(inner | {"crc32": "00000000"}, separators=(",", ":"))
    if draw(st.booleans()):
        outer = draw(edited_tree(outer))
    header = json.dumps(outer, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    data = struct.pack("<Q", draw(mostly(len(header), number(64)))) + header + draw(edited(tensors))
    return ".tok", data.replace(b'crc32\\":\\"00000000', b'crc32\\":\\"%08x' % zlib.crc32(data), 1)


@cache
def _token_file() -> bytes:
    roles = ("semantic", "acoustic")
    spec = tz.TokenSpec("x", "audio", (1024, 5), roles, "time", position_prefixes=True, sample_rate=16_000, hop=320)
    codes = torch.tensor([[[7, 1023, 5], [0, 4, 1]], [[1, 2, -1], [3, 4, -1]]])
    lengths = torch.tensor([3, 2])
    return tz.Tokens(codes, spec, lengths, num_samples=(lengths * 320).int()).to_bytes()


# Trees of JSON and edits of bytes

WORDS = st.sampled_from(["", "x", "path", "class_path", "init_args", "../x", "audio", "\ud800", "\0", "1e9"]) | st.text(
    max_size=5
)
LEAVES = st.none() | st.booleans() | number(32) | st.integers(-(2**70), 2**70) | st.floats() | WORDS
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6)


@st.composite
def edited_tree(draw: st.DrawFn, tree: Any, leaves: st.SearchStrategy[Any] = TREES) -> Any:
    """A tree of dicts and lists with one place, at any depth, replaced, removed, or added to."""
    if not isinstance(tree, dict | list) or not tree or not draw(mostly(True, st.just(False))):
        return draw(leaves)
    if isinstance(tree, list):
        at = draw(st.integers(0, len(tree) - 1))
        return [*tree[:at], draw(edited_tree(tree[at], leaves)), *tree[at + 1 :]]
    key = draw(st.sampled_from(sorted(tree)))
    action = draw(st.integers(0, 7))
    if action == 0:
        return {name: value for name, value in tree.items() if name != key}
    return tree | ({draw(WORDS): draw(leaves)} if action == 1 else {key: draw(edited_tree(tree[key], leaves))})


@st.composite
def edited(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` after up to four edits: bytes set, fields of 16 and 32 bits, pieces lost, doubled or put in, the end lost."""
    for _ in range(draw(st.integers(0, 4))):
        # Headers stand at the start, so that is where half of the edits are.
        at = draw(st.integers(0, min(len(data), 64)) | st.integers(0, len(data)))
        kind, length = draw(st.integers(0, 6)), draw(st.integers(1, 64))
        field = draw(number(32))
        new = {
            0: bytes([field & 0xFF]),
            1: struct.pack("<I", field),
            2: struct.pack(">I", field),
            3: struct.pack(">H", field & 0xFFFF),
            4: bytes([field & 0xFF]) * length,
            5: data[at : at + length] * 2,
        }.get(kind, b"")
        data = (
            data[:at] if kind == 6 and draw(st.booleans()) else data[:at] + new + data[at + (len(new) if kind < 4 else length) :]
        )
    return data


@cache
def small_audio() -> dict[str, bytes]:
    """A tenth of a second of speech in every coding that can be written here."""
    wave, rate = soundfile.read(DATA / "sense_and_sensibility_0870.wav", frames=1600, start=8000, dtype="float32")
    formats = {".flac": "FLAC", ".ogg": "OGG", ".opus": "OGG/OPUS", ".mp3": "MP3", ".aiff": "AIFF", ".au": "AU", ".caf": "CAF"}
    formats |= {".w64": "W64", ".rf64": "RF64", ".voc": "VOC", ".wav": "WAV/IMA_ADPCM", ".wave": "WAVEX/FLOAT", ".nist": "NIST"}
    files = {}
    for suffix, name in formats.items():
        form, _, coding = name.partition("/")
        with io.BytesIO() as file:
            soundfile.write(file, np.stack([wave, wave[::-1]], 1), rate, format=form, subtype=coding or None)
            files[suffix] = file.getvalue()
    return files


@cache
def small_images() -> dict[str, bytes]:
    """A cat, 24 x 16, in every type that Pillow writes and users have."""
    photo = Image.open(DATA / "chelsea.jpg").crop((100, 50, 124, 66))
    options: dict[str, tuple[str, dict[str, Any]]] = {
        ".jpg": ("JPEG", {"exif": b"Exif\0\0" + EXIF % b"\0\6"}),
        ".jpeg": ("JPEG", {"progressive": True, "icc_profile": SRGB}),
        ".webp": ("WEBP", {"lossless": True}),
        ".gif": ("GIF", {"save_all": True, "append_images": [photo.rotate(90)]}),
        ".tif": ("TIFF", {"compression": "tiff_lzw"}),
        ".tiff": ("TIFF", {}),
        ".bmp": ("BMP", {}),
        ".avif": ("AVIF", {}),
        ".ppm": ("PPM", {}),
        ".png": ("PNG", {}),
        ".jp2": ("JPEG2000", {}),
        ".tga": ("TGA", {}),
        ".ico": ("ICO", {}),
    }
    files = {}
    for suffix, (form, given) in options.items():
        with io.BytesIO() as file:
            photo.save(file, form, **given)
            files[suffix] = file.getvalue()
    return files


def damaged(files: dict[str, bytes]) -> st.SearchStrategy[File]:
    """One of the files, edited."""
    return st.sampled_from(sorted(files)).flatmap(lambda suffix: st.tuples(st.just(suffix), edited(files[suffix])))
