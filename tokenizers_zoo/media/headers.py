"""Audio files with one header before the sound: AU, CAF, FLAC, NIST SPHERE, VOC. See `chunks` for the sizes that they declare."""

import re

from .bytesource import CutOffError, Link, Source
from .chunks import extent

FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # the mark, and the head of the STREAMINFO
SOUND, MORE, SILENCE, REPEAT, WIDE = 1, 2, 3, 6, 9  # blocks of VOC


def au(source: Source) -> list[Link]:
    """Sun and NeXT: offset, size, of which the largest stands for unknown."""
    head = source.read(0, 24)
    order = "big" if head[:4] == b".snd" else "little"
    start, size = int.from_bytes(head[4:8], order), int.from_bytes(head[8:12], order)  # type: ignore[arg-type]
    stop = extent(source, start, size, False, lambda at: at == source.size)
    length = min(stop - start, 0xFFFFFFFF).to_bytes(4, order)  # type: ignore[arg-type]
    return [Link((head[:8] + length, (12, stop)))]


def caf(source: Source) -> list[Link]:
    """Apple's: chunks with 64-bit sizes, of which -1 stands for unknown in the chunk of the sound.

    libsndfile, and SoX with it, writes its header to a pipe three times: twice before the sound and once behind it.
    """
    first, position = 0, 8
    while len(head := source.read(position, 12)) == 12:
        size = int.from_bytes(head[4:], "big", signed=True)
        if head[:4] == b"data":  # its first four bytes count edits
            start = position + 16
            if size == 4 and source.read(start, 4) == b"caff":
                first, position = start, start + 8
                continue
            stop = extent(source, start, size - 4, False, lambda at: at == source.size or source.read(at, 4).isalnum())
            behind = source.size - (start - first)
            if first and source.read(behind, 4) == b"caff":
                stop = behind
            elif stop == start + size - 4:
                return [Link(((first, source.size),))]
            return [Link(((first, position + 4), (stop - start + 4).to_bytes(8, "big"), (position + 12, stop)))]
        if size < 0:
            break
        position += 12 + size
    raise CutOffError("it has no data chunk")


def flac(source: Source) -> list[Link]:
    """One file or several, of which each may leave its number of samples open; tags before and after are left out."""
    stop = source.size
    if source.read(stop - 128, 3) == b"TAG":
        stop -= 128
    starts = list(source.find(FLAC, 0, stop))
    found = []
    for start, end in zip(starts, [*starts[1:], stop], strict=True):
        known = int.from_bytes(source.read(start + 21, 5), "big") & 0xFFFFFFFFF > 0
        found.append(Link(((start, end),), exact=known, sure=known))
    return found


def nist(source: Source) -> list[Link]:
    """SPHERE, of TIMIT and its like: lines of names and values."""
    head = source.read(0, 1024)
    values = {name: int(value) for name, value in re.findall(rb"(\w+) -i (\d+)", head)}
    words = re.match(rb"NIST_1A\s+(\d+)", head)
    size = values.get(b"sample_count", 0) * values.get(b"channel_count", 1) * values.get(b"sample_n_bytes", 0)
    stop = source.size
    if words and b"shorten" not in head:
        stop = extent(source, int(words[1]), size, False, lambda at: True)
    return [Link(((0, stop),))]


def voc(source: Source) -> list[Link]:
    """Creative's: blocks with sizes of 24 bits, and a last one of none. libsndfile would take the heads of blocks that go on
    with the sound for sound.
    """
    position, first = int.from_bytes(source.read(20, 2), "little"), 0
    parts: list[tuple[int, int]] = []
    while len(head := source.read(position, 4)) == 4 and head[0]:
        stop = position + 4 + int.from_bytes(head[1:], "little")
        if head[0] == WIDE and source.size - stop == 9:
            stop += 8  # SoX counts eight bytes too few
        if head[0] in (SOUND, WIDE, SILENCE, REPEAT) and parts:
            raise ValueError("its sound is in several blocks of their own formats, or with silence between; convert it to WAV")
        if head[0] in (SOUND, WIDE):
            first, parts = position, [(position + 4, stop)]
        elif head[0] == MORE and parts:
            parts.append((position + 4, stop))
        position = stop
    if position > source.size:
        raise CutOffError(f"{source.size:,} of {position:,} bytes are there")
    if len(parts) < 2:
        return [Link(((0, source.size),))]
    size = min(sum(stop - start for start, stop in parts), 0xFFFFFF)
    return [Link(((0, first + 1), size.to_bytes(3, "little"), *parts, b"\0"))]
