"""Reading WAV, FLAC, OGG and MP3 files, and noticing those that were cut."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..files import existing

STREAMED = 0x7FFFFFFF  # writers that do not know the length declare this much or more
BLOCK = 1 << 20  # samples read at a time
EDGE = 1 << 17  # bytes at either end of a file that tell whether it is whole; an Ogg page has at most 65307


def read_samples(path: Path, mono: bool) -> tuple[Tensor, int]:
    """All samples, float32 (1, channels, S), and the rate in Hz; `mono` averages the channels while reading.

    Raises InputError for damaged, cut and empty files.
    """
    import soundfile

    path = existing(path)
    with path.open("rb") as raw:
        head = raw.read(EDGE)
        raw.seek(max(0, path.stat().st_size - EDGE))
        tail = raw.read()
    if _is_cut(head, tail, path.stat().st_size):
        raise InputError(f"{path} is cut off: its end is missing; copy or export it again")
    try:
        with soundfile.SoundFile(path) as file:
            shape = (file.frames,) if mono else (file.frames, file.channels)
            samples, count = np.zeros(shape, np.float32), 0
            file.seekable = lambda: False  # soundfile would seek after each block, which corrupts MP3 of varying bit rate
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):  # an hour never stands twice in memory
                samples[count : count + len(block)] = block.mean(1) if mono else block
                count += len(block)
            rate = file.samplerate
            guessed = file.format == "MP3" and b"Xing" not in head and b"Info" not in head  # by the bit rate of its start
    except (soundfile.SoundFileError, ValueError, MemoryError) as error:
        raise InputError(f"cannot read {path} as audio ({error}); check the file or export it again") from error
    if count < len(samples) and not guessed:
        raise InputError(f"{path} is cut off: {count} of {len(samples)} samples are there; copy or export it again")
    if not count:
        raise InputError(f"{path} holds no samples; record or export it again")
    wave = torch.from_numpy(samples[:count])
    wave = wave[None, None] if mono else wave.T[None].contiguous()
    return wave, rate


def _is_cut(head: bytes, tail: bytes, size: int) -> bool:
    """Whether a WAV or Ogg file is shorter than it says; libsndfile would shorten it silently."""
    if head[:4] == b"RIFF":
        return size < int.from_bytes(head[4:8], "little") + 8 < STREAMED
    if head[:4] == b"OggS":
        page = tail[max(0, tail.rfind(b"OggS")) :]  # flags at 5, of which 4 marks the last page; at 26 the table of sizes
        return len(page) < 27 or not page[5] & 4 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
    return False
