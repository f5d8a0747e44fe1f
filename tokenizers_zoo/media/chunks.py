"""Audio files of chunks: WAV (RIFF, RIFX, RF64, BW64, Wave64), AIFF, AIFF-C, 8SVX.

What decides is the data that is there, not a size that was declared: writers that cannot seek back declare nothing, everything,
or a number that stands for either. Each file is handed on as its format and its data alone, with sizes that are true.
"""

import struct
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

from . import mpeg
from .bytesource import CutOffError, Link, Source

# Sizes that stand for "unknown", plus or minus the headers that a writer adds: SoX 0x7F000000, espeak-ng and SoX 0x7FFFF000,
# LAME 0x7FFFFFFF, ffmpeg 0xFFFFFFFF, wave files of a billion frames.
PLACEHOLDERS = (0x7F000000, 1 << 31, 1 << 32, *(n * 10**9 for n in range(1, 5)), 1 << 63, 1 << 64)
NEAR = 1 << 16
LARGEST = 1 << 16  # bytes of a chunk that describes the data
FORMS = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"BW64"), (b"WAVE",)),
    b"FORM": (b"AIFF", b"AIFC", b"8SVX", b"16SV"),
}
Order: TypeAlias = Literal["little", "big"]
DATA = {b"data": 0, b"SSND": 8, b"BODY": 0}  # and how many of its bytes describe the rest
KEPT = (b"fmt ", b"fact", b"FVER", b"COMM", b"CHAN", b"VHDR")
MPEG = (0x50, 0x55)  # of a WAV that holds an MP2 or MP3
ONE_BY_ONE = b"CHAN\0\0\0\4\0\0\0\6"  # 8SVX in stereo: all of the left channel, then all of the right one
W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_CHUNK = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # after four letters


def extent(source: Source, start: int, declared: int, whole: bool, ends: Callable[[int], bool]) -> int:
    """Where data ends that begins at `start`.

    declared: its size in bytes as the file says. whole: whether something else in the file vouches for its size. ends: whether
    a position is a plausible end of data. Raises CutOffError where less is there than a size that means what it says.
    """
    stop = start + declared
    if declared <= 0 or any(abs(declared - size) <= NEAR for size in PLACEHOLDERS):
        return stop if declared >= 0 and ends(stop) else source.size
    if stop <= source.size:
        return stop
    if whole:
        return source.size
    raise CutOffError(f"{max(0, source.size - start):,} of {declared:,} bytes of sound are there")


def links(source: Source) -> list[Link]:
    """One link for each file; several where they were written one after the other."""
    if source.read(0, 16) == W64:
        return _wave64(source)
    found: list[Link] = []
    position = 0
    while _is_form(source, position):
        links, position = _form(source, position)
        found += links
    return found


def _is_form(source: Source, position: int) -> bool:
    head = source.read(position, 12)
    return len(head) == 12 and head[8:12] in FORMS.get(head[:4], ())


def _form(source: Source, start: int) -> tuple[list[Link], int]:
    """The links of the form at `start`, and where the next form begins, or the source ends."""
    head = source.read(start, 12)
    order: Order = "big" if head[:4] in (b"RIFX", b"FORM") else "little"
    outer, large, kept, position = int.from_bytes(head[4:8], order), -1, b"", start + 12
    body: tuple[bytes, int, int] | None = None  # the head of the data's chunk but its size, start, stop
    while chunk := _chunk(source, position, order):
        name, size = chunk
        if body and _is_form(source, position):
            return _rebuilt(source, head[8:12], order, kept, body), position
        if name == b"ds64":
            outer, large = struct.unpack("<QQ", source.read(position + 8, 16).ljust(16, b"\0"))
        elif name in KEPT and size <= LARGEST:
            kept += source.read(position, 8 + size).ljust(8 + size + size % 2, b"\0")
        elif name in DATA and not body:
            first = position + 8 + DATA[name]
            declared = (large if large >= 0 and size == 0xFFFFFFFF else size) - DATA[name]
            whole = start + 8 + outer == source.size
            stop = extent(source, first, declared, whole, partial(_tiled, source, order=order))
            if stop - first != declared:
                stop = _untagged(source, first, stop, order)
            body, size = (name + source.read(position + 8, DATA[name]), first, stop), stop - position - 8
        position = _next(source, position, size)
    if body is None:
        raise CutOffError("it has no data chunk")
    return _rebuilt(source, head[8:12], order, kept, body), source.size


def _chunk(source: Source, position: int, order: Order) -> tuple[bytes, int] | None:
    """Name and size of the chunk at `position`, if there is one."""
    head = source.read(position, 8)
    if len(head) < 8 or not all(32 <= letter < 127 for letter in head[:4]):
        return None
    return head[:4], int.from_bytes(head[4:], order)


def _next(source: Source, position: int, size: int) -> int:
    """Where the chunk after one of `size` bytes begins: at an even place, which some writers forget."""
    stop = position + 8 + size
    return stop + (size % 2 and (_chunk(source, stop, "little") is None or source.read(stop, 1) == b"\0"))


def _tiled(source: Source, position: int, order: Order) -> bool:
    """Whether nothing but whole chunks, or another form, follow up to the end."""
    while position < source.size and (chunk := _chunk(source, position, order)) and not _is_form(source, position):
        position = _next(source, position, chunk[1])
    return position in (source.size, source.size + 1) or _is_form(source, position)


def _untagged(source: Source, start: int, stop: int, order: Order) -> int:
    """`stop`, or where a list of tags begins that ends there: some writers append one to data of unknown size."""
    first = max(start, stop - LARGEST)
    at = source.read(first, stop - first).rfind(b"LIST")
    return first + at if at >= 0 and _tiled(source, first + at, order) else stop


def _rebuilt(source: Source, form: bytes, order: Order, kept: bytes, body: tuple[bytes, int, int]) -> list[Link]:
    """The data below a header that says just what is there."""
    head, start, stop = body
    if form == b"WAVE" and int.from_bytes(kept[kept.find(b"fmt ") + 8 :][:2], "little") in MPEG:
        return mpeg.links(source, start, stop)
    if form in (b"8SVX", b"16SV") and ONE_BY_ONE in kept:
        raise ValueError("8SVX in stereo is not understood; convert it to WAV")
    size = len(head) - 4 + stop - start
    outer, magic = 4 + len(kept) + 8 + size, {"WAVE": b"RIFF" if order == "little" else b"RIFX"}.get(form.decode(), b"FORM")
    if outer > 0xFFFFFFFF and magic == b"RIFF":
        magic, kept = b"RF64", b"ds64" + struct.pack("<IQQQI", 28, outer + 36, size, 0, 0) + kept
    outer, size = min(outer, 0xFFFFFFFF), min(size, 0xFFFFFFFF)
    header = magic + outer.to_bytes(4, order) + form + kept + head[:4] + size.to_bytes(4, order) + head[4:]
    return [Link((header, (start, stop)))]


def _wave64(source: Source) -> list[Link]:
    """Wave64: WAV's chunks below names of 16 bytes, with 64-bit sizes that count their heads of 24 bytes, at places in eights."""
    kept, position = b"", 40
    outer = int.from_bytes(source.read(16, 8), "little")
    while len(head := source.read(position, 24)) == 24:
        name, size = head[:4], int.from_bytes(head[16:], "little") - 24
        start = position + 24
        if name == b"data":
            stop = extent(source, start, size, outer == source.size, lambda at: 0 <= source.size - at < 8 or _named(source, at))
            return _rebuilt(source, b"WAVE", "little", kept, (name, start, stop))
        if name in KEPT and 0 <= size <= LARGEST:
            kept += name + struct.pack("<I", size) + source.read(start, size).ljust(size + size % 2, b"\0")
        if size < 0:
            break
        position = start + -(-size // 8) * 8
    raise CutOffError("it has no data chunk")


def _named(source: Source, position: int) -> bool:
    return source.read(-(-position // 8) * 8, 16)[4:] == W64_CHUNK
