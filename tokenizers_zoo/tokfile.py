"""The `.tok` file: a safetensors container with bit-packed codes, the spec as JSON metadata and a CRC. Nothing is unpickled.

Tensors: `codes` uint8, each item's valid codes in order (item, codebook, position), most significant bit first, at
ceil(log2(size)) bits a code; `lengths` int32 (B,); `condition.NAME` for each condition.
Metadata: one entry, JSON with the `version` of this layout, the `spec`, and `crc32` (8 hex digits), the checksum of the
whole file with those digits set to 0. One entry, because safetensors writes several in random order.
"""

import json
import re
import zlib

import numpy as np
import torch
from safetensors.torch import load, save

from .errors import TokenError
from .tokens import PAD, Tokens, TokenSpec

VERSION = "1"
_CRC = re.compile(rb'crc32\\":\\"([0-9a-f]{8})')  # the JSON text stands, escaped, inside safetensors' own JSON
_BLANK = b'crc32\\":\\"00000000'


def to_bytes(tokens: Tokens) -> bytes:
    """Serialises; see the module's text for the layout."""
    tensors = {
        "codes": torch.from_numpy(_pack(tokens)),
        "lengths": tokens.lengths.to(torch.int32),
        **{f"condition.{k}": v.cpu().contiguous() for k, v in tokens.conditions.items()},
    }
    header = {"version": VERSION, "crc32": "00000000", "spec": tokens.spec.to_json()}
    data = save(tensors, metadata={"tokens": json.dumps(header, separators=(",", ":"))})
    return data.replace(_BLANK, b'crc32\\":\\"%08x' % zlib.crc32(data), 1)


def from_bytes(data: bytes) -> Tokens:
    """Parses and verifies. Raises TokenError that says what is wrong."""
    stored = _CRC.search(data[: 1 << 20])
    if stored is None:
        raise TokenError("not a .tok file; give a file that `tokenizers-zoo encode` or Tokens.save wrote")
    blank = data[: stored.start()] + _BLANK + data[stored.end() :]
    if zlib.crc32(blank) != int(stored[1], 16):
        raise TokenError("damaged .tok file (its checksum does not match); copy it again or encode the source again")
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    header = json.loads(metadata["tokens"])
    if header["version"] != VERSION:
        raise TokenError(f".tok version {header['version']} is newer than this library; upgrade tokenizers-zoo")
    spec, tensors = TokenSpec.from_json(header["spec"]), load(data)
    lengths = tensors["lengths"].long()
    conditions = {k.removeprefix("condition."): v for k, v in tensors.items() if k.startswith("condition.")}
    return Tokens(_unpack(tensors["codes"].numpy(), spec, lengths.tolist()), spec, lengths, **conditions)


def _widths(spec: TokenSpec) -> list[int]:
    return [(size - 1).bit_length() for size in spec.codebook_sizes]


def _pack(tokens: Tokens) -> np.ndarray:
    codes, bits = tokens.codes.cpu().numpy(), [np.zeros(0, np.uint8)]
    for item, length in zip(codes, tokens.lengths.tolist(), strict=True):
        for row, width in zip(item, _widths(tokens.spec), strict=True):
            bits.append((row[:length, None] >> np.arange(width)[::-1] & 1).astype(np.uint8).ravel())
    return np.packbits(np.concatenate(bits))


def _unpack(packed: np.ndarray, spec: TokenSpec, lengths: list[int]) -> torch.Tensor:
    widths, bits, start = _widths(spec), np.unpackbits(packed), 0
    codes = np.full((len(lengths), len(widths), max(lengths, default=0)), PAD, np.int64)
    for item, length in zip(codes, lengths, strict=True):
        for row, width in zip(item, widths, strict=True):
            field = bits[start : start + length * width].reshape(length, width)
            row[:length] = field @ (1 << np.arange(width)[::-1])
            start += length * width
    return torch.from_numpy(codes)
