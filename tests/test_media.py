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
from tokenizers_zoo.media import as_audio, as_images, audio, audiofile


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


def test_byte_order_of_images_does_not_matter() -> None:
    grey = (np.arange(16, dtype=np.uint16) * 4097).reshape(4, 4)
    assert torch.equal(as_images(grey.astype(">u2"), 4).pixels, as_images(grey, 4).pixels)


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


def test_pil_images_that_are_read_late(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        assert torch.equal(as_images(image, 64).pixels, as_images(noise, 64).pixels)
    with Image.open(io.BytesIO(data[:3000])) as image, pytest.raises(InputError, match="export it again"):
        as_images(image, 64)


def test_pil_images_of_plugins_are_images() -> None:
    class HeifImageFile(Image.Image):
        """Stands for a class that Pillow's plugins define elsewhere."""

    image = HeifImageFile()
    image.im, image._mode, image._size = Image.fromarray(photo()).im, "RGB", (60, 40)
    assert torch.equal(as_images(image, 16).pixels, as_images(photo(), 16).pixels)


def test_damaged_metadata_does_not_matter(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description that lies behind the directory"
    Image.fromarray(photo()).save(tmp_path / "x.jpg", exif=exif)
    expected = Images.load(tmp_path / "x.jpg").pixels
    data = bytearray((tmp_path / "x.jpg").read_bytes())
    data[data.index(b"\x01\x0e") + 6] = 0xFF  # the description reaches past the end
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.warns(UserWarning, match="Tag data|Corrupt EXIF"), Image.open(tmp_path / "x.jpg") as image:
        image.getexif()
    assert torch.equal(Images.load(tmp_path / "x.jpg").pixels, expected)


def test_bytes_of_png_are_not_guessed() -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, "PNG")
    with pytest.raises(InputError, match="give paths, numpy arrays"):
        as_images(buffer.getvalue(), 16)
