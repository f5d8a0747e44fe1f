"""Reading, writing and converting audio and images."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from PIL import Image

from tokenizers_zoo import Audio, Images, InputError
from tokenizers_zoo import media as module
from tokenizers_zoo.media import as_audio, as_images


def tone(samples: int = 8000, channels: int = 1, rate: int = 16_000) -> np.ndarray:
    t = np.arange(samples) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * (220 + 110 * c) * t) for c in range(channels)]).astype(np.float32)


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8)


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
    with pytest.raises(InputError, match="use one of"):
        Images(torch.zeros(1, 3, 4, 4)).save(tmp_path / "x.gif")
    with pytest.raises(InputError, match=r"images\[0\]"):
        Images(torch.zeros(2, 3, 4, 4)).save(tmp_path / "x.png")
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
    monkeypatch.setattr(module, "PIECE", 0.3)
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


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp"])
def test_image_formats_round_trip(tmp_path: Path, suffix: str) -> None:
    pixels = torch.from_numpy(photo()).permute(2, 0, 1)[None] / 255
    Images(pixels).save(tmp_path / f"x{suffix}")
    loaded = Images.load(tmp_path / f"x{suffix}").pixels
    assert loaded.shape == pixels.shape
    error = (loaded - pixels).abs().mean()
    assert error <= (1e-6 if suffix in (".png", ".bmp") else 0.05)


def test_image_path_is_array_is_tensor_is_pil(tmp_path: Path) -> None:
    array = photo()
    Image.fromarray(array).save(tmp_path / "x.png")
    images = [
        as_images(source, 32).pixels
        for source in (tmp_path / "x.png", array, torch.from_numpy(array).permute(2, 0, 1), Image.fromarray(array))
    ]
    assert all(torch.equal(image, images[0]) for image in images)
    assert torch.equal(as_images([array, tmp_path / "x.png"], 32).pixels, torch.cat([images[0]] * 2))
    assert torch.equal(as_images(array.astype(np.float64) / 255, 32).pixels.round(decimals=5), images[0].round(decimals=5))


def test_exif_orientation_turns_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.fromarray(photo()).save(tmp_path / "x.png", exif=exif)
    expected = torch.from_numpy(photo()).permute(2, 0, 1).rot90(-1, (1, 2)) / 255
    assert torch.equal(Images.load(tmp_path / "x.png").pixels[0], expected)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :, 3] = 255
    rgba[2:, :, 3] = 51
    Image.fromarray(rgba).save(tmp_path / "x.png")
    for source in (tmp_path / "x.png", rgba, torch.from_numpy(rgba).permute(2, 0, 1)):
        pixels = as_images(source, 4).pixels
        assert pixels[0, :, :2].abs().max() == 0
        torch.testing.assert_close(pixels[0, :, 2:], torch.full((3, 2, 4), 0.8))
    palette = Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P")
    palette.info["transparency"] = 0
    assert Images.from_pil(palette).pixels.min() == 1


def test_16_bit_greyscale_keeps_its_precision(tmp_path: Path) -> None:
    grey = (np.arange(16, dtype=np.uint16) * 4097 + 3).reshape(4, 4)
    Image.fromarray(grey).save(tmp_path / "x.png")
    for source in (tmp_path / "x.png", grey):
        pixels = as_images(source, 4).pixels
        torch.testing.assert_close(pixels[0, 1], torch.from_numpy(grey.astype(np.float32)) / 65535)
        assert torch.equal(pixels[0, 0], pixels[0, 2])


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LA", "I;16", "F"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(photo())
    image = image.convert("L").convert(mode) if mode in ("LA", "I;16") else image.convert(mode)
    if mode == "F":
        image = Image.fromarray(np.array(image) / np.float32(255))
    pixels = Images.from_pil(image).pixels
    assert pixels.shape == (1, 3, 40, 60)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_cmyk_jpeg_looks_like_its_source(tmp_path: Path) -> None:
    Image.fromarray(photo()).convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    pixels = Images.load(tmp_path / "x.jpg").pixels[0]
    assert (pixels - torch.from_numpy(photo()).permute(2, 0, 1) / 255).abs().mean() < 0.05


def test_animations_give_their_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), v, np.uint8)) for v in (0, 255)]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert Images.load(tmp_path / "x.webp").pixels.max() < 0.1


def test_resize_takes_the_shorter_side_and_the_centre() -> None:
    array = np.zeros((30, 90, 3), np.uint8)
    array[:, 30:60] = 255
    assert as_images(array, 30).pixels.min() == 1
    assert as_images(array, 15).pixels.mean() > 0.97
    assert as_images(photo(1, 7), 16).pixels.shape == (1, 3, 16, 16)
    square = torch.rand(1, 3, 16, 16)
    assert torch.equal(Images(square).resize_crop(16).pixels, square)


def test_image_batches() -> None:
    batch = as_images(torch.rand(3, 3, 8, 8), 8)
    assert len(batch) == 3
    assert torch.equal(batch[1].pixels[0], batch.pixels[1])
    assert [len(image) for image in batch] == [1, 1, 1]


def test_devices_are_moved() -> None:
    assert Audio(torch.zeros(1, 1, 5), 8000).to("meta").waveform.is_meta
    assert Images(torch.zeros(1, 3, 4, 4)).to("meta").pixels.is_meta


def test_bytes_of_png_are_not_guessed() -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, "PNG")
    with pytest.raises(InputError, match="give paths, numpy arrays"):
        as_images(buffer.getvalue(), 16)
