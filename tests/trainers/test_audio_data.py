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
from tokenizers_zoo.teachers.base import Teacher
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
    around = torch.cat([whole, whole], 1)
    for where in (0.0, 0.37, 0.9, 0.9999):
        crop, start = data._crop(row, where)
        first = round(start * RATE)
        assert first == pytest.approx(where * whole.shape[-1], abs=1)
        apart = (crop - around[:, first : first + 4000]).abs()
        seam = whole.shape[-1] - first  # resampled with what it is joined to
        assert float(torch.cat([apart[:, : max(0, seam - 40)], apart[:, seam + 40 :]], 1).max()) < 1e-6
    assert draws[0]["media"].shape == (1, 4000)


@pytest.mark.parametrize(("seconds", "rate"), [(0.5, 16_000), (0.25, 24_000), (0.3, 16_000), (1 / 3, 22_050)])
def test_crops_of_files_of_all_rates_are_of_one_size(seconds: float, rate: int, tmp_path: Path) -> None:
    """Half a sample at 11,025 Hz is most of one at 16,000; a batch takes crops of one size alone."""
    for theirs in (8000, 11_025, 16_000, 22_050, 44_100):
        soundfile.write(tmp_path / f"{theirs}.wav", np.resize(NOISE, 2 * theirs) + 0.2, theirs)
    data = AudioData(str(tmp_path), rate, seconds=seconds, batch_size=5, workers=0, valid_seconds=seconds)
    (valid,) = data.val_dataloader()
    assert valid["media"].shape == (5, 1, round(seconds * rate))
    for row in data.rows("train"):
        sample = data._read(row, torch.Generator().manual_seed(3))
        assert sample["media"].shape == (1, round(seconds * rate))
    assert float(valid["media"][:, :, -20:].square().mean(-1).min()) > 1e-3  # nor is any filled up with silence


def test_every_instant_is_heard_equally_often(tmp_path: Path) -> None:
    """Clips whose samples say where in which clip they are."""
    lengths = {"a": 0.3, "b": 2.0, "c": 3.0}
    heard = {name: torch.zeros(round(10 * seconds)) for name, seconds in lengths.items()}
    for index, (name, seconds) in enumerate(lengths.items(), 1):
        wave = (index * 10_000 + np.arange(round(8000 * seconds)) // 800).astype(np.int16)
        soundfile.write(tmp_path / f"{name}.wav", wave, 8000)
    draws, count = AudioData(str(tmp_path), 8000, seconds=0.5, workers=0).draws()
    assert count == 10
    assert draws.choose.__self__.ends.diff().tolist() == pytest.approx([2.0, 3.0])  # seconds over which starts are spread
    for n in range(1500):
        values, times = (draws[n]["media"][0] * 32768).round().long().unique(return_counts=True)
        for value, samples in zip(values.tolist(), times.tolist(), strict=True):
            if value:
                heard["abc"[value // 10_000 - 1]][value % 10_000] += samples / 800
    ends = torch.stack([heard[name][at] for name in "bc" for at in (0, -1)])
    inside = torch.cat([heard["b"][1:-1], heard["c"][1:-1]])
    assert float(inside.mean()) == pytest.approx(1500 * 0.5 / (0.5 + 2.0 + 3.0), rel=0.06)
    assert float(ends.mean() / inside.mean()) == pytest.approx(1, abs=0.12)
    assert float(heard["a"].mean() / inside.mean()) == pytest.approx(1, abs=0.2)
    assert float(inside.std() / inside.mean()) < 0.15


def test_only_clips_shorter_than_a_crop_bring_silence(tmp_path: Path) -> None:
    for name, seconds in {"a": 0.3, "b": 0.6, "c": 3.0}.items():
        soundfile.write(tmp_path / f"{name}.wav", np.full(round(8000 * seconds), 0.25), 8000)
    draws, _ = AudioData(str(tmp_path), 8000, seconds=0.5, workers=0).draws()
    silent = torch.tensor([float((draws[n]["media"] == 0).float().mean()) for n in range(200)])
    assert sorted(set(silent.tolist())) == pytest.approx([0.0, 0.4])
    assert float((silent > 0).float().mean()) == pytest.approx(0.5 / 4.1, abs=0.06)


def test_features_stand_where_their_crop_does(tmp_path: Path) -> None:
    class Loudness(Teacher):
        dim, identity = 1, "loudness"

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()), requires_grad=False)

        def forward(self, waveform: torch.Tensor, text: str) -> torch.Tensor:
            return self.scale * waveform.unfold(0, 320, 320).mean(-1, keepdim=True)

    soundfile.write(tmp_path / "a.wav", np.linspace(0.1, 0.9, 24_000), RATE, subtype="FLOAT")
    data = data_of(tmp_path, 0.5, teachers={"level": Loudness()}, cache=str(tmp_path / "cache"))
    data.prepare_data()
    data.setup("fit")  # nothing, without a trainer
    draws, _ = data.draws()
    starts = set()
    for n in range(20):
        sample = draws[n]
        levels = sample["media"].unfold(-1, 320, 320).mean(-1)[0]
        apart = (sample["level"][:, 0] - levels).abs() > 0.008  # half a frame
        assert int(apart.sum()) <= 1  # the frame in which the end meets the beginning
        starts.add("across" if levels[-1] < levels[0] else "inside")
    assert starts == {"across", "inside"}


def test_validation_hears_three_seconds_unless_told_otherwise(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, RATE)
    data = AudioData(str(tmp_path), RATE)
    assert data.read_fixed(data.rows("train")[0], torch.Generator())["media"].shape == (1, 3 * RATE)


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


@pytest.mark.parametrize("stated", [30.0, 0.5])
def test_a_wrong_length_changes_no_share(stated: float, tmp_path: Path) -> None:
    """Stated too long, a clip is drawn by what is there; stated too short, it still is heard up to its end."""
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.linspace(0.1, 0.9, 32_000), RATE)
    (tmp_path / "m.csv").write_text(f"path,seconds\na.wav,{stated}\nb.wav,2\n")
    draws, _ = data_of(tmp_path / "m.csv").draws()
    drawn = [draws.choose(torch.Generator().manual_seed(n), n).path.name for n in range(300)]  # type: ignore[attr-defined]
    assert drawn.count("a.wav") / 300 == pytest.approx(0.5 if stated > 2 else 0.7 / 2.9, abs=0.08)
    (tmp_path / "m.csv").write_text(f"path,seconds\na.wav,{stated}\n")
    assert max(float(data_of(tmp_path / "m.csv").draws()[0][n]["media"].max()) for n in range(60)) > 0.89


def test_lengths_of_another_unit_end_the_run(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, RATE)
    (tmp_path / "m.csv").write_text("path,seconds\na.wav,900000\n")
    with pytest.raises(tz.InputError, match=r"a\.wav has 2\.0; correct the column, or leave it out"):
        data_of(tmp_path / "m.csv").draws()[0][0]


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
