"""Audio files as programs write them that soundfile cannot stand for, by surgery on the bytes of those that it writes."""

import io
import struct

import numpy as np
import soundfile

from tokenizers_zoo.media import AudioFile, ogg

RATE = 16_000
SAMPLES = np.random.default_rng(0).normal(0, 0.1, 20_001).astype(np.float32)


def encoded(form: str, subtype: str | None = None, samples: np.ndarray = SAMPLES, rate: int = RATE) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """What libsndfile makes of a file that it reads whole."""
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def wav(outer: int | None = None, inner: int | None = None, tail: bytes = b"", head: bytes = b"") -> bytes:
    """A WAV with these sizes of RIFF and data (default: the true ones), `head` before its data chunk and `tail` after it."""
    data = encoded("WAV")
    at = data.index(b"data")
    data = data[:at] + head + data[at:] + tail
    data = put(data, 4, struct.pack("<I", len(data) - 8 if outer is None else outer))
    return data if inner is None else put(data, at + len(head) + 4, struct.pack("<I", inner))


def chunk(name: bytes, body: bytes, pad: bool = True) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2 and pad)


LIST = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0")


def aiff(sound: int, frames: int) -> bytes:
    """An AIFF that declares this size of its sound, and this number of frames."""
    data = encoded("AIFF")
    data = put(data, data.index(b"SSND") + 4, struct.pack(">I", sound))
    return put(data, data.index(b"COMM") + 10, struct.pack(">I", frames))


def flac_of_unknown_length() -> bytes:
    """A FLAC from a pipe: no number of samples in its head, no checksum of them."""
    data = encoded("FLAC")
    return put(data, 21, bytes([data[21] & 0xF0]) + bytes(4 + 16))


def pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    found = []
    while data:
        size = 27 + sum(data[26 : 27 + data[26]])
        found.append(data[:size])
        data = data[size:]
    return found


def without_an_end(data: bytes, sample: bool = True) -> bytes:
    """An Ogg file whose last page does not say that it is the last one, nor, without `sample`, where it ends."""
    *rest, last = pages(data)
    last = put(last, 5, bytes([last[5] & ~ogg.ENDS]))
    if not sample:
        last = put(last, 6, b"\xff" * 8)
    return b"".join(rest) + checked(last)


def checked(page: bytes) -> bytes:
    """An Ogg page with its checksum, bit by bit as RFC 3533 has it."""
    page, register = put(page, 22, bytes(4)), 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register & 1 << 31 else 0)) & 0xFFFFFFFF
    return put(page, 22, struct.pack("<I", register))


def mp3(rate: int = 22_050) -> bytes:
    """A second of loud noise, then one of a quiet tone: the bit rate falls. Its first frame counts the others."""
    noise = np.random.default_rng(0).normal(0, 0.3, rate).astype(np.float32)
    tone = 0.001 * np.sin(np.arange(rate) / 20).astype(np.float32)
    return encoded("MP3", None, np.concatenate([noise, tone]), rate)


def uncounted(data: bytes) -> bytes:
    """An MP3 without the first frame, in which the number of the others is."""
    return data[data.index(data[:2], 4) :]


def vbri(data: bytes, frames: int | None = None) -> bytes:
    """An MP3 whose first frame counts the others as Fraunhofer's encoders do."""
    first, rest = data[: data.index(data[:2], 4)], uncounted(data)
    tag = b"VBRI" + struct.pack(">HHHII", 1, 0, 75, len(data), xing_count(data) if frames is None else frames)
    return (first[:4] + bytes(32) + tag).ljust(len(first), b"\0") + rest


def xing_count(data: bytes) -> int:
    at = max(data.find(b"Xing"), data.find(b"Info"))
    return int(struct.unpack(">I", data[at + 8 : at + 12])[0])


def id3(title: bytes) -> bytes:
    frame = b"TIT2" + struct.pack(">IH", len(title) + 1, 0) + b"\3" + title
    size = len(frame)
    return b"ID3\4\0\0" + bytes((size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127)) + frame


ID3V1 = b"TAG" + b"Info Xing".ljust(125, b" ")
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32 + 20, 1, 1 << 31 | 1 << 29) + bytes(20)
APE += b"APETAGEX" + struct.pack("<IIII8x", 2000, 32 + 20, 1, 1 << 31)


def read(data: bytes, **options: int) -> np.ndarray:
    """Samples of a mono file; what it says of its length must be so."""
    with AudioFile(data) as file:
        samples = file.read(**options)
        assert options or file.frames == len(samples)
    return samples
