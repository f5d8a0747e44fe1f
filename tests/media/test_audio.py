"""Audio, and all that it is made from."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from recordings import RATE, SAMPLES, encoded, wav

from tokenizers_zoo import Audio, InputError
from tokenizers_zoo.media import as_audio, as_wave


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


@pytest.mark.parametrize("dtype", [">i2", ">i4", ">f4", ">f8"])
def test_byte_order_of_audio_does_not_matter(dtype: str) -> None:
    native = (tone()[0] * (1 if "f" in dtype else 32767)).astype(np.dtype(dtype).newbyteorder("="))
    assert torch.equal(as_audio(native.astype(dtype), 16_000).waveform, as_audio(native, 16_000).waveform)


def test_lengths_are_not_rounded() -> None:
    with pytest.raises(InputError, match="give integers"):
        Audio(torch.zeros(1, 1, 10), 8000, torch.tensor([3.7]))


def test_formats_that_cannot_hold_a_rate_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"96000 Hz.*resample"):
        Audio(torch.zeros(1, 1, 100), 96_000).save(tmp_path / "x.mp3")
    assert list(tmp_path.iterdir()) == []


def test_saving_clips_and_says_what_it_cannot_do(tmp_path: Path) -> None:
    Audio(torch.full((1, 1, 10), 2.0), 8000).save(tmp_path / "x.wav")
    assert Audio.load(tmp_path / "x.wav").waveform.max() <= 1
    with pytest.raises(InputError, match="use one of"):
        Audio(torch.zeros(1, 1, 10), 8000).save(tmp_path / "x.aiff")
    with pytest.raises(InputError, match=r"audio\[0\]"):
        Audio(torch.zeros(2, 1, 10), 8000).save(tmp_path / "y.wav")
    assert [p.name for p in tmp_path.iterdir()] == ["x.wav"]


def test_devices_are_moved() -> None:
    assert Audio(torch.zeros(1, 1, 5), 8000).to("meta").waveform.is_meta


WHOLE = np.linspace(-0.9, 0.9, 1000).astype(np.float32)
SCALED = {
    np.int8: (WHOLE * 127).astype(np.int8),
    np.uint8: (WHOLE * 127 + 128).astype(np.uint8),
    np.int16: (WHOLE * 32_767).astype(np.int16),
    np.int32: (WHOLE * 2.0**31).astype(np.int32),
    np.float16: WHOLE.astype(np.float16),
    np.float64: WHOLE.astype(np.float64),
}


@pytest.mark.parametrize("kind", SCALED)
def test_every_type_of_samples_means_the_same(kind: type) -> None:
    """At both entrances: whole clips, and the chunks of a stream."""
    array = SCALED[kind]
    step = 2 / 127 if array.dtype.itemsize == 1 else 1e-3
    for source in (array, array.astype(array.dtype.newbyteorder(">")), array[::-1][::-1], torch.from_numpy(array)):
        whole, chunk = as_audio(source, RATE).waveform, as_wave(source)
        assert torch.equal(whole, chunk)
        assert chunk.dtype == torch.float32
        np.testing.assert_allclose(chunk[0, 0], WHOLE, rtol=0, atol=step)


@pytest.mark.parametrize("kind", [np.int64, np.uint16, np.uint32, np.bool_, np.complex64])
def test_types_without_a_full_scale_are_refused(kind: type) -> None:
    for entrance in (lambda x: as_audio(x, RATE), as_wave):
        with pytest.raises(InputError, match="nothing tells its full scale; give float"):
            entrance(np.zeros(10, kind))


BAD: dict[str, tuple[Any, str]] = {
    "NaN": (np.array([0.0, np.nan], np.float32), "1 samples are NaN or infinite"),
    "infinity": (np.array([0.0, np.inf], np.float32), "NaN or infinite"),
    "unscaled": (np.array([0.0, 2000.0], np.float32), "divide by 32768"),
    "empty": (np.zeros(0, np.float32), "no audio in an array"),
    "turned": (np.zeros((100, 2), np.float32), "transpose"),
    "four ranks": (np.zeros((1, 1, 1, 9), np.float32), "must be"),
    "objects": (np.array([None, 1]), "not understood"),
}


@pytest.mark.parametrize("kind", BAD)
def test_both_entrances_refuse_the_same(kind: str) -> None:
    samples, message = BAD[kind]
    for entrance in (lambda x: as_audio(x, RATE), as_wave):
        with pytest.raises(InputError, match=message):
            entrance(samples)


def test_chunks() -> None:
    """(S,), (C, S), (B, C, S) -> (B, 1, S); channels are averaged; nothing only where it is expected."""
    stereo = np.stack([WHOLE, -WHOLE / 2])
    assert as_wave(WHOLE).shape == (1, 1, 1000)
    torch.testing.assert_close(as_wave(stereo)[0, 0], torch.from_numpy(WHOLE / 4))
    assert torch.equal(as_wave(stereo), as_audio(stereo, RATE).waveform)
    assert as_wave(torch.zeros(3, 1, 7)).shape == (3, 1, 7)
    for shape in ((0,), (1, 0), (2, 0), (3, 1, 0)):
        assert as_wave(np.zeros(shape, np.int16), empty=True).shape == (shape[0] if len(shape) == 3 else 1, 1, 0)
    with pytest.raises(InputError, match="numpy array or a tensor, got str"):
        as_wave("speech.wav")  # type: ignore[arg-type]


def test_two_rows_are_stereo_and_a_list_is_two_clips() -> None:
    two = np.stack([WHOLE, WHOLE / 2])
    assert as_audio(two, RATE).waveform.shape == (1, 1, 1000)
    assert as_audio(list(two), RATE).waveform.shape == as_audio(two[:, None], RATE).waveform.shape == (2, 1, 1000)


class Decoder:
    """Stands for torchcodec's."""

    def get_all_samples(self) -> SimpleNamespace:
        return SimpleNamespace(data=torch.from_numpy(SAMPLES)[None], sample_rate=8000)


PAIRS = {
    "as datasets decode": Decoder(),
    "as torchaudio.load": (torch.from_numpy(SAMPLES)[None], 8000),
    "as soundfile.read": (SAMPLES, np.int32(8000)),
    "as scipy.io.wavfile.read": (8000, (SAMPLES * 32_768).round().astype(np.int16)),
    "a list": (SAMPLES.tolist(), 8000),
    "rank 0": (SAMPLES, np.array(8000)),
    "a row": {"path": None, "array": SAMPLES, "sampling_rate": 8000},
    "a row of lists": {"array": SAMPLES.tolist(), "sampling_rate": np.int64(8000)},
    "a row of bytes": {"bytes": encoded("FLAC", rate=8000), "path": "x.flac"},
}


@pytest.mark.parametrize("kind", PAIRS)
def test_waveforms_bring_their_rate(kind: str) -> None:
    expected = as_audio(SAMPLES, RATE, 8000).waveform
    for source in (PAIRS[kind], [PAIRS[kind]]):
        torch.testing.assert_close(as_audio(source, RATE).waveform, expected, rtol=0, atol=3e-5)


def test_rows_of_paths(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(wav())
    row = {"bytes": None, "path": str(tmp_path / "x.wav")}
    assert torch.equal(as_audio(row, RATE).waveform, as_audio(tmp_path / "x.wav", RATE).waveform)
    batch = as_audio([row, (SAMPLES, 8000), io.BytesIO(wav()), wav()], RATE)
    assert batch.lengths.tolist() == [20_001, 40_002, 20_001, 20_001]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((SAMPLES, 16_000.5), "positive whole number of Hz, got 16000.5"),
        ((SAMPLES, True), "positive whole number of Hz, got True"),
        ((SAMPLES, 0), "positive whole number of Hz, got 0"),
        ((16_000, 8000), "list of numbers is ambiguous"),
        ({"array": SAMPLES}, "positive whole number of Hz, got None"),
        ({"audio": {}, "text": "a"}, r'"array" and "sampling_rate", or "bytes", or "path"; this one has audio, text'),
        ({"bytes": b"RIFF", "path": "row.wav"}, r"row\.wav as audio"),
        ([np.float32(0.5), np.float32(0.1)], "list of numbers is ambiguous"),
        ((n for n in range(3)), "cannot take audio from a generator; give paths"),
    ],
)
def test_sources_that_are_none(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_audio(source, RATE)


def test_audio_says_what_it_is() -> None:
    assert repr(Audio(torch.zeros(1, 2, 8000), RATE)) == "Audio(1 clip, 2 channels, 16000 Hz, 0.500 s)"
    batch = Audio(np.zeros((2, 1, 16_000), np.float32), RATE, [8000, 16_000])
    assert repr(batch) == "Audio(2 clips, 1 channel, 16000 Hz, 0.500 to 1.000 s)"
    with pytest.raises(InputError, match=r"got .*float32 \(20001,\); encode takes other arrays as they are"):
        Audio(SAMPLES, RATE)
    with pytest.raises(InputError, match="give integers"):
        Audio(torch.zeros(1, 1, 10), RATE, torch.tensor([True]))
