"""Training reads files as encode does: their true lengths, the same samples, the same refusals."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import DATA
from recordings import encoded, flac_of_unknown_length, mp3, uncounted

import tokenizers_zoo as tz
from tokenizers_zoo.media import as_audio
from tokenizers_zoo.trainers.audio_data import AudioData

RATE = 16_000
NOISE = np.random.default_rng(1).normal(0, 0.1, 32_000).astype(np.float32)
FILES = {
    "unknown.flac": flac_of_unknown_length(),
    "bitrate.mp3": uncounted(mp3(RATE)),
    "counted.mp3": mp3(RATE),
    "chained.ogg": encoded("OGG", "VORBIS", NOISE) + encoded("OGG", "VORBIS", NOISE),
    "vorbis.oga": encoded("OGG", "VORBIS", NOISE),
    "stereo.opus": encoded("OGG", "OPUS", np.stack([NOISE, -NOISE / 2], 1)),
    "plain.aiff": encoded("AIFF", None, NOISE),
}


def data_of(folder: Path, seconds: float = 0.25, **options: object) -> AudioData:
    return AudioData(str(folder), RATE, seconds=seconds, workers=0, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FILES)
def test_crops_are_parts_of_what_encode_hears(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    whole = as_audio(tmp_path / name, RATE).waveform[0]
    draws, count = (data := data_of(tmp_path)).draws()
    assert count == whole.shape[-1] // 4000
    (row,) = data.rows("train")
    for where in (0.0, 0.37, 0.9, 1.0):
        crop, start = data._crop(row, 0.25, where)
        first = round(start * RATE)
        assert first == round(where * (whole.shape[-1] - 4000))
        torch.testing.assert_close(crop, whole[:, first : first + 4000], rtol=0, atol=1e-6)
    assert draws[0]["media"].shape == (1, 4000)


@pytest.mark.parametrize("seconds", ["", "578000000000000"])
def test_an_impossible_length_is_measured(seconds: str, tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(flac_of_unknown_length())
    (tmp_path / "b.wav").write_bytes((DATA / "sense_and_sensibility_0870.wav").read_bytes())
    (tmp_path / "m.csv").write_text(f"path,seconds\na.flac,{seconds}\nb.wav,\n")
    clips = [as_audio(tmp_path / name, RATE).waveform.shape[-1] for name in ("a.flac", "b.wav")]
    draws, count = data_of(tmp_path / "m.csv").draws()
    assert count == int(sum(clips) / RATE / 0.25)
    rows = [draws.choose(torch.Generator().manual_seed(n), n).path.name for n in range(300)]  # type: ignore[attr-defined]
    assert rows.count("a.flac") / 300 == pytest.approx(clips[0] / sum(clips), abs=0.08)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3000.0])
def test_samples_that_no_sound_has_are_the_error_of_their_file(value: float, tmp_path: Path) -> None:
    bad = NOISE.copy()
    bad[::1000] = value
    soundfile.write(tmp_path / "bad.wav", bad, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "good.wav", NOISE, RATE)
    draws, _ = data_of(tmp_path).draws()
    with pytest.warns(UserWarning, match=r"skipped.*bad\.wav: .*(NaN|divide by 32768)"):
        samples = [draws[n]["media"] for n in range(8)]
    assert all(bool(sample.isfinite().all()) for sample in samples)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("broken"), OSError("gone")])
def test_a_file_that_fails_is_left_out(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bad.wav", "good.wav"):
        soundfile.write(tmp_path / name, NOISE[:5000] if name[0] == "b" else NOISE, RATE)
    original = soundfile.SoundFile.read

    def fail(file: soundfile.SoundFile, *args: object, **options: object) -> np.ndarray:
        if file.frames == 5000:
            raise error
        return original(file, *args, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", fail)
    draws, _ = data_of(tmp_path).draws()
    with pytest.warns(UserWarning, match=r"skipped.*bad\.wav"):
        assert all(float(draws[n]["media"].abs().max()) > 0 for n in range(20))


def test_files_cut_off_take_no_draws(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", NOISE, RATE)
    (tmp_path / "cut.ogg").write_bytes(encoded("OGG", "VORBIS", NOISE)[:-1])
    with pytest.warns(UserWarning, match=r"left out: .*cut\.ogg is cut off"):
        draws, count = data_of(tmp_path).draws()
    assert count == 8
    with warnings.catch_warnings(action="error"):
        assert all(draws[n]["media"].shape == (1, 4000) for n in range(8))
    (tmp_path / "good.wav").unlink()
    with pytest.warns(UserWarning, match="left out"), pytest.raises(tz.InputError, match="no file could be read"):
        data_of(tmp_path).draws()
