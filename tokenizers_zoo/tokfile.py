"""The `.tok` file: a safetensors container with bit-packed codes, the spec as JSON metadata and a CRC. Nothing is unpickled.

Tensors: `codes` uint8, each item's valid codes in order (item, codebook, position), most significant bit first, at
ceil(log2(size)) bits a code, zeros after the last; `lengths` int32 (B,); `condition.NAME` (B, ...) for each condition;
where there are captions, `text` uint8, their UTF-8 bytes, and `text_ends` int32 (B,), where each item's end.
Padding is not stored; a batch of more than 16 million codes with it, 64 times as many as without, is neither written nor read.
Metadata: one entry, JSON with the `version` of this layout, the `spec`, and `crc32` (8 hex digits), the checksum of the
whole file with those digits set to 0. One entry, because safetensors writes several in random order.

Versions: what version 1 could say (no captions, no field of the spec that it did not know) is written as version 1, byte for
byte, all else as version 2. A reader refuses higher versions, and what it does not know of a version that it knows, except
tensors, fields of the spec and entries of the metadata whose names begin with "x-": these are optional and it skips them.
"""

import functools
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .errors import TokenError
from .spec import OPTIONAL, PAD, Parts, TokenSpec

VERSION = 2
HEADER = 1 << 20  # bytes at most
CHUNK = 1 << 14  # codes that are packed at once
ROOM, RAGGED = 1 << 24, 64  # codes with padding: at most so many, or so many times those that are valid
LATER = {"conditions", "scales", "decodable"}  # fields of the spec that version 1 did not know
_CRC = re.compile(rb'crc32\\":\\"([0-9a-f]{8})')  # the JSON text stands, escaped, inside safetensors' own JSON
_BLANK = b'crc32\\":\\"00000000'


def to_bytes(parts: Parts) -> bytes:
    """Serialises; see the module's text for the layout."""
    _check_room(parts.lengths.tolist(), parts.codes.shape[1])
    tensors = {"codes": torch.from_numpy(_pack(parts)), "lengths": parts.lengths.to(torch.int32)}
    # clones, because safetensors refuses tensors that share memory
    tensors |= {f"condition.{k}": v.detach().cpu().contiguous().clone() for k, v in parts.conditions.items()}
    if parts.text:
        captions = [caption.encode() for caption in parts.text]
        tensors["text"] = torch.frombuffer(bytearray(b"".join(captions)), dtype=torch.uint8)
        tensors["text_ends"] = torch.tensor(list(accumulate(map(len, captions))), dtype=torch.int32)
    spec = parts.spec.to_json()
    if parts.spec.conditions == _known_to_version_1(parts.spec, parts.conditions):
        spec.pop("conditions", None)
    version = "2" if parts.text or LATER & spec.keys() else "1"
    header = {"version": version, "crc32": "00000000", "spec": spec}
    data = save(tensors, metadata={"tokens": json.dumps(header, separators=(",", ":"))})
    if int.from_bytes(data[:8], "little") > HEADER:
        raise TokenError(f"the spec and the names of conditions take more than {HEADER} bytes; shorten them")
    return data.replace(_BLANK, b'crc32\\":\\"%08x' % zlib.crc32(data), 1)


def from_bytes(data: bytes) -> Parts:
    """Parses and verifies all but the codes' range. Raises TokenError that says what is wrong."""
    stored = _CRC.search(data[:HEADER])
    if stored is None:
        raise TokenError("not a .tok file; give a file that `tokenizers-zoo encode` or Tokens.save wrote")
    blank = data[: stored.start()] + _BLANK + data[stored.end() :]
    if zlib.crc32(blank) != int(stored[1], 16):
        raise TokenError("damaged .tok file (its checksum does not match); copy it again or encode the source again")
    header = _header(data)
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TokenError(f"the tensors of this .tok file cannot be read ({error}); encode the source again") from error
    conditions = {k.removeprefix("condition."): v for k, v in tensors.items() if k.startswith("condition.")}
    spec = TokenSpec.from_json(header.get("spec"))
    if header["version"] == "1" and not conditions.keys() <= {*spec.conditions}:
        spec = replace(spec, conditions=_known_to_version_1(spec, conditions))
    _refuse_unknown("conditions", conditions, {*spec.conditions} - {"text"})
    _refuse_unknown("tensors", tensors, {"codes", "lengths", "text", "text_ends", *(f"condition.{k}" for k in conditions)})
    lengths = _tensor(tensors, "lengths", torch.int32)
    codes = _unpack(_tensor(tensors, "codes", torch.uint8).numpy(), spec, lengths.tolist())
    return Parts(codes, spec, lengths.long(), _captions(tensors, len(lengths)), conditions)


def read_spec(path: str | Path) -> TokenSpec:
    """The spec of a `.tok` file by its header alone: a hundredth of what loading costs, and damage after it goes unnoticed.

    Raises TokenError (with the path) for what has no such header.
    """
    with open(path, "rb") as file:
        start = file.read(8)
        data = start + file.read(min(HEADER, int.from_bytes(start, "little")))
    try:
        return _parsed(json.dumps(_header(data).get("spec")))
    except TokenError as error:
        raise TokenError(f"{path}: {error}") from error


@functools.lru_cache
def _parsed(spec: str) -> TokenSpec:
    return TokenSpec.from_json(json.loads(spec))


def _header(data: bytes) -> dict[str, Any]:
    """The entry of the metadata, with a version that this module reads."""
    size = int.from_bytes(data[:8], "little")
    if size > min(HEADER, len(data) - 8):
        raise TokenError(f"a .tok file's header has at most {HEADER} bytes and ends within the file, this one says {size}")
    try:
        header: dict[str, Any] = _json(_json(data[8 : 8 + size])["__metadata__"]["tokens"])
        version = header.get("version")
    except (AttributeError, KeyError, TypeError, RecursionError, ValueError) as error:
        raise TokenError(f"the header of this .tok file is not what one holds ({error!r}); encode the source again") from error
    if not (isinstance(version, str) and re.fullmatch("[1-9][0-9]{0,8}", version)):
        raise TokenError(f"{short(version)} is not a version of .tok files; encode the source again")
    if int(version) > VERSION:
        raise TokenError(f".tok version {version} is newer than this library; upgrade tokenizers-zoo")
    _refuse_unknown("entries", header, {"version", "crc32", "spec"})
    return header


def _json(text: bytes | str) -> Any:
    """Strict JSON: no name twice, no NaN."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def _refuse_unknown(what: str, names: Iterable[str], known: set[str]) -> None:
    if unknown := [name for name in names if name not in known and not name.startswith(OPTIONAL)]:
        raise TokenError(f"this .tok file has {what} that nothing here knows: {short(unknown[0])}; upgrade tokenizers-zoo")


def _known_to_version_1(spec: TokenSpec, present: Iterable[str]) -> tuple[str, ...]:
    """Files of version 1 do not list the conditions that a tokenizer knows: the default, and what is there."""
    return tuple(dict.fromkeys([*spec.default("conditions"), *sorted(present)]))


def _tensor(tensors: dict[str, Tensor], name: str, dtype: torch.dtype) -> Tensor:
    value = tensors.get(name)
    if value is None or value.dtype != dtype or value.ndim != 1:
        raise TokenError(f"a .tok file needs a tensor {name!r} of {dtype} with one dimension; encode the source again")
    return value


def _captions(tensors: dict[str, Tensor], count: int) -> list[str] | None:
    if not {"text", "text_ends"} & tensors.keys():
        return None
    data, ends = _tensor(tensors, "text", torch.uint8).numpy().tobytes(), _tensor(tensors, "text_ends", torch.int32).tolist()
    if len(ends) != count or sorted(ends) != ends or (ends or [0])[-1] != len(data) or min(ends, default=0) < 0:
        raise TokenError(
            f"text_ends must increase to the end of the text, one for each of {count} items; encode the source again"
        )
    try:
        return [data[start:end].decode() for start, end in pairwise([0, *ends])]
    except UnicodeDecodeError as error:
        raise TokenError(f"the text of this .tok file is not UTF-8 ({error}); encode the source again") from error


def _check_room(lengths: Sequence[int], codebooks: int) -> None:
    """Padding is not in the file, so that a small one could ask for all memory there is."""
    padded, valid = len(lengths) * max(lengths, default=0), sum(lengths)
    if padded * codebooks > max(ROOM, RAGGED * valid * codebooks):
        raise TokenError(
            f"{len(lengths)} items of up to {max(lengths)} positions are more than {RAGGED} times the {valid} that are in use; "
            f"put long and short items into different files"
        )


def _segments(spec: TokenSpec, lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(codes, bits a code) of the runs of equally wide codes in a file, each short enough to stay in the cache."""
    widths = [(width, len(list(run))) for width, run in groupby((size - 1).bit_length() for size in spec.codebook_sizes)]
    if len(widths) == 1:
        lengths, widths = [sum(lengths) * widths[0][1]], [(widths[0][0], 1)]
    for length in lengths:
        for width, count in widths:
            for start in range(0, length * count, CHUNK):
                yield min(CHUNK, length * count - start), width


def _pack(parts: Parts) -> np.ndarray[Any, Any]:
    codes, lengths = parts.codes.cpu().numpy(), parts.lengths.numpy()
    valid = np.arange(codes.shape[-1]) < lengths[:, None, None]
    flat, bits, start = codes[np.broadcast_to(valid, codes.shape)], [np.zeros(0, np.uint8)], 0
    for count, width in _segments(parts.spec, lengths.tolist()):
        bits.append((flat[start : start + count, None] >> np.arange(width)[::-1] & 1).astype(np.uint8).ravel())
        start += count
    return np.packbits(np.concatenate(bits))


def _unpack(packed: np.ndarray[Any, Any], spec: TokenSpec, lengths: list[int]) -> Tensor:
    widths = [(size - 1).bit_length() for size in spec.codebook_sizes]
    size = sum(lengths) * sum(widths)
    if min(lengths, default=0) < 0 or len(packed) != -(-size // 8):
        raise TokenError(f"{len(packed)} bytes of codes do not fit the lengths of this .tok file; encode the source again")
    _check_room(lengths, len(widths))
    bits = np.unpackbits(packed)
    if bits[size:].any():
        raise TokenError("the bits after the last code of a .tok file must be 0; encode the source again")
    flat, first, start = np.empty(sum(lengths) * len(widths), np.int64), 0, 0
    for count, width in _segments(spec, lengths):
        field = bits[start : start + count * width].reshape(count, width)
        flat[first : first + count] = field @ (1 << np.arange(width)[::-1])
        first, start = first + count, start + count * width
    codes = np.full((len(lengths), len(widths), max(lengths, default=0)), PAD, np.int64)
    valid = np.arange(codes.shape[-1]) < np.array(lengths, np.int64)[:, None, None]
    codes[np.broadcast_to(valid, codes.shape)] = flat
    return torch.from_numpy(codes)
