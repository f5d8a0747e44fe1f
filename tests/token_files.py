"""Taking `.tok` files apart and putting anything together as one, by other means than the library's."""

import json
import zlib
from typing import Any

BYTES = {"U8": 1, "I8": 1, "BOOL": 1, "I32": 4, "I64": 8, "F32": 4, "F8_E4M3": 1, "U16": 2, "C64": 8, "F4": 1, "X": 1}

Stored = dict[str, tuple[str, list[int], bytes]]  # tensors: type, shape, bytes


def opened(data: bytes) -> tuple[dict[str, Any], Stored]:
    """The JSON and the tensors of a file, by other means than the reader's."""
    size = int.from_bytes(data[:8], "little")
    outer, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    header = json.loads(outer.pop("__metadata__")["tokens"])
    return header, {k: (v["dtype"], v["shape"], body[slice(*v["data_offsets"])]) for k, v in outer.items()}


def sealed(header: Any, tensors: Stored) -> bytes:
    """A file of anything, with the right checksum. header: JSON, as text or as data."""
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    outer: dict[str, Any] = {"__metadata__": {"tokens": text}}
    body = b""
    for name, (kind, shape, content) in tensors.items():
        outer[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    return enclosed(json.dumps(outer, separators=(",", ":")), body)


def enclosed(outer: str, body: bytes, size: int | None = None) -> bytes:
    """A safetensors container. size: what it says of its header's length, if that is not so."""
    outer += " " * (-len(outer) % 8)
    return checksummed((len(outer) if size is None else size).to_bytes(8, "little") + outer.encode() + body)


def checksummed(data: bytes) -> bytes:
    at = data.find(b'crc32\\":\\"') + 10
    if at < 10:
        return data
    blank = data[:at] + b"00000000" + data[at + 8 :]
    return data[:at] + b"%08x" % zlib.crc32(blank) + data[at + 8 :]


def integers(*values: int) -> tuple[str, list[int], bytes]:
    return "I32", [len(values)], b"".join(value.to_bytes(4, "little", signed=True) for value in values)
