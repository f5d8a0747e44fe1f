"""Ogg: pages of a stream, and streams that follow each other (chained: `cat a.ogg b.ogg`, web radio).

libsndfile reads the first stream alone, and takes a last page that does not say that it is the last one, or at which sample it
ends, for less than it holds. Its seek in Vorbis misses near the end.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from .bytesource import CutOffError, Link, Source

MAGIC, NEXT = b"OggS", re.compile(rb"OggS")
FLAC = b"\x7fFLAC"  # begins the first packet; after nine bytes comes what a FLAC file holds
SOUND = (FLAC, b"\x01vorbis", b"OpusHead", b"Speex")  # first packets of what is read
BEGINS, ENDS = 2, 4  # flags of a page
PACKET = 8192  # samples in a packet at most (Vorbis; Opus has 5760)
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class Stream:
    """One of the chain: start and end of its pages, the sample at which all but the last end."""

    pages: list[tuple[int, int]] = field(default_factory=list)
    sample: int = 0


def links(source: Source) -> list[Link]:
    """A link for each stream of sound in the chain; what runs beside it (a skeleton, pictures) is left out.

    Raises CutOffError where a page is not whole.
    """
    streams: list[Stream] = []
    beginning, serial, sample = False, b"", 0
    for start, stop in _pages(source):
        head = source.read(start, 27)
        begins = bool(head[5] & BEGINS)
        if begins and not beginning:
            serial = b""
        beginning = begins
        if begins and not serial and source.read(start + 27 + head[26], 8).startswith(SOUND):
            serial, sample = head[14:18], 0
            streams.append(Stream())
        if head[14:18] == serial:
            streams[-1].sample = sample
            streams[-1].pages.append((start, stop))
            sample = max(sample, struct.unpack("<q", head[6:14])[0])
    return [_link(source, stream) for stream in streams]


def _pages(source: Source) -> Iterator[tuple[int, int]]:
    """Start and end of every page; what stands between pages is left out."""
    position, before = 0, 0
    while position < source.size:
        head = source.read(position, 27 + 255)
        if head[:4] == MAGIC:
            stop = position + 27 + sum(head[26 : 27 + head[26]]) if len(head) > 26 else source.size + 1
            if stop > source.size:
                raise CutOffError("its last page is not whole")
            yield position, stop
            before, position = position, stop
        else:
            if MAGIC.startswith(head[:4]) or (page := source.load(before, position - before)) != _summed(page):
                raise CutOffError("a page is not whole")
            position = next(source.find(NEXT, position), source.size)


def _link(source: Source, stream: Stream) -> Link:
    """The stream, with a last page that says that it is the last one, and at which sample it ends at most; FLAC without pages."""
    (first, _), (start, stop) = stream.pages[0], stream.pages[-1]
    if source.read(first + 28, 5) == FLAC:  # libsndfile reads what its own kind of Ogg FLAC alone has
        sizes = [27 + source.read(begin + 26, 1)[0] for begin, _ in stream.pages]
        parts = [(begin + size, end) for size, (begin, end) in zip(sizes, stream.pages, strict=True)]
        parts[0] = (parts[0][0] + 9, parts[0][1])
        return Link(tuple(parts), exact=False)
    page = bytearray(source.load(start, stop - start))
    known = page[6:14] != b"\xff" * 8
    if page[5] & ENDS and known:
        return Link(_joined(stream.pages), exact=False)
    page[5] |= ENDS
    if not known:
        packets = sum(lace < 255 for lace in page[27 : 27 + page[26]])
        page[6:14] = struct.pack("<q", stream.sample + PACKET * packets)
    return Link((*_joined(stream.pages[:-1]), _summed(page)), exact=False, sure=known)


def _joined(pages: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same bytes in as few ranges as there are gaps."""
    gaps = [i for i in range(1, len(pages)) if pages[i - 1][1] != pages[i][0]]
    return tuple((pages[i][0], pages[j - 1][1]) for i, j in pairwise([0, *gaps, len(pages)]) if i < j)


def _summed(page: bytes | bytearray) -> bytes:
    """The page with its checksum: CRC-32 with the polynomial of zlib's, but bits in their order, and from 0."""
    page = page[:22] + bytes(4) + page[26:]
    reverse = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return bytes(page[:22] + reverse.to_bytes(4, "big").translate(REVERSED) + page[26:])
