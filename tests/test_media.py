"""Reading, writing and converting audio and images."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from tokenizers_zoo import Audio, InputError
from tokenizers_zoo.media import as_audio, audio, audiofile


def tone(samples: int = 8000, channels: int = 1, rate: int = 16_000) -> np.ndarray:
    t = np.arange(samples) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * (220 + 110 * c) * t) for c in range(channels)]).astype(np.float32)


@pytest.mark.parametrize(("suffix", "error"), [(".wav", 1.6e-5), (".flac", 1.6e-5), (".ogg", 0.05), (".mp3", 0.05)])
def test_audio_formats_round_trip(tmp_path: Path, suffix: str, error: float) -> None:
    wave = torch.from_numpy(tone())[None]
    Audio(wave, 16_000).save(tmp_path / f"x{suffix}")
    loaded = Audio.load(tmp_path / f"x{suffix}")
    assert loaded.sample_rate == 16_000
    assert abs(loaded.waveform.shape[-1] - 8000) <= (0 if suffix != ".mp3" else 2304)
    if suffix != ".mp3":  # MP3 adds a delay
        assert (loaded.waveform - wave).abs().max() <= error


def test_saving_clips_and_says_what_it_cannot_do(tmp_path: Path) -> None:
    Audio(torch.full((1, 1, 10), 2.0), 8000).save(tmp_path / "x.wav")
    assert Audio.load(tmp_path / "x.wav").waveform.max() <= 1
    with pytest.raises(InputError, match="use one of"):
        Audio(torch.zeros(1, 1, 10), 8000).save(tmp_path / "x.aiff")
    with pytest.raises(InputError, match=r"audio\[0\]"):
        Audio(torch.zeros(2, 1, 10), 8000).save(tmp_path / "y.wav")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.wav"]


def test_a_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.wav").write_bytes(b"old")

    def fail(path: Path, *args: object, **kwargs: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        Audio(torch.zeros(1, 1, 10), 8000).save(tmp_path / "x.wav")
    assert [p.name for p in tmp_path.iterdir()] == ["x.wav"]
    assert (tmp_path / "x.wav").read_bytes() == b"old"


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = tone(channels=2)
    soundfile.write(tmp_path / "x.wav", stereo.T, 16_000, subtype="FLOAT")
    expected = torch.from_numpy(stereo.mean(0))
    for source in (tmp_path / "x.wav", stereo, torch.from_numpy(stereo)[None]):
        torch.testing.assert_close(as_audio(source, 16_000).waveform[0, 0], expected)
    six = np.repeat(tone(), 6, axis=0)
    soundfile.write(tmp_path / "six.wav", six.T, 16_000, subtype="FLOAT")
    torch.testing.assert_close(as_audio(tmp_path / "six.wav", 16_000).waveform[0, 0], torch.from_numpy(six[0]))
    assert Audio.load(tmp_path / "six.wav").waveform.shape == (1, 6, 8000)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_in_pieces_is_resampling_at_once(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = torch.randn(1, 1, 2 * rate + 17) * 0.1
    whole = torchaudio.functional.resample(wave, rate, 16_000)
    monkeypatch.setattr(audio, "PIECE", 0.3)
    pieces = Audio(wave, rate).resample(16_000)
    assert pieces.waveform.shape[-1] == math.ceil(wave.shape[-1] * 16_000 / rate)
    torch.testing.assert_close(pieces.waveform, whole, rtol=0, atol=1e-6)


def test_resampling_a_batch_is_resampling_each() -> None:
    clips = [torch.randn(n) for n in (4410, 1, 2000)]
    batch = as_audio(clips, 16_000, source_rate=44_100)
    assert batch.lengths.tolist() == [1600, 1, 726]
    for clip, item in zip(clips, batch, strict=True):
        assert torch.equal(as_audio(clip, 16_000, 44_100).waveform, item.waveform)


def test_no_torchaudio_is_needed_at_the_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    assert as_audio(tone(), 16_000).sample_rate == 16_000
    with pytest.raises(ImportError, match="give audio at 16000 Hz"):
        as_audio(tone(), 16_000, source_rate=8000)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "PCM_U8"])
def test_path_is_array_is_tensor(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "x.wav", tone()[0], 16_000, subtype=subtype)
    array, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    wave = as_audio(tmp_path / "x.wav", 16_000).waveform
    assert torch.equal(as_audio(array, 16_000).waveform, wave)
    assert torch.equal(as_audio(torch.from_numpy(array)[None], 16_000).waveform, wave)
    assert torch.equal(as_audio(str(tmp_path / "x.wav"), 16_000).waveform, wave)
    if subtype == "PCM_16":
        integers, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
        assert torch.equal(as_audio(integers, 16_000).waveform, wave)
        assert torch.equal(as_audio(integers.astype(np.int32) * 65536, 16_000).waveform, wave)


def test_audio_batches() -> None:
    batch = as_audio([tone(100), tone(70)[0], Audio(torch.zeros(2, 1, 50), 16_000)], 16_000)
    assert batch.lengths.tolist() == [100, 70, 50, 50]
    assert batch.waveform[1, 0, 70:].abs().max() == 0
    assert [item.waveform.shape[-1] for item in batch] == [100, 70, 50, 50]
    assert batch[-3].waveform.shape == (1, 1, 70)
    with pytest.raises(IndexError):
        batch[4]
    with pytest.raises(InputError, match="one sample rate"):
        Audio.stack([Audio(torch.zeros(1, 1, 5), 8000), Audio(torch.zeros(1, 1, 5), 16_000)])


def test_devices_are_moved() -> None:
    assert Audio(torch.zeros(1, 1, 5), 8000).to("meta").waveform.is_meta


def write_mp3(path: Path) -> np.ndarray:
    """Silence, then noise, so that the bit rate changes."""
    noise = np.random.default_rng(0).normal(0, 0.3, 22_050).astype(np.float32)
    soundfile.write(path, np.concatenate([np.zeros_like(noise), noise]), 22_050)
    return soundfile.read(path, dtype="float32")[0]


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
    write_mp3(path)
    data = path.read_bytes()
    path.write_bytes(data[data.index(data[:2], 4) :])  # without the first frame, which holds the length
    expected, _ = soundfile.read(path, dtype="float32")
    assert soundfile.info(path).frames > len(expected)  # the length is guessed, and too long
    np.testing.assert_array_equal(Audio.load(path).waveform[0, 0], expected)


def test_reading_in_blocks_is_reading_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = write_mp3(tmp_path / "x.mp3")
    monkeypatch.setattr(audiofile, "BLOCK", 1000)
    np.testing.assert_allclose(Audio.load(tmp_path / "x.mp3").waveform[0, 0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [">i2", ">i4", ">f4", ">f8"])
def test_byte_order_of_audio_does_not_matter(dtype: str) -> None:
    native = (tone()[0] * (1 if "f" in dtype else 32767)).astype(np.dtype(dtype).newbyteorder("="))
    assert torch.equal(as_audio(native.astype(dtype), 16_000).waveform, as_audio(native, 16_000).waveform)


@pytest.mark.parametrize("rate", [0, -8000, 8000.5])
def test_rates_are_positive_whole_numbers(rate: int) -> None:
    with pytest.raises(InputError, match="positive whole number of Hz"):
        Audio(torch.zeros(1, 1, 10), 8000).resample(rate)
    with pytest.raises(InputError, match="positive whole number of Hz"):
        as_audio(tone(), 16_000, source_rate=rate)


def test_lengths_are_not_rounded() -> None:
    with pytest.raises(InputError, match="give integers"):
        Audio(torch.zeros(1, 1, 10), 8000, torch.tensor([3.7]))


def test_formats_that_cannot_hold_a_rate_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"96000 Hz.*resample"):
        Audio(torch.zeros(1, 1, 100), 96_000).save(tmp_path / "x.mp3")
    assert list(tmp_path.iterdir()) == []
