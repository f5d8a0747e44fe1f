"""All that a file holds is read, whatever its kind and whatever length it declares."""

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from recordings import (
    APE,
    ID3V1,
    LIST,
    RATE,
    SAMPLES,
    aiff,
    checked,
    chunk,
    decoded,
    encoded,
    flac_of_unknown_length,
    id3,
    mp3,
    put,
    read,
    uncounted,
    vbri,
    wav,
    without_an_end,
    xing_count,
)

from tokenizers_zoo import InputError
from tokenizers_zoo.media import mpeg, ogg

SIZE = 2 * len(SAMPLES)


SIZES = [  # of RIFF and data, with who writes them
    (0xFFFFFFFF, 0xFFFFFFFF),  # ffmpeg
    (0x7FFFF024, 0x7FFFF000),  # espeak-ng --stdout, SoX
    (0x80000023, 0x7FFFFFFF),  # lame --decode
    (0x7FFFFFFF, 0x7FFFFFFF - 36),
    (0x7FFFFF24, 0x7FFFFF00),
    (0x80000024, 0x80000000),  # arecord
    (2_000_000_036, 2_000_000_000),  # wave with a billion frames
    (0xFFFFFFFF, 0),
    (0, 0xFFFFFFFF),
    (0, 0),
    (36, 0),  # a recorder that was stopped before it wrote them
    (36 + SIZE, 0),
    (0, SIZE),
    (44 + SIZE, SIZE),  # the size of the file, not of what follows
    (36 + SIZE, SIZE + 8),
    (36 + SIZE, SIZE + 44),
    (36 + SIZE - 8, SIZE),
]


@pytest.mark.parametrize(("outer", "inner"), SIZES)
def test_a_wav_is_what_it_holds_whatever_it_declares(outer: int, inner: int) -> None:
    np.testing.assert_array_equal(read(wav(outer, inner)), decoded(wav()))


@pytest.mark.parametrize("inner", [None, 0, 0xFFFFFFFF, 0x7FFFF000])
def test_tags_after_the_sound_are_not_sound(inner: int | None) -> None:
    np.testing.assert_array_equal(read(wav(inner=inner, tail=LIST)), decoded(wav()))


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("inner", [None, 0xFFFFFFFF])
def test_odd_chunks_with_and_without_their_pad_byte(pad: bool, inner: int | None) -> None:
    np.testing.assert_array_equal(read(wav(inner=inner, head=chunk(b"bext", b"seven b", pad))), decoded(wav()))
    odd = encoded("WAV", "PCM_U8")
    np.testing.assert_array_equal(read(odd if pad else odd[:-1]), decoded(odd))


@pytest.mark.parametrize("sizes", [None, bytes(24), b"\xff" * 24, b"\xff" * 7 + b"\x7f" + b"\xff" * 7 + b"\x7f" + bytes(8)])
@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
def test_wav_of_64_bit_sizes(magic: bytes, sizes: bytes | None) -> None:
    data = put(encoded("RF64"), 0, magic)
    at = data.index(b"ds64") + 8
    np.testing.assert_array_equal(read(data if sizes is None else put(data, at, sizes)), decoded(wav()))


@pytest.mark.parametrize("size", [None, bytes(8), b"\xff" * 8, b"\xff" * 7 + b"\x7f"])
def test_wave64(size: bytes | None) -> None:
    data = encoded("W64")
    at = data.index(b"data") + 16
    np.testing.assert_array_equal(read(data if size is None else put(data, at, size)), decoded(wav()))


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "ULAW", "GSM610", "PCM_24", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "W64"])
def test_codecs_in_wav(form: str, subtype: str) -> None:
    if (form, subtype) in {("WAVEX", "IMA_ADPCM"), ("WAVEX", "MS_ADPCM"), ("WAVEX", "GSM610")}:
        assert not soundfile.check_format(form, subtype)
        return
    data = encoded(form, subtype)
    np.testing.assert_array_equal(read(data)[:20_000], decoded(data)[:20_000])  # libsndfile makes up the end of a last GSM frame


@pytest.mark.parametrize(
    ("sound", "frames"), [(0, 0), (0x7F000008, 0x3F800000), (0xFFFFFFFF, 0xFFFFFFFF), (SIZE + 8, 0), (0, len(SAMPLES))]
)
def test_aiff_from_a_pipe(sound: int, frames: int) -> None:
    np.testing.assert_array_equal(read(aiff(sound, frames)), decoded(encoded("AIFF")))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0, 0x7FFFFFFF])
def test_au_from_a_pipe(size: int) -> None:
    for end, order in (("BIG", ">"), ("LITTLE", "<")):
        file = io.BytesIO()
        soundfile.write(file, SAMPLES, RATE, format="AU", endian=end)
        data = file.getvalue()
        np.testing.assert_array_equal(read(put(data, 8, struct.pack(f"{order}I", size))), decoded(data))


def test_caf_from_a_pipe() -> None:
    data = encoded("CAF")
    np.testing.assert_array_equal(read(put(data, data.index(b"data") + 4, b"\xff" * 8)), decoded(data))


def test_flac_of_unknown_length() -> None:
    data = flac_of_unknown_length()
    assert soundfile.info(io.BytesIO(data)).frames == (1 << 63) - 1
    np.testing.assert_array_equal(read(data), decoded(encoded("FLAC")))
    np.testing.assert_array_equal(read(data, start=7000, count=500), decoded(encoded("FLAC"))[7000:7500])


def test_flac_between_tags() -> None:
    np.testing.assert_array_equal(read(id3(b"title") + encoded("FLAC") + ID3V1), decoded(encoded("FLAC")))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_without_an_end(subtype: str) -> None:
    data = encoded("OGG", subtype)
    np.testing.assert_array_equal(read(without_an_end(data)), decoded(data))
    longer = read(without_an_end(data, sample=False))  # what the last packet holds beyond the end comes, too
    np.testing.assert_array_equal(longer[: len(SAMPLES)], decoded(data))
    assert len(longer) - len(SAMPLES) < 2048


def test_ogg_with_flac_inside() -> None:
    flac = encoded("FLAC")
    at, blocks = 4, []
    while not blocks or not blocks[-1][0] & 0x80:
        blocks.append(flac[at : at + 4 + int.from_bytes(flac[at + 1 : at + 4], "big")])
        at += len(blocks[-1])
    packets = [b"\x7fFLAC\1\0" + struct.pack(">H", len(blocks) - 1) + b"fLaC" + blocks[0], *blocks[1:]]
    packets += [flac[start : start + 10_000] for start in range(at, len(flac), 10_000)]
    data = b""
    for n, packet in enumerate(packets):
        lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
        flags = ogg.BEGINS * (n == 0) | ogg.ENDS * (n == len(packets) - 1)
        head = b"OggS\0" + bytes([flags]) + struct.pack("<qIII", 0, 7, n, 0) + bytes([len(lacing)]) + lacing
        data += checked(head + packet)
    np.testing.assert_array_equal(read(data), decoded(flac))


CHAINS: dict[str, Callable[[], list[bytes]]] = {
    "Vorbis": lambda: [encoded("OGG", "VORBIS"), encoded("OGG", "VORBIS", SAMPLES[:5000])],
    "Opus": lambda: [encoded("OGG", "OPUS"), encoded("OGG", "OPUS", SAMPLES[:5000])],
    "Vorbis, Opus": lambda: [encoded("OGG", "VORBIS"), encoded("OGG", "OPUS")],
    "no end between": lambda: [without_an_end(encoded("OGG", "OPUS")), encoded("OGG", "OPUS")],
    "three": lambda: [encoded("OGG", "VORBIS")] * 3,
    "FLAC": lambda: [encoded("FLAC"), flac_of_unknown_length(), encoded("FLAC")],
    "WAV": lambda: [wav(), wav(tail=LIST), wav()],
    "MP3": lambda: [mp3(), mp3()],
    "MP3 with tags": lambda: [id3(b"one") + mp3() + ID3V1, id3(b"two") + mp3() + APE + ID3V1],
}


@pytest.mark.parametrize("kind", CHAINS)
def test_files_that_follow_each_other_are_all_read(kind: str) -> None:
    parts = CHAINS[kind]()
    whole = np.concatenate([read(part) for part in parts])
    np.testing.assert_array_equal(read(b"".join(parts)), whole)
    np.testing.assert_array_equal(read(b"".join(parts), start=19_000, count=3000), whole[19_000:22_000])


@pytest.mark.parametrize("other", [encoded("OGG", "VORBIS", rate=8000), encoded("OGG", "VORBIS", np.stack([SAMPLES] * 2, 1))])
def test_a_chain_of_several_formats_is_refused(other: bytes) -> None:
    with pytest.raises(InputError, match=r"goes on with . channels at \d+ Hz after 1 at 16000 Hz; split it"):
        read(encoded("OGG", "VORBIS") + other)


def in_wav(data: bytes) -> bytes:
    body = b"WAVE" + chunk(b"fmt ", struct.pack("<HHIIHHH", 0x55, 1, 22_050, 8000, 1, 0, 0)) + chunk(b"data", data)
    return chunk(b"RIFF", body)


FIRST = mp3()[: mp3().index(mp3()[:2], 4)]
TAG = max(FIRST.find(b"Xing"), FIRST.find(b"Info"))
MP3: dict[str, Callable[[bytes], bytes]] = {
    "no count": lambda data: uncounted(data),
    "Fraunhofer's count": lambda data: vbri(data),
    "tags before": lambda data: id3(b"Info desk, Xing street") + uncounted(data),
    "two tags before": lambda data: id3(b"x") + id3(b"y" * 300) + uncounted(data),
    "tags after": lambda data: uncounted(data) + APE + ID3V1,
    "zeros after": lambda data: uncounted(data) + bytes(5000),
    "inside a WAV": lambda data: in_wav(uncounted(data)),
    "a tag without a count": lambda data: put(FIRST, TAG + 4, bytes(8)) + uncounted(data),
}


@pytest.mark.parametrize("kind", MP3)
def test_mp3_is_read_to_its_last_frame(kind: str) -> None:
    frames = xing_count(mp3())
    assert soundfile.info(io.BytesIO(uncounted(mp3()))).frames < 0.7 * frames * 576  # by the bit rate of its start
    samples = read(MP3[kind](mp3()))
    assert len(samples) == frames * 576
    np.testing.assert_allclose(samples[1105:][: 2 * 22_050], decoded(mp3()), atol=1e-6)


def test_mp3_whose_count_is_too_small_is_read_to_its_last_frame() -> None:
    data = put(mp3(), TAG + 8, struct.pack(">I", 20))
    assert len(read(data)) == xing_count(mp3()) * 576


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("version", [0, 2, 3])
def test_headers_of_mpeg(version: int, layer: int) -> None:
    """Sizes by the formulas of ISO 11172-3 and 13818-3, for 128 kbit/s of stereo with padding."""
    rate = {3: 48_000, 2: 24_000, 0: 12_000}[version]
    speed = mpeg.KBITS[version == 3, layer].index(128) + 1
    bits = 0x7FF << 21 | version << 19 | (4 - layer) << 17 | 1 << 16 | speed << 12 | 1 << 10 | 1 << 9
    samples = {1: 384, 2: 1152, 3: 1152 if version == 3 else 576}[layer]
    slot = 4 if layer == 1 else 1
    found = mpeg.header(bits.to_bytes(4, "big"))
    assert found is not None
    assert (found.samples, found.size) == (samples, (samples // 8 // slot * 128_000 // rate + 1) * slot)
    assert mpeg.header((bits & ~0xF000).to_bytes(4, "big")) is None
