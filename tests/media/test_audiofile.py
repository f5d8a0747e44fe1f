"""Reading audio files: from paths, bytes and pipes, whole or in part, and nothing of one that was cut off."""

import io
import os
import struct
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import (
    LIST,
    RATE,
    SAMPLES,
    decoded,
    encoded,
    flac_of_unknown_length,
    mp3,
    pages,
    read,
    uncounted,
    vbri,
    wav,
    xing_count,
)

from tokenizers_zoo import Audio, InputError
from tokenizers_zoo.media import SUFFIXES, AudioFile, as_audio, audiofile

CUT: dict[str, Callable[[], bytes]] = {
    "WAV": lambda: wav()[:-2],
    "WAV by eight bytes": lambda: wav()[:-8],
    "WAV with a size of RIFF from a pipe": lambda: wav(0xFFFFFFFF)[:-1000],
    "WAV before its sound": lambda: wav()[:40],
    "RF64": lambda: encoded("RF64")[:-100],
    "W64": lambda: encoded("W64")[:-100],
    "AIFF": lambda: encoded("AIFF")[:-100],
    "8SVX": lambda: encoded("SVX")[:-100],
    "AU": lambda: encoded("AU")[:-100],
    "CAF": lambda: encoded("CAF")[:-100],
    "SPHERE": lambda: encoded("NIST")[:-100],
    "VOC": lambda: encoded("VOC")[:-100],
    "FLAC": lambda: encoded("FLAC")[:-1000],
    "FLAC of unknown length": lambda: flac_of_unknown_length()[:-1000],
    "Vorbis": lambda: encoded("OGG", "VORBIS")[:-1],
    "Vorbis after a page": lambda: encoded("OGG", "VORBIS") + encoded("OGG", "VORBIS")[:10],
    "Vorbis without a page": lambda: b"".join(
        pages(encoded("OGG", "VORBIS", np.tile(SAMPLES, 5)))[i] for i in (0, 1, 2, 4, 5, 6)
    ),
    "Opus in the middle of a chain": lambda: encoded("OGG", "OPUS")[:-100] + encoded("OGG", "OPUS"),
    "MP3": lambda: mp3()[:-1],
    "MP3 after a frame": lambda: mp3()[: mp3().rindex(mp3()[:2])],
    "MP3 without a count": lambda: uncounted(mp3())[:-1],
    "MP3 with Fraunhofer's count": lambda: vbri(mp3(), xing_count(mp3()) + 5).replace(struct.pack(">I", len(mp3())), b"\0\1\0\0"),
}


@pytest.mark.parametrize("kind", CUT)
def test_what_was_cut_off_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "cut.x").write_bytes(CUT[kind]())
    for entrance in (Audio.load, lambda path: as_audio(path, RATE)):
        with pytest.raises(InputError, match=r"cut\.x.*again"):
            entrance(tmp_path / "cut.x")


def test_empty_is_not_unknown() -> None:
    for data in (
        encoded("WAV", samples=SAMPLES[:0]),
        encoded("WAV", samples=SAMPLES[:0]) + LIST,
        encoded("AIFF", samples=SAMPLES[:0]),
    ):
        with pytest.raises(InputError, match="holds no samples; record or export it again"):
            as_audio(data, RATE)


SUFFIX_FORMATS = {
    **{".wave": "WAV", ".bw64": "RF64", ".oga": "OGG", ".mp2": "MP3", ".aif": "AIFF", ".aifc": "AIFF", ".snd": "AU"},
    **{".sph": "NIST", ".8svx": "SVX", ".sf": "IRCAM"},
}


@pytest.mark.parametrize("suffix", SUFFIXES["audio"])
def test_every_type_of_file_that_is_searched_for_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    form = "OGG" if suffix == ".opus" else SUFFIX_FORMATS.get(suffix, suffix[1:].upper())
    path.write_bytes(encoded(form, "OPUS" if suffix == ".opus" else None))
    samples = as_audio(path, RATE).waveform[0, 0].numpy()
    assert abs(len(samples) - len(SAMPLES)) < 1200
    np.testing.assert_allclose(samples, decoded(path.read_bytes()), rtol=0, atol=1e-6)


def test_a_name_says_nothing(tmp_path: Path) -> None:
    for name in ("x.raw", "x.mp3", "x"):
        (tmp_path / name).write_bytes(wav())
        np.testing.assert_array_equal(as_audio(tmp_path / name, RATE).waveform[0, 0], decoded(wav()))


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_parts_are_those_of_the_whole(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(form)
    whole = read(data)
    monkeypatch.setattr(audiofile, "BLOCK", 1000)
    np.testing.assert_allclose(read(data), whole, rtol=0, atol=1e-6)
    for start, count in ((1, 10), (7777, 3000), (len(whole) - 5, 100)):
        np.testing.assert_allclose(read(data, start=start, count=count), whole[start : start + count], rtol=0, atol=1e-6)
    assert not len(read(data, start=len(whole) + 10, count=5))


def test_a_header_sets_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand channels are decoded in blocks of as many values as one."""
    asked: list[int] = []
    original = soundfile.SoundFile.read

    def spy(file: soundfile.SoundFile, frames: int, **options: object) -> np.ndarray:
        asked.append(frames * file.channels)
        return original(file, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", spy)
    wide = np.zeros((10, 1000), np.float32)
    assert AudioFile(encoded("WAV", samples=wide)).read(mono=False).shape == (10, 1000)
    assert max(asked) <= audiofile.BLOCK


def test_a_long_file_hardly_stands_twice_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audiofile, "BLOCK", 10_000)
    data = encoded("FLAC", samples=np.tile(SAMPLES, 50))
    read(data)
    tracemalloc.start()
    samples = read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * samples.nbytes


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("broken"), OSError("no device"), ValueError("too big")])
def test_any_failure_of_a_file_is_its_own_error(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.wav").write_bytes(wav())

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(soundfile.SoundFile, "read", fail)
    with pytest.raises(InputError, match=rf"x\.wav.*{error or 'MemoryError'}"):
        Audio.load(tmp_path / "x.wav")


def test_files_are_closed(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(wav())
    (tmp_path / "y.wav").write_bytes(wav()[:1000])
    before = len(os.listdir("/proc/self/fd"))
    Audio.load(tmp_path / "x.wav")
    with pytest.raises(InputError):
        Audio.load(tmp_path / "y.wav")
    assert len(os.listdir("/proc/self/fd")) == before
    with (tmp_path / "x.wav").open("rb") as file:
        Audio.load(file)
        assert not file.closed


def test_pipes(tmp_path: Path) -> None:
    """Standard input, and what shells make of <(...)."""
    for source in ("file", "path"):
        os.mkfifo(tmp_path / source)
        writer = threading.Thread(target=(tmp_path / source).write_bytes, args=(wav(0xFFFFFFFF, 0xFFFFFFFF),))
        writer.start()
        if source == "path":
            loaded = Audio.load(tmp_path / source)
        else:
            with (tmp_path / source).open("rb") as pipe:
                loaded = Audio.load(pipe)
        writer.join()
        np.testing.assert_array_equal(loaded.waveform[0, 0], decoded(wav()))


class Raw(io.RawIOBase):
    """A raw file that gives at most 100 bytes at a time."""

    def __init__(self, data: bytes):
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.data.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:
        return self.data.readinto(memoryview(buffer)[:100])


def test_bytes_and_file_objects_are_files(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(wav())
    at_its_end = io.BytesIO()
    at_its_end.write(wav())
    for source in (wav(), bytearray(wav()), memoryview(wav()), io.BytesIO(wav()), at_its_end, Raw(wav())):
        np.testing.assert_array_equal(as_audio(source, RATE).waveform[0, 0], decoded(wav()))
    with (tmp_path / "x.wav").open("rb") as file:
        np.testing.assert_array_equal(as_audio(file, RATE).waveform[0, 0], decoded(wav()))
    with (tmp_path / "x.wav").open(encoding="latin-1") as text, pytest.raises(InputError, match=r"x\.wav gives str.*'rb'"):
        as_audio(text, RATE)
    with pytest.raises(InputError, match=r"4 bytes as audio.*export it again"):
        as_audio(b"RIFF", RATE)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_truncated_files_are_refused_wherever_they_end(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"x{suffix}"
    noise = np.random.default_rng(0).normal(0, 0.1, (30_000, 2)).astype(np.float32)
    soundfile.write(path, noise, 22_050)
    assert Audio.load(path).waveform.shape == (1, 2, 30_000)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    for entrance in (Audio.load, lambda p: as_audio(p, 22_050)):
        with pytest.raises(InputError, match=rf"x\{suffix}.*again"):
            entrance(path)


def test_mp3_without_a_length_ends_where_its_sound_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    path.write_bytes(uncounted(encoded("MP3", None, np.concatenate([np.zeros_like(SAMPLES), SAMPLES]))))
    expected, _ = soundfile.read(path, dtype="float32")
    assert soundfile.info(path).frames > len(expected)  # the length is guessed, and too long
    np.testing.assert_array_equal(Audio.load(path).waveform[0, 0], expected)


@pytest.mark.parametrize("rate", [1, 999, 1_000_000_000])
def test_a_rate_that_no_sound_has_names_the_file(rate: int, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(encoded("WAV", rate=rate))
    with pytest.raises(InputError, match=rf"x\.wav says that it has {rate} Hz; rates are from 1,000 to 768,000"):
        as_audio(tmp_path / "x.wav", RATE)
