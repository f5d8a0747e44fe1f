"""Bad input: every kind gets a documented exception that names the fix.

Weights and configs that are bad are in test_zoo.py, `.tok` files in test_tokens.py, the command line in test_cli.py.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import media, small
from PIL import Image

import tokenizers_zoo as tz

RATE = 16_000
WAVE = np.sin(np.arange(8000, dtype=np.float32) / 20)
PIXELS = np.full((64, 64, 3), 128, np.uint8)


def with_value(value: float) -> np.ndarray:
    wave = WAVE.copy()
    wave[100] = value
    return wave


AUDIO: dict[str, tuple[Any, str]] = {
    "empty array": (np.zeros(0, np.float32), "at least one sample"),
    "empty batch": (np.zeros((0, 1, 10), np.float32), "at least one sample"),
    "0-d": (np.float32(0.5), "give paths"),
    "0-d array": (np.array(0.5, np.float32), "samples"),
    "0-d tensor": (torch.tensor(0.5), "samples"),
    "rank 4": (np.zeros((1, 1, 1, 10), np.float32), "batch, channels, samples"),
    "NaN": (with_value(np.nan), "1 samples are NaN"),
    "infinity": (with_value(np.inf), "repair or drop"),
    "minus infinity": (with_value(-np.inf), "repair or drop"),
    "int16 as float": (WAVE * 32767, "divide by 32768"),
    "three channels": (np.stack([WAVE] * 3), "transpose"),
    "samples before channels": (np.stack([WAVE] * 2, -1), "transpose"),
    "many channels in a batch": (np.zeros((1, 5, 100), np.float32), "transpose"),
    "bool": (WAVE > 0, "int16"),
    "complex": (WAVE.astype(np.complex64), "int16"),
    "int64": ((WAVE * 100).astype(np.int64), "int16"),
    "strings": (np.array(["a", "b"]), "give numbers"),
    "objects": (np.array([None, 1], dtype=object), "give numbers"),
    "None": (None, "give paths"),
    "a number": (3, "give paths"),
    "a dictionary": ({"wave": WAVE, "rate": RATE}, 'has "array" and "sampling_rate"'),
    "bytes": (b"RIFF", "4 bytes as audio.*export it again"),
    "a set": ({1}, "give paths"),
    "a generator": ((x for x in [WAVE]), "give paths"),
    "empty list": ([], "at least one item"),
    "list of numbers": ([0.1, 0.2], "numpy array"),
    "list with None": ([WAVE, None], "give paths"),
    "list with an empty clip": ([WAVE, WAVE[:0]], "at least one sample"),
    "list with NaN": ([WAVE, with_value(np.nan)], "repair or drop"),
    "an image": (Image.fromarray(PIXELS), "give paths"),
}

IMAGE: dict[str, tuple[Any, str]] = {
    "empty array": (np.zeros((0, 4, 3), np.uint8), "no image"),
    "0-d array": (np.array(3, np.uint8), r"\(H, W\)"),
    "rank 1": (np.zeros(12, np.uint8), r"\(H, W\)"),
    "rank 5": (np.zeros((1, 1, 4, 4, 3), np.uint8), r"\(H, W\)"),
    "channel-first numpy": (PIXELS.transpose(2, 0, 1), "channel-last"),
    "channel-last tensor": (torch.from_numpy(PIXELS), r"\(C, H, W\)"),
    "two channels": (np.zeros((4, 4, 2), np.uint8), "channel-last"),
    "five channels": (torch.zeros(5, 4, 4), "1, 3 or 4 channels"),
    "NaN": (np.full((4, 4, 3), np.nan, np.float32), "repair or drop"),
    "infinity": (np.full((4, 4, 3), np.inf, np.float32), "repair or drop"),
    "0..255 as float": (PIXELS.astype(np.float32), "divide 8-bit values by 255"),
    "-1..1 as float": (PIXELS.astype(np.float32) / 64 - 3, r"\(x \+ 1\) / 2"),
    "int64": (PIXELS.astype(np.int64), "uint8"),
    "bool": (PIXELS > 1, "uint8"),
    "complex": (PIXELS.astype(np.complex64), "uint8"),
    "None": (None, "give paths"),
    "a number": (0.5, "give paths"),
    "bytes of no image": (b"\x89PNG", "export it again"),
    "a dictionary": ({"image": PIXELS}, "needs 'bytes' or 'path'"),
    "empty list": ([], "at least one item"),
    "list of numbers": ([1, 2], "numpy array"),
    "list with a string of no file": ([PIXELS, "nowhere.png"], "no such file"),
    "audio": (tz.Audio(torch.zeros(1, 1, 10), RATE), "give paths"),
}


@pytest.mark.parametrize("kind", AUDIO)
def test_bad_audio(kind: str) -> None:
    source, fix = AUDIO[kind]
    with pytest.raises(tz.InputError, match=fix):
        small("dm-codec-tiny").encode(source)


@pytest.mark.parametrize("kind", IMAGE)
def test_bad_images(kind: str) -> None:
    source, fix = IMAGE[kind]
    with pytest.raises((tz.InputError, FileNotFoundError), match=fix):
        small("titok-tiny").encode(source)


def audio_file(path: Path, form: str, subtype: str | None = None) -> bytes:
    soundfile.write(path, WAVE, RATE, format=form, subtype=subtype)
    return path.read_bytes()


def nan_file(path: Path) -> None:
    soundfile.write(path, with_value(np.nan), RATE, format="WAV", subtype="FLOAT")


def half(form: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        data = audio_file(path, form)
        path.write_bytes(data[: len(data) // 2])

    return write


def half_image(form: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path, form)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return write


AUDIO_FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "text": ("x.wav", lambda p: p.write_text("not audio"), r"x\.wav.*export it again"),
    "zero bytes": ("x.wav", lambda p: p.write_bytes(b""), "export it again"),
    "header alone": ("x.wav", lambda p: p.write_bytes(audio_file(p, "WAV")[:44]), "again"),
    "no samples": ("x.wav", lambda p: soundfile.write(p, WAVE[:0], RATE), "holds no samples"),
    "NaN inside": ("x.wav", nan_file, r"x\.wav.*NaN"),
    "truncated WAV": ("x.wav", half("WAV"), "cut off"),
    "truncated FLAC": ("x.flac", half("FLAC"), "again"),
    "truncated OGG": ("x.ogg", half("OGG"), "again"),
    "an image": ("x.wav", lambda p: Image.fromarray(PIXELS).save(p, "PNG"), "export it again"),
    "a folder": ("x.wav", lambda p: p.mkdir(), "is a folder"),
}

IMAGE_FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "text": ("x.png", lambda p: p.write_text("not an image"), r"x\.png.*export it again"),
    "zero bytes": ("x.png", lambda p: p.write_bytes(b""), "export it again"),
    "truncated PNG": ("x.png", half_image("PNG"), "export it again"),
    "truncated JPEG": ("x.jpg", half_image("JPEG"), "export it again"),
    "truncated WebP": ("x.webp", half_image("WEBP"), "export it again"),
    "truncated BMP": ("x.bmp", half_image("BMP"), "export it again"),
    "audio": ("x.png", lambda p: audio_file(p, "WAV"), "export it again"),
    "a folder": ("x.png", lambda p: p.mkdir(), "is a folder"),
}


@pytest.mark.parametrize("kind", AUDIO_FILES)
def test_bad_audio_files(kind: str, tmp_path: Path) -> None:
    name, write, fix = AUDIO_FILES[kind]
    write(tmp_path / name)
    with pytest.raises(tz.InputError, match=fix):
        small("dm-codec-tiny").encode(tmp_path / name)


@pytest.mark.parametrize("kind", IMAGE_FILES)
def test_bad_image_files(kind: str, tmp_path: Path) -> None:
    name, write, fix = IMAGE_FILES[kind]
    write(tmp_path / name)
    with pytest.raises(tz.InputError, match=fix):
        small("titok-tiny").encode(tmp_path / name)


def test_missing_files() -> None:
    for name in ("dm-codec-tiny", "titok-tiny"):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.x: no such file"):
            small(name).encode("nowhere.x")


def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    for limit in (3000, 1000):  # Pillow warns above the limit and raises above twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(tz.InputError, match=r"x\.png"):
            small("titok-tiny").encode(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("wave", "rate", "lengths"),
    [
        (torch.zeros(1, 10), RATE, None),
        (torch.zeros(1, 1, 10, dtype=torch.int16), RATE, None),
        (torch.zeros(0, 1, 10), RATE, None),
        (torch.zeros(1, 0, 10), RATE, None),
        (torch.zeros(1, 1, 10), 0, None),
        (torch.zeros(1, 1, 10), 16_000.0, None),
        (torch.zeros(1, 1, 10), RATE, torch.tensor([0])),
        (torch.zeros(1, 1, 10), RATE, torch.tensor([11])),
        (torch.zeros(1, 1, 10), RATE, torch.tensor([5, 5])),
    ],
)
def test_bad_audio_objects(wave: torch.Tensor, rate: Any, lengths: torch.Tensor | None) -> None:
    with pytest.raises(tz.InputError):
        tz.Audio(wave, rate, lengths)


@pytest.mark.parametrize("pixels", [torch.zeros(3, 4, 4), torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 0, 4), PIXELS])
def test_bad_image_objects(pixels: Any) -> None:
    with pytest.raises(tz.InputError):
        tz.Images(pixels)


@pytest.mark.parametrize("name", ["dm-codec-tiny", "titok-tiny"])
def test_bad_tokens(name: str) -> None:
    tokenizer = small(name)
    tokens = tokenizer.encode(media(tokenizer))
    spec = tokens.spec
    for wrong in (None, tokens.codes, "x.tok"):
        with pytest.raises(tz.TokenError, match=r"Tokens\.load"):
            tokenizer.decode(wrong)
    with pytest.raises(tz.TokenError, match="nothing to decode"):
        tokenizer.decode(tz.Tokens(tokens.codes[..., :0], spec))
    with pytest.raises(tz.TokenError, match="nothing to decode"):
        tokenizer.decode(tz.Tokens(tokens.codes[:0], spec))
    sizes = tuple(n + 1 for n in spec.codebook_sizes)
    with pytest.raises(tz.TokenError, match="build it as it was"):
        tokenizer.decode(tz.Tokens(tokens.codes, replace(spec, codebook_sizes=sizes)))


def test_codebooks_out_of_order_and_wrong_counts() -> None:
    codec, images = small("dm-codec-tiny"), small("titok-tiny")
    tokens = codec.encode(media(codec))
    with pytest.raises(tz.TokenError, match="it needs its first ones"):
        codec.decode(tokens.codebooks("acoustic"))
    codes = images.encode(media(images))
    with pytest.raises(tz.TokenError, match=f"{images.spec.positions} positions"):
        images.decode(tz.Tokens(codes.codes[..., :63], codes.spec))
    with pytest.raises(tz.TokenError, match="titok-tiny"):
        codec.decode(codes)


def test_training_on_the_wrong_size_says_so() -> None:
    with pytest.raises(tz.InputError, match="64 x 64"):
        small("titok-tiny")(torch.rand(1, 3, 32, 32))
