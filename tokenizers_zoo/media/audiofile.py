"""Reading audio files of every kind that libsndfile decodes: all that is there, and nothing of a file that was cut off.

A file is a chain of links, mostly of one. `chunks`, `headers`, `ogg` and `mpeg` find them by what a file holds, not by its name
or the sizes that it declares.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO, TypeAlias, Union

import numpy as np

from ..errors import InputError
from . import chunks, headers, mpeg, ogg
from .bytesource import CutOffError, Link, Source
from .resampling import HIGHEST, LOWEST

AudioFileSource: TypeAlias = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO]
Samples: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"

BLOCK = 1 << 20  # values decoded at a time
UNKNOWN = 1 << 62  # from here on, libsndfile's number of samples stands for an unknown one
READERS: dict[bytes, Callable[[Source], list[Link]]] = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"riff"), chunks.links),
    b"OggS": ogg.links,
    b"fLaC": headers.flac,
    b".snd": headers.au,
    b"dns.": headers.au,
    b"caff": headers.caf,
    b"NIST": headers.nist,
    b"Crea": headers.voc,
}


class AudioFile:
    """An open audio file: its `name`, `rate` in Hz, `channels`, `frames` (samples a channel), and `read`. Close it.

    source: path, bytes, or a binary file object (see Source). Whatever is asked of it raises InputError, which names the file,
    where it is damaged, cut off, or changes its rate or channels midway.
    """

    def __init__(self, source: AudioFileSource):
        self.source = Source(source)
        self.name = self.source.name
        try:
            with self._named():
                self.links = _links(self.source)
                with _decoder(self.source, self.links[0]) as file:
                    self.rate, self.channels = int(file.samplerate), int(file.channels)
            if not LOWEST <= self.rate <= HIGHEST:
                raise InputError(f"{self.name} says that it has {self.rate} Hz; rates are from {LOWEST:,} to {HIGHEST:,}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "AudioFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file, if it was given as a path."""
        self.source.close()

    @cached_property
    def frames(self) -> int:
        """Samples a channel; counted by decoding where nothing tells."""
        return sum(self._frames(link) for link in self.links)

    def read(self, mono: bool = True, start: int = 0, count: int | None = None) -> Samples:
        """(samples,) where `mono` averages the channels, else (samples, channels): `count` from `start` on, or all up to the end.

        Where a seek would not reach just that sample, all before it is decoded, too.
        """
        samples: Samples = np.empty((0,) if mono else (0, self.channels), np.float32)
        with self._named(), np.errstate(invalid="ignore", over="ignore"):  # who asks looks for NaN
            for block in self._blocks(start):
                block = (block.mean(1) if mono else block)[: None if count is None else count - len(samples)]
                done = len(samples)
                samples.resize((done + len(block), *samples.shape[1:]), refcheck=False)  # an hour never stands twice in memory
                samples[done:] = block
                if len(samples) == count:
                    break
        return samples

    def _blocks(self, start: int) -> Iterator[Samples]:
        """Blocks (samples, channels) from `start` on."""
        for link in self.links:
            with _decoder(self.source, link) as file:
                if (file.samplerate, file.channels) != (self.rate, self.channels):
                    raise InputError(
                        f"{self.name} goes on with {file.channels} channels at {file.samplerate} Hz after {self.channels} "
                        f"at {self.rate} Hz; split it, or convert its parts to one format"
                    )
                at = min(start, file.frames) if link.exact and file.seekable() and len(self.links) == 1 else 0
                if at:
                    file.seek(at)
                file.seekable = lambda: False  # soundfile would seek after each block, which corrupts MP3 of varying bit rate
                total, start = link.frames or file.frames, start - at
                end = total if link.exact and link.sure else UNKNOWN  # behind FLAC's last sample may be anything
                while len(block := file.read(min(BLOCK // self.channels, end - at), dtype="float32", always_2d=True)):
                    at += len(block)
                    skipped = min(start, len(block))
                    start -= skipped
                    if skipped < len(block):
                        yield block[skipped:]
                if link.sure and at < total < UNKNOWN:
                    raise CutOffError(f"{at:,} of {total:,} samples are there")

    def _frames(self, link: Link) -> int:
        with self._named(), _decoder(self.source, link) as file:
            frames = int(link.frames or file.frames)
            if link.sure and frames < UNKNOWN:
                return frames
            file.seekable = lambda: False
            return sum(iter(lambda: len(file.read(BLOCK // self.channels, dtype="float32", always_2d=True)), 0))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of one file name it, whoever raises them, so that they are that file's alone."""
        try:
            yield
        except CutOffError as error:
            raise InputError(f"{self.name} is cut off: {error}; copy or export it again") from error
        except (RuntimeError, ValueError, OverflowError, OSError, MemoryError) as error:
            if isinstance(error, InputError):
                raise
            reason = getattr(error, "error_string", error) or type(error).__name__
            raise InputError(f"cannot read {self.name} as audio ({reason}); check the file or export it again") from error


def _links(source: Source) -> list[Link]:
    start = mpeg.past_tags(source, 0, source.size)
    reader = READERS.get(source.read(start, 4))
    whole = Link(((0, source.size),))
    if reader and (start == 0 or reader is headers.flac):
        return reader(source) or [whole]
    if not mpeg.begins(source) and _is_of_a_rare_kind(source, whole):
        return [whole]
    return mpeg.links(source) or [whole]


def _is_of_a_rare_kind(source: Source, whole: Link) -> bool:
    """Whether libsndfile knows it; frames of MP3 may be behind junk."""
    import soundfile

    try:
        with _decoder(source, whole) as file:
            return bool(file.format != "MP3")
    except soundfile.SoundFileError:
        return False


def _decoder(source: Source, link: Link) -> Any:
    import soundfile

    return soundfile.SoundFile(source.view(link))
