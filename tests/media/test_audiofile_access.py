"""Where audio files may come from, and what their failures become."""

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import (
    RATE,
    SAMPLES,
    decoded,
    encoded,
    uncounted,
    wav,
)

from tokenizers_zoo import Audio, InputError
from tokenizers_zoo.media import as_audio


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
    for read in (Audio.load, lambda p: as_audio(p, 22_050)):
        with pytest.raises(InputError, match=rf"x\{suffix}.*again"):
            read(path)


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
