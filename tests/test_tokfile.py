"""The .tok file: what version 1 wrote, what version 2 adds, and what is in no valid file."""

import json
import resource
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from test_tokens import CAPTIONED, IMAGE, SPEC, tokens

from tokenizers_zoo import TokenError, Tokens, TokenSpec
from tokenizers_zoo.tokfile import ROOM

VERSION_1 = sorted(DATA.glob("version1_*.tok"))
TYPES = {"U8": 1, "I32": 4, "I64": 8, "F32": 4, "BOOL": 1, "F8_E4M3": 1, "U16": 2}  # bytes an entry

Header = dict[str, Any]
Stored = dict[str, tuple[str, list[int], bytes]]  # tensors: type, shape, bytes


def opened(data: bytes) -> tuple[Header, Stored]:
    """The JSON and the tensors of a file, without this library's reader."""
    size = int.from_bytes(data[:8], "little")
    outer, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    header = json.loads(outer.pop("__metadata__")["tokens"])
    return header, {k: (v["dtype"], v["shape"], body[slice(*v["data_offsets"])]) for k, v in outer.items()}


def sealed(header: Any, tensors: Stored, size: int | None = None) -> bytes:
    """A file of anything, with the right checksum. header: JSON as text or as data. size: what it says of its header's length."""
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    outer, body = {"__metadata__": {"tokens": text}}, b""
    for name, (kind, shape, content) in tensors.items():
        outer[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    return checked(outer_bytes(json.dumps(outer, separators=(",", ":")), body, size))


def outer_bytes(text: str, body: bytes, size: int | None = None) -> bytes:
    text += " " * (-len(text) % 8)
    return (len(text) if size is None else size).to_bytes(8, "little") + text.encode() + body


def checked(data: bytes) -> bytes:
    """`data` with its checksum made right."""
    mark = b'crc32\\":\\"'
    at = data.find(mark) + len(mark)
    if at < len(mark):
        return data
    blank = data[:at] + b"00000000" + data[at + 8 :]
    return data[:at] + b"%08x" % zlib.crc32(blank) + data[at + 8 :]


def ints(*values: int) -> tuple[str, list[int], bytes]:
    return "I32", [len(values)], b"".join(value.to_bytes(4, "little", signed=True) for value in values)


def captioned() -> Tokens:
    return Tokens(torch.zeros(2, 1, 32, dtype=torch.int64), CAPTIONED, text=["a cat", ""])
