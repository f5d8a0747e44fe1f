"""The bytes of an audio file, wherever they are, and views of them that a decoder reads as a file of its own."""

import io
import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from ..errors import InputError
from ..files import existing
from .arrays import in_memory

Stretch: TypeAlias = "bytes | tuple[int, int]"  # bytes to put in, or a range of the source

WINDOW = 1 << 16  # bytes kept, so that a walk over headers does not ask the file for each


class CutOffError(ValueError):
    """The end of a file is missing; says how that shows."""


@dataclass(frozen=True)
class Link:
    """What a decoder takes as one file, of those that follow each other in a source.

    parts: of that file, in their order. exact: whether a seek reaches just the sample that was asked for. sure: whether the
    length is known before all is decoded. frames: the length in samples, where the decoder is wrong about it. pretended: bytes
    that the file says it has, if they are more.
    """

    parts: tuple[Stretch, ...]
    exact: bool = True
    sure: bool = True
    frames: int | None = None
    pretended: int = 0


class Source:
    """Random access to a path, to bytes or to a binary file object.

    A file object that can seek is read from its start, another one (a pipe, a socket) from where it is to its end; it stays
    open. Raises FileNotFoundError, and InputError for what gives no bytes.
    """

    def __init__(self, source: Any):
        self.opened: Any = None
        if isinstance(source, str | os.PathLike):
            self.name, self.file = str(source), _opened(existing(Path(source)))
            self.opened = self.file
        elif isinstance(source, bytes | bytearray | memoryview):
            self.name, self.file = f"the file of {memoryview(source).nbytes:,} bytes", in_memory(source)
        else:
            name = getattr(source, "name", None)
            self.name, self.file = str(name) if isinstance(name, str) else f"the {type(source).__name__}", source
        self._start, self._window = 0, b""
        try:
            if not (hasattr(self.file, "seekable") and self.file.seekable()):
                self.file = io.BytesIO(self._binary(self.file.read()))
            self._binary(self.file.read(0))
            self.size = self.file.seek(0, io.SEEK_END)
        except (OSError, ValueError) as error:  # the latter of a file that is closed
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot read {self.name} ({error}); open it again") from error

    def _binary(self, data: Any) -> bytes:
        if not isinstance(data, bytes):
            raise InputError(f"{self.name} gives {type(data).__name__} and not bytes; open it with mode 'rb'")
        return data

    def close(self) -> None:
        """Closes what was opened here."""
        if self.opened:
            self.opened.close()

    def read(self, start: int, count: int) -> bytes:
        """At most `count` bytes from `start` on; fewer at the end alone."""
        first = start - self._start
        if not 0 <= first <= first + count <= len(self._window):
            self._start, self._window, first = start, self.load(start, max(count, WINDOW)), 0
        return self._window[first : first + count]

    def load(self, start: int, count: int) -> bytes:
        """As `read`, past the window."""
        count = max(0, min(count, self.size - start))
        self.file.seek(min(start, self.size))  # a header may name any place
        pieces = []
        while count and (piece := self.file.read(count)):  # a raw file may give less than it was asked for
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def find(self, pattern: re.Pattern[bytes], start: int, stop: int | None = None) -> Iterator[int]:
        """Where `pattern`, of 8 bytes at most, stands from `start` on. It is read in pieces that grow: the next may be near."""
        stop, size = self.size if stop is None else stop, 1 << 12
        while start < stop:
            piece = self.load(start, min(size + 8, stop - start))
            yield from (start + match.start() for match in pattern.finditer(piece) if match.start() < size)
            start, size = start + size, min(2 * size, 1 << 20)

    def view(self, link: Link) -> BinaryIO:
        """A link as a file of its own."""
        return io.BufferedReader(_View(self, link), WINDOW)


class _View(io.RawIOBase):
    def __init__(self, source: Source, link: Link):
        self.source, self.parts, self.position = source, link.parts, 0
        sizes = [len(part) if isinstance(part, bytes) else part[1] - part[0] for part in link.parts]
        self.ends = list(accumulate(sizes, initial=0))
        self.size = max(self.ends[-1], link.pretended)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = max(0, offset + (0, self.position, self.size)[whence])
        return self.position

    def readinto(self, buffer: Any) -> int:
        if self.position >= self.ends[-1]:  # one that looks for a tag in its pretended last bytes finds zeros
            count = max(0, min(len(buffer), self.size - self.position)) if self.position > self.ends[-1] else 0
            buffer[:count] = bytes(count)
            self.position += count
            return count
        index = bisect_right(self.ends, self.position) - 1
        part, first = self.parts[index], self.position - self.ends[index]
        count = min(len(buffer), self.ends[index + 1] - self.position)
        data = part[first : first + count] if isinstance(part, bytes) else self.source.load(part[0] + first, count)
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"cannot open {path} ({error.strerror}); check its rights") from error
