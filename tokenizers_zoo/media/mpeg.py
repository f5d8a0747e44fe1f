"""MPEG audio (MP3): a row of frames that nothing counts but, in most files, a tag in the first one (Xing, Info, VBRI).

Decoders take that number, or guess one from the first bit rate; libsndfile reads no further. So the frames are counted by their
headers here, tags and junk between them are left out, and where the number is missing or another one, the file passes for one
that is too long for the decoder to stop early.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from .bytesource import CutOffError, Link, Source

SYNC, SAME = 0xFFE00000, 0xFFFE0C00  # bits that every header has; that all headers of a file share
KBITS = {  # kbit/s by (MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44_100, 48_000, 32_000)
HEADER = re.compile(rb"(?=\xff[\xe2-\xff][\x10-\xef])", re.DOTALL)  # what may be one
JUNK = 1 << 20  # bytes that are searched for the next frame
LARGEST = 4096  # bytes of a frame, and more


@dataclass(frozen=True)
class Header:
    """Of one frame. size: its bytes. side: bytes of side information, after which a tag may stand. samples: a channel."""

    bits: int
    size: int
    side: int
    layer: int
    samples: int


@dataclass(frozen=True)
class Tag:
    """What a first frame announces: frames and bytes, 0 for unknown. own: whether decoders understand it."""

    frames: int
    bytes: int
    own: bool


@dataclass
class Run:
    """Frames that belong together: below one tag, of one format. place: of the frame with the tag. spans: of the others."""

    header: Header
    tag: Tag | None
    place: tuple[int, int] | None
    spans: list[tuple[int, int]] = field(default_factory=list)
    frames: int = 0


def header(data: bytes) -> Header | None:
    """The header in the first four bytes; None if it is none, or of a free bit rate."""
    bits = int.from_bytes(data[:4], "big")
    version, layer, rate, speed = bits >> 19 & 3, 4 - (bits >> 17 & 3), bits >> 10 & 3, bits >> 12 & 15
    if len(data) < 4 or bits & SYNC != SYNC or version == 1 or layer == 4 or rate == 3 or not 0 < speed < 15:
        return None
    hertz = RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bitrate, padding, first = 1000 * KBITS[version == 3, layer][speed - 1], bits >> 9 & 1, version == 3
    if layer == 1:
        size = (12 * bitrate // hertz + padding) * 4
    else:
        size = (144 if first or layer == 2 else 72) * bitrate // hertz + padding
    mono = bits >> 6 & 3 == 3
    samples = 384 if layer == 1 else 576 if layer == 3 and not first else 1152
    return Header(bits, size, (17 if mono else 32) if first else (9 if mono else 17), layer, samples)


def begins(source: Source) -> bool:
    """Whether the first byte, or the first one after tags, is that of a frame."""
    start = past_tags(source, 0, source.size)
    return _sync(source, start, source.size, 4) == start


def links(source: Source, start: int = 0, stop: int | None = None) -> list[Link]:
    """A link for each file that was written there. Raises CutOffError where frames that a tag counts, or parts of one, miss."""
    return [_link(run) for run in _runs(source, start, source.size if stop is None else stop)]


def _runs(source: Source, start: int, stop: int) -> list[Run]:
    runs: list[Run] = []
    for position, head in _frames(source, start, stop):
        tag = _tag(source.read(position, min(head.size, 192)), head)
        if tag or not runs or (runs[-1].header.bits ^ head.bits) & SAME:
            runs.append(Run(head, tag, (position, position + head.size) if tag else None))
        if tag:
            continue
        run = runs[-1]
        run.frames += 1
        if run.spans and run.spans[-1][1] == position:
            run.spans[-1] = (run.spans[-1][0], position + head.size)
        else:
            run.spans.append((position, position + head.size))
    return runs


def _frames(source: Source, start: int, stop: int) -> Iterator[tuple[int, Header]]:
    """Place and header of every frame."""
    position = _sync(source, past_tags(source, start, stop), stop)
    same = None
    while position is not None and position + 4 <= stop:
        head = header(source.read(position, 4))
        if head is None or (same is not None and (head.bits ^ same) & SAME):
            position, same = _sync(source, past_tags(source, position, stop), stop), None
            continue
        same = head.bits
        if position + head.size > stop:
            raise CutOffError(f"{stop - position:,} of the {head.size:,} bytes of its last frame are there")
        yield position, head
        position += head.size


def _sync(source: Source, start: int, stop: int, room: int = JUNK) -> int | None:
    """The next place where a frame begins that two others follow, or the end."""
    for at in source.find(HEADER, start, min(stop, start + room)):
        position, count, head = at, 0, header(source.read(at, 4))
        while head and count < 3 and position < stop:
            following = header(source.read(position, 4))
            if not following or (head.bits ^ following.bits) & SAME:
                break
            position, count = past_tags(source, position + following.size, stop), count + 1
        if count == 3 or (count and (position == stop or (position > stop and at == start))):
            return at
    return None


def past_tags(source: Source, position: int, stop: int) -> int:
    """`position`, or the end of the ID3 and APE tags that stand there."""
    while position < stop:
        head = source.read(position, 32).ljust(32, b"\0")
        if head[:3] == b"ID3":
            size = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            size += 10 * (head[5] >> 4 & 1)  # a footer
        elif head[:3] == b"TAG":
            size = 128
        elif head[:8] == b"APETAGEX":  # what its header counts follows, what its footer counts came before
            size = 32 + (int.from_bytes(head[12:16], "little") if head[23] & 0x20 else 0)
        else:
            break
        position += size
    return position


def _tag(frame: bytes, head: Header) -> Tag | None:
    """What a first frame announces; None if it is sound."""
    if head.layer != 3:
        return None
    if frame[36:40] == b"VBRI":
        size, count = struct.unpack(">II", frame[46:54].ljust(8, b"\0"))
        return Tag(count, size, own=False)
    for at in (4 + head.side, 6 + head.side):  # a checksum may stand before the side information
        if frame[at : at + 4] in (b"Xing", b"Info"):
            flags, *numbers = struct.unpack(">III", frame[at + 4 : at + 16].ljust(12, b"\0"))
            count = numbers.pop(0) if flags & 1 else 0
            return Tag(count, numbers[0] if flags & 2 else 0, own=True)
    return None


def _link(run: Run) -> Link:
    tag = run.tag or Tag(0, 0, own=False)
    there = sum(stop - start for start, stop in ([run.place] if run.place else []) + run.spans)
    if run.frames < tag.frames and not 0 < tag.bytes <= there:
        raise CutOffError(f"{run.frames:,} of {tag.frames:,} frames are there")
    if run.place and tag.own and run.frames == tag.frames:
        return Link((run.place, *run.spans), exact=False)
    frames = run.frames * run.header.samples
    return Link(tuple(run.spans), exact=False, frames=frames, pretended=LARGEST * run.frames)
