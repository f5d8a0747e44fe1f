"""Audio files as single programs write them, in ways that libsndfile takes for something else."""

import struct

import numpy as np
import pytest
from recordings import RATE, SAMPLES, checked, chunk, decoded, encoded, pages, put, wav

from tokenizers_zoo import InputError
from tokenizers_zoo.media import AudioFile


def read(data: bytes) -> np.ndarray:
    with AudioFile(data) as file:
        samples = file.read()
        assert file.frames == len(samples)
    return samples


def voc(*blocks: tuple[int, bytes]) -> bytes:
    body = b"".join(bytes([kind]) + len(data).to_bytes(3, "little") + data for kind, data in blocks)
    return b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x0114, 0x111F) + body + b"\0"


SOUND = decoded(wav())
WIDE = struct.pack("<IBBH4x", RATE, 16, 1, 4)
PCM = (SOUND * 32768).astype("<i2").tobytes()
BYTES = (SOUND * 128 + 128).round().clip(0, 255).astype(np.uint8)


def test_blocks_of_voc_that_go_on_are_sound_and_their_heads_are_not() -> None:
    """As ffmpeg writes them."""
    np.testing.assert_array_equal(read(voc((9, WIDE + PCM[:4000]), (2, PCM[4000:8000]), (2, PCM[8000:]))), SOUND)
    narrow = read(voc((1, bytes([256 - 1_000_000 // RATE, 0]) + BYTES[:4001].tobytes()), (2, BYTES[4001:].tobytes())))
    np.testing.assert_allclose(narrow, BYTES / 128 - 1, atol=1e-6)


def test_voc_whose_block_is_eight_bytes_longer_than_it_says() -> None:
    """As SoX writes it."""
    data = voc((9, WIDE + PCM))
    np.testing.assert_array_equal(read(put(data, 27, (len(WIDE + PCM) - 8).to_bytes(3, "little"))), SOUND)


def test_voc_that_would_be_read_as_something_else_is_refused() -> None:
    with pytest.raises(InputError, match=r"several blocks.*convert it to WAV"):
        read(voc((9, WIDE + PCM), (3, b"\x10\0\0"), (9, WIDE + PCM)))
    for cut in (2, 100, 5000):
        with pytest.raises(InputError, match="cut off"):
            read(voc((9, WIDE + PCM[:4000]), (2, PCM[4000:]))[:-cut])


@pytest.mark.parametrize("behind", [True, False])
def test_caf_with_its_header_three_times(behind: bool) -> None:
    """As libsndfile, and SoX with it, writes it to a pipe."""
    data = encoded("CAF")
    start = data.index(b"data") + 16
    empty = put(data[:start], start - 12, struct.pack(">q", 4))
    piped = empty + empty + data[start:] + data[:start] * behind
    np.testing.assert_array_equal(read(piped), decoded(data))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_what_runs_beside_the_sound_of_an_ogg_is_left_out(subtype: str) -> None:
    """A skeleton, as oggenc -k writes it."""
    data = encoded("OGG", subtype)
    first, *rest = pages(data)

    def page(flags: int, body: bytes) -> bytes:
        return checked(b"OggS\0" + bytes([flags]) + struct.pack("<qIIIBB", 0, 99, 0, 0, 1, len(body)) + body)

    head, end = page(2, b"fishead\0".ljust(64, b"\0")), page(4, b"")
    for begin in (head + first, first + head):
        mixed = begin + rest[0] + end + b"".join(rest[1:])
        np.testing.assert_array_equal(read(mixed), decoded(data))
        np.testing.assert_array_equal(read(mixed + mixed), np.tile(decoded(data), 2))


def test_mp2_in_a_wav() -> None:
    frames = bytes.fromhex("fffd48c4").ljust(288, b"\0") * 20  # 96 kbit/s at 48 kHz, mono, silent
    body = b"WAVE" + chunk(b"fmt ", struct.pack("<HHIIHHH", 0x50, 1, 48_000, 12_000, 288, 0, 0)) + chunk(b"data", frames)
    assert len(read(chunk(b"RIFF", body))) == 20 * 1152


def test_8svx_in_stereo_is_refused() -> None:
    """Its channels follow each other, and libsndfile takes their samples in turns."""
    data = encoded("SVX", samples=SAMPLES)
    at = data.index(b"BODY")
    with pytest.raises(InputError, match="stereo is not understood; convert it to WAV"):
        read(data[:at] + b"CHAN" + struct.pack(">II", 4, 6) + data[at:])


@pytest.mark.parametrize("form", ["WAV", "AIFF", "FLAC", "NIST", "OGG", "MP3"])
@pytest.mark.parametrize("junk", [bytes(1000), b"\n", b"what somebody wrote behind it" * 30])
def test_what_stands_behind_the_sound_is_left_out(form: str, junk: bytes) -> None:
    np.testing.assert_allclose(read(encoded(form) + junk), decoded(encoded(form)), rtol=0, atol=1e-7)


@pytest.mark.parametrize("form", ["WAV", "AIFF"])
def test_the_last_byte_counts(form: str) -> None:
    with pytest.raises(InputError, match="cut off"):
        read(encoded(form)[:-1])
